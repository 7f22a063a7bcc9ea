//! `ClusterLoad`: the loads of those nodes that can be reckoned with, under their names.

use std::sync::Arc;
use std::time::Duration;

use super::{Known, Load};
use crate::membership::{MemberState, Tag, View};
use crate::types::{NodeId, NodeName};

/// What a node knows of the loads of the cluster at one moment. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLoad {
    me: Tag,
    /// Ordered by tag.
    nodes: Arc<[NodeLoad]>,
}

/// The load of a node that is not known to be away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLoad {
    /// Which node.
    pub tag: Tag,
    /// The same.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// What it said last.
    pub load: Load,
    /// How long ago.
    pub age: Duration,
    /// It answers; else it did not lately.
    pub alive: bool,
}

// === impl ClusterLoad ===

impl ClusterLoad {
    /// What the node `me` knows: these loads.
    pub fn new(me: Tag, nodes: impl IntoIterator<Item = NodeLoad>) -> Self {
        let mut nodes: Vec<_> = nodes.into_iter().collect();
        nodes.sort_unstable_by_key(|node| node.tag);
        Self { me, nodes: nodes.into() }
    }

    /// The loads that a window holds of the members of a view.
    pub fn of(view: &View, known: impl IntoIterator<Item = Known>) -> Self {
        let mut known: Vec<_> = known.into_iter().collect();
        known.sort_unstable_by_key(|known| known.node);
        let of_member = |member: &crate::membership::Member| {
            let tag = Tag::of(member.id);
            let at = known.binary_search_by_key(&tag, |known| known.node).ok()?;
            let Known { load, age, .. } = *known.get(at)?;
            if member.state == MemberState::Dead {
                return None;
            }
            let alive = member.state == MemberState::Alive;
            Some(NodeLoad { tag, id: member.id, name: member.name.clone(), load, age, alive })
        };
        Self::new(Tag::of(view.me()), view.members().iter().filter_map(of_member))
    }

    /// Nothing is known.
    pub fn none(me: Tag) -> Self {
        Self::new(me, [])
    }

    /// This node.
    pub fn own(&self) -> Option<&NodeLoad> {
        self.node(self.me)
    }

    /// A node.
    pub fn node(&self, tag: Tag) -> Option<&NodeLoad> {
        let at = self.nodes.binary_search_by_key(&tag, |node| node.tag).ok()?;
        self.nodes.get(at)
    }

    /// All of them.
    pub fn nodes(&self) -> &[NodeLoad] {
        &self.nodes
    }

    /// Those that jobs may be sent to: they answer, and what is known of them is fresh. This node among them.
    pub fn fresh(&self) -> impl Iterator<Item = &NodeLoad> {
        let me = self.me;
        self.nodes
            .iter()
            .filter(move |node| node.tag == me || node.alive && node.age <= super::FRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::record;
    use super::*;
    use crate::membership::Member;

    fn member(n: u8, state: MemberState) -> Member {
        Member {
            id: NodeId::from_digest([n; 32]),
            name: format!("n{n}").parse().unwrap(),
            number: crate::types::NodeNumber::new(n.into()).unwrap(),
            addresses: vec![],
            state,
            since: 0,
            incarnation: 1,
            version: String::new(),
        }
    }

    #[test]
    fn who_is_away_or_not_heard_lately_is_sent_nothing() {
        use MemberState::{Alive, Dead, Suspect};
        let states = [Alive, Alive, Alive, Suspect, Dead];
        let members = states.into_iter().zip(1..).map(|(state, n)| member(n, state));
        let view = View::new(NodeId::from_digest([1; 32]), members);
        let known = [(1, 40), (2, 3), (3, 20), (4, 3), (5, 3), (6, 3)].map(|(n, age)| Known {
            node: Tag::from_bytes([n; 8]),
            load: record(n, 1).load,
            age: Duration::from_secs(age),
        });
        let cluster = ClusterLoad::of(&view, known);
        let names = |nodes: Vec<&NodeLoad>| {
            nodes.into_iter().map(|node| node.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(cluster.nodes().iter().collect()), ["n1", "n2", "n3", "n4"]);
        assert_eq!(names(cluster.fresh().collect()), ["n1", "n2"]);
        assert_eq!(cluster.own().unwrap().name.as_str(), "n1");
    }
}
