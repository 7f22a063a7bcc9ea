//! Nodes: the identity, the name and the number of a machine of the cluster.

use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A node's identity: the SHA-256 of its public key (SubjectPublicKeyInfo). A node that is re-keyed is
/// another node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

/// A node's name, unique in its cluster, and a directory of every mount: 1 to 63 of `a-z 0-9 - _ .`,
/// beginning with a letter; not one of the names that mean something else there. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// A node's number, 1 to 65535, unique in its cluster: by default the low 16 bits of its IPv4 address,
/// as openMosix assigned them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeNumber(NonZeroU16);

/// Why a text is not a node name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// Empty or longer than 63 bytes.
    #[error("a node name has 1 to 63 characters, this one has {0}")]
    Length(usize),
    /// Something else than `a-z 0-9 - _ .`, or not a letter in front.
    #[error("{0:?} cannot be a node name: use a-z, 0-9, '-', '_' and '.', beginning with a letter")]
    Characters(String),
    /// The mount uses it for an entry of its own.
    #[error("{0:?} cannot be a node name: it means something else in /mfs (reserved: {reserved})", reserved = NodeName::RESERVED.join(", "))]
    Reserved(String),
}

/// A text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node id has 64 hexadecimal digits")]
pub struct NodeIdError;

// === impl NodeId ===

impl NodeId {
    /// The id with this digest.
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 digits, enough for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(NodeIdError);
        }
        let mut digest = [0; 32];
        for (place, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| NodeIdError)?;
            if !pair.iter().all(u8::is_ascii_hexdigit) {
                return Err(NodeIdError);
            }
            *place = u8::from_str_radix(digits, 16).map_err(|_| NodeIdError)?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl NodeName ===

impl NodeName {
    /// Longest name, bytes (a DNS label).
    pub const MAX_LEN: usize = 63;

    /// Names that the top of a mount gives a meaning of its own.
    pub const RESERVED: [&'static str; 5] = ["here", "home", "lastexec", "magic", "selected"];

    /// Checks and takes a name.
    pub fn parse(text: &str) -> Result<Self, NodeNameError> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(NodeNameError::Length(text.chars().count()));
        }
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.chars().all(allowed) {
            return Err(NodeNameError::Characters(text.to_owned()));
        }
        if Self::RESERVED.contains(&text) {
            return Err(NodeNameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, NodeNameError> {
        Self::parse(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.as_str().to_owned()
    }
}

// === impl NodeNumber ===

impl NodeNumber {
    /// The number; `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The low 16 bits of an address, as omdiscd assigned them: 192.168.1.53 is 309. `None` for
    /// addresses that end in .0.0.
    pub const fn of_address(address: Ipv4Addr) -> Option<Self> {
        let [_, _, high, low] = address.octets();
        Self::new(u16::from_be_bytes([high, low]))
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_survive_text() {
        let id = NodeId::from_digest([0xa5; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "a5", &"g".repeat(64), &"+a".repeat(32), &"ä".repeat(32)] {
            assert_eq!(wrong.parse::<NodeId>(), Err(NodeIdError), "{wrong:?}");
        }
    }

    #[test]
    fn names_that_would_mislead_are_refused() {
        for good in ["n1", "alpha", "web-01.rack_2", &"a".repeat(63)] {
            assert!(NodeName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "1", "309", "-a", ".a", "A", "a/b", "a b", "ä", "here", "magic", &long] {
            assert!(NodeName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_those_of_omdiscd() {
        let number =
            |a, b, c, d| NodeNumber::of_address(Ipv4Addr::new(a, b, c, d)).map(NodeNumber::get);
        assert_eq!(number(192, 168, 1, 53), Some(309));
        assert_eq!(number(192, 168, 10, 220), Some(2780));
        assert_eq!(number(10, 0, 0, 98), Some(98));
        assert_eq!(number(10, 1, 0, 0), None);
    }
}
