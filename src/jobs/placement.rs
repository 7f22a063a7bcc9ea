//! Placement: on which node a job is begun, as a pure function of what is known of the nodes.

use std::collections::VecDeque;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::load::{ClusterLoad, FRESH, NodeFlags, NodeLoad, Speed};
use crate::membership::Tag;
use crate::types::NodeName;

/// What is known of a node that could run a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub tag: Tag,
    /// What people call it.
    pub node: NodeName,
    /// It is the job's home: nothing need be moved for it there.
    pub is_home: bool,
    /// It takes no jobs of other homes.
    pub is_blocked: bool,
    /// Processors that it may use, thousandths.
    pub processors: u32,
    /// How fast one of them is.
    pub speed: Speed,
    /// Processes that run or wait for a processor there, thousandths.
    pub running: u32,
    /// Bytes of memory that new processes can have.
    pub memory_free: u64,
    /// How long ago all this was so.
    pub age: Duration,
}

/// The jobs that were placed a moment ago, and so are not in the loads that nodes tell.
///
/// Without it, nine jobs that are started in one second would all go to the node that was the best when the
/// first came: openMosix called the cure gradual spread.
#[derive(Debug, Clone, Default)]
pub struct Placed {
    recent: VecDeque<(Tag, Duration)>,
}

/// A node with less memory than this is not chosen while another has more: it would begin to swap.
const ENOUGH_MEMORY: u64 = 64 << 20;

/// The home counts for an eighth more than it is: what has to go over the network elsewhere costs more than that, and
/// two measurements of the speed of equal machines differ by a few parts in a hundred.
const HOME_PREFERENCE: f64 = 1.125;

/// A node that is nearly as good as the best is as good.
const NEARLY: f64 = 0.9;

/// Of so many nodes, chosen by chance, the best is taken. In a large cluster the best of all that are known would be
/// the best for many homes at once, and what is known is some seconds old: it would be flooded (Mitzenmacher, How
/// Useful Is Old Information?, 2000). tests/sim `balance` shows the difference.
const LOOKED_AT: usize = 12;

/// After this time a job is in the load that its node measures, which is a mean that forgets half of the past
/// each second, to seven eighths.
const MEASURED_AFTER: Duration = Duration::from_secs(3);

/// For so long it is taken for granted that a job wants a processor, whatever is measured: it may not have begun
/// yet.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// A node on which one more process makes nearly the most headway: has most of a processor, of the fastest. The home
/// if it is one of them; else chance (`seed`) decides among them, so that homes that know the same do not all choose
/// the same node.
pub fn best(candidates: &[Candidate], seed: u64) -> Option<&Candidate> {
    let mut random = SmallRng::seed_from_u64(seed);
    let willing = || candidates.iter().filter(|c| c.processors > 0 && (c.is_home || !c.is_blocked));
    let roomy = willing().any(|candidate| candidate.memory_free >= ENOUGH_MEMORY);
    let suitable = willing().filter(|c| !roomy || c.memory_free >= ENOUGH_MEMORY);
    let (home, mut others): (Vec<_>, Vec<_>) = suitable.partition(|candidate| candidate.is_home);
    if others.len() > LOOKED_AT {
        others.shuffle(&mut random);
        others.truncate(LOOKED_AT);
    }
    let home = home.first().copied();
    let most = others.iter().map(|candidate| candidate.pace()).max_by(f64::total_cmp);
    let Some(most) = most else { return home };
    if let Some(home) = home.filter(|home| home.pace() * HOME_PREFERENCE >= most) {
        return Some(home);
    }
    others.retain(|candidate| candidate.pace() >= NEARLY * most);
    others.choose(&mut random).copied()
}

/// The nodes that are known and fresh enough.
pub fn candidates(cluster: &ClusterLoad) -> Vec<Candidate> {
    let me = cluster.own().map(|own| own.tag);
    let of_node = |node: &NodeLoad| Candidate {
        tag: node.tag,
        node: node.name.clone(),
        is_home: Some(node.tag) == me,
        is_blocked: node.load.flags.contains(NodeFlags::BLOCKED),
        processors: node.load.processors,
        speed: node.load.speed,
        running: node.load.running,
        memory_free: node.load.memory_free.bytes(),
        age: node.age,
    };
    cluster.fresh().map(of_node).collect()
}

