//! `Roster`: who may be a member at all, whatever gossip says.
//!
//! Not here: how a node is admitted, and where the list is kept.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use super::Tag;
use crate::types::{NodeId, NodeName, NodeNumber};

/// A node that was admitted to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Digest of its public key.
    pub id: NodeId,
    /// Its unique name.
    pub name: NodeName,
    /// Its unique number.
    pub number: NodeNumber,
    /// Where it listened when last known, the best first; may be empty.
    pub addresses: Vec<SocketAddr>,
}

/// The member list: the nodes that were admitted, less those that were denied since. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Roster {
    /// Ordered by tag; no two with the same.
    admitted: Arc<[Admitted]>,
    /// Ordered.
    denied: Arc<[NodeId]>,
    digest: RosterDigest,
}

/// Equal on two nodes whose lists say the same. Addresses are not part of it: gossip keeps those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RosterDigest(u64);

// === impl Roster ===

impl Roster {
    /// The list of these nodes. A denial is final: it wins over an admission of the same id.
    pub fn new(
        admitted: impl IntoIterator<Item = Admitted>,
        denied: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let mut denied: Vec<NodeId> = denied.into_iter().collect();
        denied.sort_unstable();
        denied.dedup();
        let mut admitted: Vec<Admitted> =
            admitted.into_iter().filter(|node| denied.binary_search(&node.id).is_err()).collect();
        admitted.sort_by_key(|node| node.id);
        admitted.dedup_by_key(|node| Tag::of(node.id));
        let digest = RosterDigest::of(&admitted, &denied);
        Self { admitted: admitted.into(), denied: denied.into(), digest }
    }

    /// The admitted nodes, ordered by id.
    pub fn admitted(&self) -> &[Admitted] {
        &self.admitted
    }

    /// What the list says, as one number.
    pub const fn digest(&self) -> RosterDigest {
        self.digest
    }

    /// The place of the node with this tag in [`Self::admitted`].
    pub(super) fn position(&self, tag: Tag) -> Option<usize> {
        self.admitted.binary_search_by_key(&tag, |node| Tag::of(node.id)).ok()
    }

    /// The admitted node with this tag.
    pub(super) fn find(&self, tag: Tag) -> Option<&Admitted> {
        self.admitted.get(self.position(tag)?)
    }

    /// Whether the node with this tag was removed.
    pub(super) fn denies(&self, tag: Tag) -> bool {
        self.denied.binary_search_by_key(&tag, |id| Tag::of(*id)).is_ok()
    }

    /// The tags of those that were removed.
    pub(super) fn denied_tags(&self) -> impl Iterator<Item = Tag> {
        self.denied.iter().map(|id| Tag::of(*id))
    }
}

// === impl RosterDigest ===

impl RosterDigest {
    fn of(admitted: &[Admitted], denied: &[NodeId]) -> Self {
        let mut context = Context::new(&SHA256);
        for node in admitted {
            context.update(node.id.as_bytes());
            context.update(&node.number.get().to_be_bytes());
            // A name has at most 63 bytes and none of them is 0, so this ends it unambiguously.
            context.update(node.name.as_str().as_bytes());
            context.update(&[0]);
        }
        context.update(&[1]);
        for id in denied {
            context.update(id.as_bytes());
        }
        let mut digest = [0; 8];
        digest.copy_from_slice(&context.finish().as_ref()[..8]);
        Self(u64::from_be_bytes(digest))
    }

    /// The digest with this number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> Admitted {
        Admitted {
            id: NodeId::from_digest([n; 32]),
            name: NodeName::parse(&format!("n{n}")).unwrap(),
            number: NodeNumber::new(n.into()).unwrap(),
            addresses: vec![],
        }
    }

    #[test]
    fn a_denial_wins_over_an_admission() {
        let roster = Roster::new([node(2), node(1)], [node(2).id]);
        assert_eq!(roster.admitted(), [node(1)]);
        assert!(roster.denies(Tag::of(node(2).id)) && !roster.denies(Tag::of(node(1).id)));
        assert!(roster.find(Tag::of(node(2).id)).is_none());
    }

    #[test]
    fn the_digest_is_that_of_what_the_list_says() {
        let list = Roster::new([node(1), node(2)], []);
        let moved = Admitted { addresses: vec!["10.0.0.1:1".parse().unwrap()], ..node(1) };
        assert_eq!(list.digest(), Roster::new([node(2), moved], []).digest());
        let renamed = Admitted { name: NodeName::parse("other").unwrap(), ..node(1) };
        for other in [
            Roster::new([node(1)], []),
            Roster::new([node(1), node(2)], [node(3).id]),
            Roster::new([renamed, node(2)], []),
        ] {
            assert_ne!(list.digest(), other.digest());
        }
    }
}
