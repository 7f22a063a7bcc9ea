//! `Member`: what the cluster knows of one of its nodes.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::types::{NodeId, NodeName, NodeNumber};

/// The detector's verdict on a member; only these four exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It did not answer lately; it may refute.
    Suspect,
    /// It is taken to be gone; operations on it fail at once with EHOSTDOWN.
    Dead,
    /// It said goodbye (`mfs leave`), or was removed.
    Left,
}

/// A node admitted to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Digest of its public key.
    pub id: NodeId,
    /// Its unique name: its directory in every mount.
    pub name: NodeName,
    /// Its unique number.
    pub number: NodeNumber,
    /// Where it listens, TCP and UDP; the best first. Empty if never heard.
    pub addresses: Vec<SocketAddr>,
    /// The detector's verdict.
    pub state: MemberState,
    /// When the verdict last changed, seconds since 1970.
    pub since: u64,
    /// Its incarnation as last heard; 0 if never heard.
    pub incarnation: u64,
    /// Version of its software as last heard, for people.
    pub version: String,
}
