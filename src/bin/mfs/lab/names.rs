//! Names of labs and of their nodes, and the addresses that follow from them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A lab's name: 1 to 32 of `a-z 0-9 -`, beginning with a letter or a digit. Names a directory, a control
/// group and part of a command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct LabName(String);

/// A node of a lab: n1, n2, ... Its host name and its name in the cluster are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LabNode(u16);

/// Why a text is not a lab's name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} cannot be the name of a lab: use 1 to 32 of a-z, 0-9 and '-', not '-' in front")]
pub(super) struct LabNameError(String);

/// Why a text is not a node of a lab.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a node of a lab: they are called n1, n2, and so on")]
pub(super) struct LabNodeError(String);

/// The most nodes of a lab. A bridge has 1023 ports; long before that the machine's memory ends.
pub(super) const MOST_NODES: u16 = 250;

// === impl LabName ===

impl LabName {
    const MAX_LEN: usize = 32;

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabName {
    type Err = LabNameError;

    fn from_str(text: &str) -> Result<Self, LabNameError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        if fits && text.chars().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(LabNameError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for LabName {
    type Error = LabNameError;

    fn try_from(text: String) -> Result<Self, LabNameError> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// === impl LabNode ===

impl LabNode {
    /// The first node, on which the cluster is founded.
    pub(super) const FIRST: Self = Self(1);

    /// The nodes of a lab that has `count` of them.
    pub(super) fn all(count: u16) -> impl Iterator<Item = Self> + Clone {
        (1..=count).map(Self)
    }

    /// Its place, from 1.
    pub(super) fn place(self) -> u16 {
        self.0
    }

    /// Its address at the lab's switch: n1 is 10.61.0.1. Labs have switches of their own, so that all use
    /// the same addresses. The low 16 bits give the node its number in the cluster: that of its name.
    pub(super) fn address(self) -> Ipv4Addr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 61, high, low)
    }
}

impl FromStr for LabNode {
    type Err = LabNodeError;

    fn from_str(text: &str) -> Result<Self, LabNodeError> {
        let error = || LabNodeError(text.chars().take(80).collect());
        let digits = text.strip_prefix('n').ok_or_else(error)?;
        let canonical = digits.starts_with(|c: char| c.is_ascii_digit() && c != '0');
        match digits.parse() {
            Ok(place) if canonical => Ok(Self(place)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for LabNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("n{}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lab_names_cannot_leave_their_directory() {
        for good in ["default", "a", "0", "mfs-test-12", &"x".repeat(32)] {
            assert!(good.parse::<LabName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "A", "-a", "ä", "a\n", "a.lock", &"x".repeat(33)]
        {
            assert!(bad.parse::<LabName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nodes_are_n_and_a_number() {
        assert_eq!("n1".parse::<LabNode>().unwrap(), LabNode::FIRST);
        assert_eq!("n300".parse::<LabNode>().unwrap().address(), Ipv4Addr::new(10, 61, 1, 44));
        for bad in ["", "n", "n0", "n01", "n+1", "n-1", "n1 ", "1", "m1", "n65536", "here"] {
            assert!(bad.parse::<LabNode>().is_err(), "{bad:?}");
        }
    }
}
