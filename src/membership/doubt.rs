//! Doubts: whether a node that a connection finds silent can be reached from here at all.
//!
//! The failure detector takes seconds, since it speaks for everybody. A connection in use knows sooner
//! that something is wrong, but not what: the network, the host, its daemon, or one slow request. So the
//! node is asked directly: an answer ends the doubt, and silence is a verdict that holds on this node
//! alone, until the other is heard again.

use std::collections::HashMap;
use std::time::Duration;

use super::Tag;

/// What a connection says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Contact {
    /// It answered.
    Answered,
    /// A request has waited for half a second, and not a byte came.
    Silent,
    /// Its host answers, its daemon does not (connection refused or reset): it restarts, or was stopped.
    Refused,
}

/// How often a doubted node is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// From when on a doubt is shown.
const SHOW_AFTER: Duration = Duration::from_millis(400);

/// Without an answer for so long, the node is out of reach. With the half second of the connection and
/// what the messages take, less than 2 s pass from the failure to the verdict; five questions and answers
/// must get lost for it to be wrong.
const UNREACHABLE_AFTER: Duration = Duration::from_millis(1_000);

/// How often a node out of reach is asked, at first and later.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(1);
const ASK_LATER_EVERY: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(60);

/// How long a node is waited for whose host answers while gossip takes it for dead: its daemon restarts, or
/// is back and the news of it is still under way. One that takes longer is down, whatever its host says.
const RETURNS_WITHIN: Duration = Duration::from_secs(15);

/// The nodes in doubt, and the opposite: those that a connection knows better of than gossip.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    open: HashMap<Tag, Doubt>,
    /// Nodes whose hosts have answered since the nodes were last heard: when first.
    answering: HashMap<Tag, Duration>,
}

#[derive(Debug)]
struct Doubt {
    since: Duration,
    reach: Reach,
}

/// Whether a node can be reached from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nobody doubts it.
    Open,
    /// It was asked, and may still answer.
    Doubted,
    /// It did not answer.
    Lost,
}

/// What to do about a doubt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asking {
    /// When to come back.
    pub(super) next: Duration,
    /// Whether the verdict changed just now.
    pub(super) changed: Option<Reach>,
}

// === impl Doubts ===

impl Doubts {
    /// A connection finds this node silent. Whether that is new, so that it must be asked now.
    pub(super) fn raise(&mut self, node: Tag, now: Duration) -> bool {
        let known = self.open.contains_key(&node);
        self.open.entry(node).or_insert(Doubt { since: now, reach: Reach::Open });
        !known
    }

    /// The node itself was heard. Whether that changes what is shown of it.
    pub(super) fn heard(&mut self, node: Tag) -> bool {
        let waited_for = self.answering.remove(&node).is_some();
        self.settle(node) || waited_for
    }

    /// A connection was refused by the node's host.
    pub(super) fn refused(&mut self, node: Tag, now: Duration) {
        self.answering.entry(node).or_insert(now);
    }

    /// A connection was answered by the node, which gossip takes for dead.
    pub(super) fn contradicted(&mut self, node: Tag, now: Duration) {
        self.answering.insert(node, now);
    }

    /// Whether the node may come back, although gossip takes it for dead.
    pub(super) fn may_return(&self, node: Tag, now: Duration) -> bool {
        self.answering.get(&node).is_some_and(|since| now < *since + RETURNS_WITHIN)
    }

    /// A connection says that the node, or its host, is there. Whether that changes what is shown of it.
    pub(super) fn settle(&mut self, node: Tag) -> bool {
        self.open.remove(&node).is_some_and(|doubt| doubt.reach != Reach::Open)
    }

    /// Whether the node can be reached.
    pub(super) fn reach(&self, node: Tag) -> Reach {
        self.open.get(&node).map_or(Reach::Open, |doubt| doubt.reach)
    }

    /// An alarm for this node went off: ask it (again), unless the doubt is settled.
    pub(super) fn ask(&mut self, node: Tag, now: Duration) -> Option<Asking> {
        let doubt = self.open.get_mut(&node)?;
        let age = now.saturating_sub(doubt.since);
        let (reach, wait) = match age {
            age if age < SHOW_AFTER => (Reach::Open, ASK_EVERY),
            age if age < UNREACHABLE_AFTER => (Reach::Doubted, ASK_EVERY),
            age if age < LATER => (Reach::Lost, ASK_AGAIN_EVERY),
            _ => (Reach::Lost, ASK_LATER_EVERY),
        };
        let changed = (doubt.reach != reach).then_some(reach);
        doubt.reach = reach;
        Some(Asking { next: now + wait, changed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Tag = Tag::from_bytes([1; 8]);

    /// Asks as alarms would until `end`; returns the times of change.
    fn silence(doubts: &mut Doubts, end: Duration) -> Vec<(Duration, Reach)> {
        let (mut now, mut changes) = (Duration::ZERO, vec![]);
        while now <= end {
            let Some(asking) = doubts.ask(NODE, now) else { break };
            changes.extend(asking.changed.map(|reach| (now, reach)));
            now = asking.next;
        }
        changes
    }

    #[test]
    fn silence_is_a_verdict_after_a_second() {
        let mut doubts = Doubts::default();
        assert!(doubts.raise(NODE, Duration::ZERO) && !doubts.raise(NODE, Duration::ZERO));
        let changes = silence(&mut doubts, Duration::from_secs(100));
        let ms = Duration::from_millis;
        assert_eq!(changes, [(ms(400), Reach::Doubted), (ms(1_000), Reach::Lost)]);
        assert_eq!(doubts.reach(NODE), Reach::Lost);
    }

    #[test]
    fn a_host_that_answers_is_waited_for_once() {
        let (mut doubts, limit) = (Doubts::default(), RETURNS_WITHIN);
        doubts.refused(NODE, Duration::ZERO);
        doubts.refused(NODE, limit / 2);
        assert!(doubts.may_return(NODE, limit - Duration::from_millis(1)));
        assert!(!doubts.may_return(NODE, limit), "refusals do not add up");
        doubts.contradicted(NODE, limit);
        assert!(doubts.may_return(NODE, limit), "an answer of the node itself counts");
        assert!(doubts.heard(NODE) && !doubts.may_return(NODE, limit) && !doubts.heard(NODE));
    }

    #[test]
    fn an_answer_settles_it_at_any_time() {
        for (until, shown) in [(0, false), (500, true), (5_000, true)] {
            let mut doubts = Doubts::default();
            doubts.raise(NODE, Duration::ZERO);
            silence(&mut doubts, Duration::from_millis(until));
            assert_eq!(doubts.settle(NODE), shown, "after {until} ms");
            assert_eq!(doubts.reach(NODE), Reach::Open);
            assert_eq!(doubts.ask(NODE, Duration::from_secs(9)), None);
        }
    }
}
