//! The greeting of a stream, and which protocol version two sides speak.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use mfs_proto::v1;

use super::error::{Malformed, Problem};
use super::field;
use crate::types::op::Entry;
use crate::types::{
    Epoch, ExportId, Incarnation, NodeId, NodeName, NodeNumber, SessionId, Verifier,
};

/// Longest `software` text, bytes.
const MAX_SOFTWARE: usize = 128;

/// A range of protocol versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

/// Two sides that have no version in common.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client ({client_software}) speaks protocol versions {client}, this node ({server_software}) \
     {server}: install versions of mfs that overlap"
)]
pub struct VersionMismatch {
    /// What the client speaks.
    pub client: Versions,
    /// What the client is.
    pub client_software: String,
    /// What the server speaks.
    pub server: Versions,
    /// What the server is.
    pub server_software: String,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Small requests and recalls.
    Control,
    /// File data.
    Bulk,
}

/// The client's greeting, the first message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The versions it speaks.
    pub versions: Versions,
    /// The features it would use, by bit.
    pub features: u64,
    /// Tells this client from the others of its node, and from itself before a restart.
    pub incarnation: Incarnation,
    /// The session to go on with.
    pub session: Option<SessionId>,
    /// The epoch of the last welcome; for messages.
    pub last_epoch: Option<Epoch>,
    /// What the stream is for.
    pub purpose: Purpose,
    /// The tree wanted; `None` is the node's default export.
    pub export: Option<ExportId>,
    /// Name and version of the client's software; printable, at most 128 bytes.
    pub software: String,
}

/// The server's answer to a greeting it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version spoken on this stream.
    pub version: u32,
    /// The features in use.
    pub features: u64,
    /// The session of this stream.
    pub session: SessionId,
    /// Whether it is the one that the greeting named.
    pub resumed: bool,
    /// Whether the client's root is root there, too.
    pub trusts_root: bool,
    /// The server's lifetime; another one than before means: reclaim.
    pub epoch: Epoch,
    /// As in every reply.
    pub verifier: Verifier,
    /// How long the session lives without a stream (whole milliseconds).
    pub lease_term: Duration,
    /// Most bytes of one read or write.
    pub max_io: u32,
    /// Number of slots.
    pub slots: u32,
    /// Most requests in flight on one stream.
    pub max_in_flight: u32,
    /// The root of the export.
    pub root: Entry,
    /// The serving node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its number.
    pub number: NodeNumber,
    /// Name and version of its software.
    pub software: String,
}

/// Features of the protocol, by bit, as greetings name them.
pub mod features {
    /// The client remembers what it is granted leases on, answers recalls, and renews.
    pub const LEASES: u64 = 1 << 0;
    /// A lease of attributes that goes with a listing may concern some of its entries only.
    pub const LISTING_PARTS: u64 = 1 << 1;
    /// The client is told when a file has become longer of which it keeps pages.
    pub const LENGTHS: u64 = 1 << 2;
    /// The server knows what became of once-only requests of sessions that ended with its last lifetime.
    pub const REPLIES: u64 = 1 << 3;
    /// The client opens files for reading without a message while it holds a lease on that.
    pub const HANDLES: u64 = 1 << 4;
    /// The client says when it has written back what was stored under leases of before its greeting.
    pub const SETTLES: u64 = 1 << 5;
    /// All that go with leases.
    pub const REMEMBERING: u64 = LEASES | LISTING_PARTS | LENGTHS | HANDLES | SETTLES;
}

// === impl Versions ===

impl Versions {
    /// What this build speaks.
    pub const OURS: Self = Self { min: 1, max: 1 };

    /// The highest version that both ranges have.
    pub fn common(self, other: Self) -> Option<u32> {
        let highest = self.max.min(other.max);
        (highest >= self.min.max(other.min)).then_some(highest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            return write!(f, "{}", self.min);
        }
        write!(f, "{} to {}", self.min, self.max)
    }
}

// === impl Purpose ===

impl From<Purpose> for v1::Purpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Control => Self::Control,
            Purpose::Bulk => Self::Bulk,
        }
    }
}

fn decode_purpose(field: &'static str, purpose: i32) -> Result<Purpose, Malformed> {
    match v1::Purpose::try_from(purpose) {
        Ok(v1::Purpose::Control) => Ok(Purpose::Control),
        Ok(v1::Purpose::Bulk) => Ok(Purpose::Bulk),
        Ok(v1::Purpose::Unspecified) => Err(Malformed::missing(field)),
        Err(_) => Err(Malformed::unknown(field)),
    }
}