// === impl Candidate ===

impl Candidate {
    /// How fast one more process would get on: units of speed.
    fn pace(&self) -> f64 {
        let wanted = self.running.saturating_add(1_000).max(self.processors);
        f64::from(self.speed.units()) * f64::from(self.processors) / f64::from(wanted)
    }
}

// === impl Placed ===

impl Placed {
    /// The best of these for a job that goes there now, with those counted that went there a moment ago. `seed`: as of
    /// [`best`].
    pub fn place(
        &mut self,
        mut candidates: Vec<Candidate>,
        now: Duration,
        seed: u64,
    ) -> Option<Candidate> {
        for candidate in &mut candidates {
            candidate.running = self.counted(candidate, now);
        }
        let best = best(&candidates, seed)?.clone();
        self.note(best.tag, now);
        Some(best)
    }

    /// A job goes to that node now.
    pub fn note(&mut self, node: Tag, now: Duration) {
        while self
            .recent
            .front()
            .is_some_and(|(_, at)| now.saturating_sub(*at) > BEGINS_WITHIN + FRESH)
        {
            self.recent.pop_front();
        }
        self.recent.push_back((node, now));
    }

    /// The processes that run on a node, with those that can be in no load that is known of it, thousandths.
    fn counted(&self, node: &Candidate, now: Duration) -> u32 {
        let measured_at = now.saturating_sub(node.age);
        let placed_after = |time: Duration| {
            let later = self.recent.iter().filter(|(tag, at)| *tag == node.tag && *at > time);
            u32::try_from(later.count()).unwrap_or(u32::MAX).saturating_mul(1_000)
        };
        let unmeasured = placed_after(measured_at.saturating_sub(MEASURED_AFTER));
        let fresh = placed_after(now.saturating_sub(BEGINS_WITHIN));
        node.running.saturating_add(unmeasured).max(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Load, Mebibytes, Pressure};
    use crate::types::NodeId;

    fn candidate(node: &str, processors: u32, running: u32) -> Candidate {
        let (node, is_home) = (node.parse().unwrap(), node == "home1");
        Candidate {
            tag: Tag::from_bytes([1; 8]),
            age: Duration::ZERO,
            node,
            is_home,
            is_blocked: false,
            processors,
            speed: Speed::YARDSTICK,
            running,
            memory_free: 1 << 30,
        }
    }

    fn chosen(candidates: &[Candidate]) -> &str {
        best(candidates, 1).expect("there is one").node.as_str()
    }

    #[test]
    fn a_node_with_a_free_processor_is_as_good_as_any_and_home_is_nearest() {
        let [home, other] = [candidate("home1", 2_000, 1_000), candidate("n2", 16_000, 0)];
        assert_eq!(chosen(&[other, home]), "home1");
    }

    #[test]
    fn homes_that_know_the_same_do_not_all_choose_the_same() {
        let nodes = ["n2", "n3", "n4"].map(|node| candidate(node, 2_000, 0));
        let nodes = [&nodes[..], &[candidate("n5", 2_000, 3_000)]].concat();
        let chosen = |node: &str| {
            (0..300).filter(|seed| best(&nodes, *seed).unwrap().node.as_str() == node).count()
        };
        for node in ["n2", "n3", "n4"] {
            assert!((60..140).contains(&chosen(node)), "{node}: {}", chosen(node));
        }
        assert_eq!(chosen("n5"), 0);
    }

    #[test]
    fn a_busy_home_sends_away_and_a_larger_node_takes_more() {
        assert_eq!(chosen(&[candidate("home1", 2_000, 2_000), candidate("n2", 1_000, 0)]), "n2");
        let busy = [candidate("n2", 4_000, 6_000), candidate("n3", 1_000, 1_000)];
        assert_eq!(chosen(&busy), "n2", "4 for 7 is more than 1 for 2");
    }

    #[test]
    fn a_faster_node_is_chosen_and_a_small_difference_is_none() {
        let faster = |node, units| {
            let speed = Speed::new(units).unwrap();
            Candidate { speed, ..candidate(node, 2_000, 0) }
        };
        assert_eq!(chosen(&[candidate("home1", 2_000, 0), faster("n2", 20_000)]), "n2");
        assert_eq!(chosen(&[candidate("home1", 2_000, 0), faster("n2", 10_200)]), "home1");
        // Half of a processor that is three times as fast.
        let busy = Candidate { running: 3_000, ..faster("n2", 30_000) };
        assert_eq!(chosen(&[candidate("home1", 2_000, 0), busy]), "n2");
    }

    #[test]
    fn a_blocked_node_gets_nobody_but_its_own() {
        let blocked = |node| Candidate { is_blocked: true, ..candidate(node, 8_000, 0) };
        assert_eq!(chosen(&[candidate("n3", 1_000, 9_000), blocked("n2")]), "n3");
        assert_eq!(chosen(&[candidate("n3", 1_000, 9_000), blocked("home1")]), "home1");
        assert!(best(&[blocked("n2")], 1).is_none());
    }

    #[test]
    fn nobody_is_made_to_swap_while_another_has_memory() {
        let mut full = candidate("home1", 8_000, 0);
        full.memory_free = 1 << 20;
        assert_eq!(chosen(&[full.clone(), candidate("n2", 1_000, 3_000)]), "n2");
        assert_eq!(chosen(&[full]), "home1");
        assert!(best(&[candidate("n2", 0, 0)], 1).is_none());
    }

    fn node(n: u8, age: u64) -> NodeLoad {
        let load = Load {
            processors: 2_000,
            speed: Speed::YARDSTICK,
            running: 0,
            memory_total: Mebibytes(8_192),
            memory_free: Mebibytes(8_192),
            swap_total: Mebibytes(0),
            swap_free: Mebibytes(0),
            pressure: Pressure::default(),
            jobs: 0,
            guests: 0,
            flags: NodeFlags::empty(),
        };
        let id = NodeId::from_digest([n; 32]);
        let (name, age) = (format!("n{n}").parse().unwrap(), Duration::from_secs(age));
        NodeLoad { tag: Tag::of(id), id, name, load, age, alive: true }
    }

    #[test]
    fn what_was_placed_just_now_counts_until_it_is_measured() {
        let [one, two, three] = [node(1, 0), node(2, 2), node(3, 2)];
        let cluster = ClusterLoad::new(one.tag, [one.clone(), two, three]);
        let (mut placed, now) = (Placed::default(), Duration::from_secs(100));
        let mut counts = [0; 3];
        for _ in 0..9 {
            let chosen = placed.place(candidates(&cluster), now, 5).expect("there is one");
            let place = cluster.nodes().iter().position(|node| node.tag == chosen.tag);
            counts[place.expect("one of them")] += 1;
        }
        assert_eq!(counts, [3, 3, 3]);
        let running = |node: &NodeLoad, later| {
            let candidates = candidates(&ClusterLoad::new(node.tag, [node.clone()]));
            placed.counted(&candidates[0], now + Duration::from_secs(later))
        };
        let busy = |node: NodeLoad| NodeLoad { load: Load { running: 3_500, ..node.load }, ..node };
        assert_eq!(running(&one, 0), 3_000);
        assert_eq!(running(&busy(one.clone()), 2), 6_500, "they are not measured yet");
        assert_eq!(running(&busy(one.clone()), 3), 3_500, "they are");
        assert_eq!(running(&busy(node(2, 2)), 4), 6_500, "what is known of it is older");
        assert_eq!(running(&one, 3), 3_000, "they may not have begun yet");
        assert_eq!(running(&one, 10), 0);
        let later = now + BEGINS_WITHIN + FRESH + Duration::from_secs(1);
        placed.note(one.tag, later);
        assert_eq!(placed.recent.len(), 1);
    }
}
