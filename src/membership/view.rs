//! `View`: an immutable snapshot of the members. One task makes them, all others hold a `watch`.

use std::sync::Arc;

use super::{Member, MemberState};
use crate::types::{NodeId, NodeName, NodeNumber};

/// The cluster as this node sees it at one moment, ordered by name. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    me: NodeId,
    members: Arc<[Member]>,
}

// === impl View ===

impl View {
    /// The view of the node `me` with these members; those that left are not in it.
    pub fn new(me: NodeId, members: impl IntoIterator<Item = Member>) -> Self {
        let mut members: Vec<_> =
            members.into_iter().filter(|m| m.state != MemberState::Left).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Self { me, members: members.into() }
    }

    /// The node whose view it is.
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// All members, ordered by name.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The same, to keep: nothing is copied.
    pub fn into_members(self) -> Arc<[Member]> {
        self.members
    }

    /// The member with this id.
    pub fn by_id(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.id == id)
    }

    /// The member with this name.
    pub fn by_name(&self, name: &NodeName) -> Option<&Member> {
        let at = self.members.binary_search_by(|m| m.name.cmp(name)).ok()?;
        self.members.get(at)
    }

    /// The member with this number.
    pub fn by_number(&self, number: NodeNumber) -> Option<&Member> {
        self.members.iter().find(|m| m.number == number)
    }
}