// === impl Hello ===

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            min_version: hello.versions.min,
            max_version: hello.versions.max,
            features: hello.features,
            incarnation: hello.incarnation.get(),
            session: hello.session.map_or(0, SessionId::get),
            last_epoch: hello.last_epoch.map_or(0, Epoch::get),
            purpose: v1::Purpose::from(hello.purpose) as i32,
            export: hello.export.map_or(0, ExportId::get),
            software: hello.software,
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Malformed;

    fn try_from(hello: v1::Hello) -> Result<Self, Malformed> {
        let versions = Versions { min: hello.min_version, max: hello.max_version };
        if versions.min == 0 {
            return Err(Malformed::missing("hello.min_version"));
        }
        if versions.max < versions.min {
            return Err(Malformed::new("hello.max_version", Problem::Contradiction));
        }
        Ok(Self {
            versions,
            features: hello.features,
            incarnation: Incarnation::new(hello.incarnation)
                .ok_or(Malformed::missing("hello.incarnation"))?,
            session: SessionId::new(hello.session),
            last_epoch: Epoch::new(hello.last_epoch),
            purpose: decode_purpose("hello.purpose", hello.purpose)?,
            export: ExportId::new(hello.export),
            software: software("hello.software", &hello.software)?,
        })
    }
}

// === impl Welcome ===

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            version: welcome.version,
            features: welcome.features,
            session: welcome.session.get(),
            epoch: welcome.epoch.get(),
            verifier: welcome.verifier.0,
            lease_term_ms: u32::try_from(welcome.lease_term.as_millis()).unwrap_or(u32::MAX),
            max_io: welcome.max_io,
            slots: welcome.slots,
            max_in_flight: welcome.max_in_flight,
            root: Some(welcome.root.into()),
            node: Bytes::copy_from_slice(welcome.node.as_bytes()),
            name: welcome.name.into(),
            number: u32::from(welcome.number.get()),
            software: welcome.software,
            resumed: welcome.resumed,
            trusts_root: welcome.trusts_root,
        }
    }
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = Malformed;

    fn try_from(welcome: v1::Welcome) -> Result<Self, Malformed> {
        let positive = |field, number| match number {
            0 => Err(Malformed::missing(field)),
            number => Ok(number),
        };
        field::at_most("welcome.max_io", u64::from(welcome.max_io), u64::from(super::MAX_IO))?;
        field::at_most("welcome.number", u64::from(welcome.number), u64::from(u16::MAX))?;
        let digest = <[u8; 32]>::try_from(&welcome.node[..]).map_err(|_| {
            Malformed::new(
                "welcome.node",
                Problem::TooLong { length: welcome.node.len(), limit: 32 },
            )
        })?;
        let lease_term = positive("welcome.lease_term_ms", welcome.lease_term_ms)?;
        Ok(Self {
            version: positive("welcome.version", welcome.version)?,
            features: welcome.features,
            session: SessionId::new(welcome.session)
                .ok_or(Malformed::missing("welcome.session"))?,
            resumed: welcome.resumed,
            trusts_root: welcome.trusts_root,
            epoch: Epoch::new(welcome.epoch).ok_or(Malformed::missing("welcome.epoch"))?,
            verifier: Verifier(welcome.verifier),
            lease_term: Duration::from_millis(u64::from(lease_term)),
            max_io: positive("welcome.max_io", welcome.max_io)?,
            slots: positive("welcome.slots", welcome.slots)?,
            max_in_flight: positive("welcome.max_in_flight", welcome.max_in_flight)?,
            root: welcome.root.ok_or(Malformed::missing("welcome.root"))?.try_into()?,
            node: NodeId::from_digest(digest),
            name: NodeName::parse(&welcome.name).map_err(|_| Malformed::unknown("welcome.name"))?,
            number: u16::try_from(welcome.number)
                .ok()
                .and_then(NodeNumber::new)
                .ok_or(Malformed::missing("welcome.number"))?,
            software: software("welcome.software", &welcome.software)?,
        })
    }
}

/// A text that goes to logs: bounded, and without what could forge lines in them.
fn software(field: &'static str, text: &str) -> Result<String, Malformed> {
    field::length_at_most(field, text.len(), MAX_SOFTWARE)?;
    Ok(text.chars().filter(|c| !c.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        let versions = |min, max| Versions { min, max };
        for (client, server, common) in [
            (versions(1, 1), versions(1, 1), Some(1)),
            (versions(1, 3), versions(2, 5), Some(3)),
            (versions(2, 5), versions(1, 3), Some(3)),
            (versions(1, 1), versions(2, 2), None),
            (versions(3, 4), versions(1, 2), None),
        ] {
            assert_eq!(client.common(server), common, "{client} and {server}");
        }
    }
}
