//! `Reason`: why a job is moved, for the log and for `mfs ps`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::NodeName;

/// Why a job is moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There is a processor for it alone, and here there is none.
    Free {
        /// Where.
        on: NodeName,
    },
    /// Fewer processes share a processor.
    LessBusy {
        /// Where.
        on: NodeName,
    },
    /// The processors are faster.
    Faster {
        /// Where.
        on: NodeName,
    },
    /// The files that it reads and writes lie there.
    Data {
        /// Where.
        on: NodeName,
    },
    /// There is too little memory here.
    Memory {
        /// Where it is to go away from.
        from: NodeName,
    },
    /// The node's own users need it (`mfs block --when-busy`).
    Wanted {
        /// Where it is to go away from.
        from: NodeName,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free { on } => write!(f, "node {on} has a free processor"),
            Self::LessBusy { on } => write!(f, "node {on} is less busy"),
            Self::Faster { on } => write!(f, "node {on} is faster"),
            Self::Data { on } => write!(f, "its data is on {on}"),
            Self::Memory { from } => write!(f, "node {from} is about to swap"),
            Self::Wanted { from } => write!(f, "node {from} is needed by its own users"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences() {
        let on: NodeName = "n2".parse().unwrap();
        assert_eq!(Reason::Free { on: on.clone() }.to_string(), "node n2 has a free processor");
        assert_eq!(Reason::Memory { from: on.clone() }.to_string(), "node n2 is about to swap");
        assert_eq!(Reason::Data { on }.to_string(), "its data is on n2");
    }
}
