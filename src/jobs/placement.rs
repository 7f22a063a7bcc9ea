//! Placement: on which node a job is begun, as a pure function of what is known of the nodes.

use crate::types::NodeName;

/// What is known of a node that could run a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeName,
    /// It is the job's home: nothing need be moved for it there.
    pub is_home: bool,
    /// Processors that it may use, thousandths.
    pub processors: u32,
    /// Processes that run or wait for a processor there, thousandths.
    pub running: u32,
    /// Bytes of memory that new processes can have.
    pub memory_free: u64,
}

/// A node with less memory than this is not chosen while another has more: it would begin to swap.
const ENOUGH_MEMORY: u64 = 64 << 20;

/// The node on which one more process has most of a processor. Where several have as much, the home, and else
/// the first by name, so that the choice can be repeated.
pub fn best(candidates: &[Candidate]) -> Option<&Candidate> {
    let roomy = candidates.iter().any(|candidate| candidate.memory_free >= ENOUGH_MEMORY);
    let suitable = candidates
        .iter()
        .filter(|candidate| candidate.processors > 0)
        .filter(|candidate| !roomy || candidate.memory_free >= ENOUGH_MEMORY);
    suitable.min_by(|a, b| {
        // a's share of a processor, processors / (running + 1), is larger: compared by products.
        let wanted = |candidate: &Candidate| u64::from(candidate.running) + 1_000;
        let of_a = wanted(a).max(u64::from(a.processors)) * u64::from(b.processors);
        let of_b = wanted(b).max(u64::from(b.processors)) * u64::from(a.processors);
        of_a.cmp(&of_b).then(b.is_home.cmp(&a.is_home)).then(a.node.as_str().cmp(b.node.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(node: &str, processors: u32, running: u32) -> Candidate {
        let (node, is_home) = (node.parse().unwrap(), node == "home1");
        Candidate { node, is_home, processors, running, memory_free: 1 << 30 }
    }

    fn chosen(candidates: &[Candidate]) -> &str {
        best(candidates).expect("there is one").node.as_str()
    }

    #[test]
    fn a_node_with_a_free_processor_is_as_good_as_any_and_home_is_nearest() {
        let [home, other] = [candidate("home1", 2_000, 1_000), candidate("n2", 16_000, 0)];
        assert_eq!(chosen(&[other, home]), "home1");
        assert_eq!(chosen(&[candidate("n3", 2_000, 0), candidate("n2", 2_000, 0)]), "n2");
    }

    #[test]
    fn a_busy_home_sends_away_and_a_faster_node_takes_more() {
        assert_eq!(chosen(&[candidate("home1", 2_000, 2_000), candidate("n2", 1_000, 0)]), "n2");
        let busy = [candidate("n2", 4_000, 6_000), candidate("n3", 1_000, 1_000)];
        assert_eq!(chosen(&busy), "n2", "4 for 7 is more than 1 for 2");
    }

    #[test]
    fn nobody_is_made_to_swap_while_another_has_memory() {
        let mut full = candidate("home1", 8_000, 0);
        full.memory_free = 1 << 20;
        assert_eq!(chosen(&[full.clone(), candidate("n2", 1_000, 3_000)]), "n2");
        assert_eq!(chosen(&[full]), "home1");
        assert!(best(&[candidate("n2", 0, 0)]).is_none());
    }
}
