//! Why a message could not be taken.

use crate::types::NameError;

/// A field that breaks the rules written at it in the `.proto` files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {problem}")]
pub struct Malformed {
    /// Message and field, as the `.proto` files name them.
    pub field: &'static str,
    /// The rule it breaks.
    pub problem: Problem,
}

/// The rule that a field breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is needed, and not set, or 0 where 0 names nothing.
    #[error("must be set")]
    Missing,
    /// It is none of the values of its enumeration.
    #[error("has a value that version 1 of the protocol does not know")]
    UnknownValue,
    /// It has bits that mean nothing.
    #[error("has bits that version 1 of the protocol does not know")]
    UnknownBits,
    /// A number beyond what it may be.
    #[error("is {value}, beyond its limit {limit}")]
    OutOfRange {
        /// The number.
        value: u64,
        /// The largest it may be.
        limit: u64,
    },
    /// More bytes or elements than it may have.
    #[error("has {length} bytes or elements, beyond its limit {limit}")]
    TooLong {
        /// How many it has.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Bytes that are no name.
    #[error("is not a name: {0}")]
    Name(#[from] NameError),
    /// Bytes that must not occur in it.
    #[error("holds a NUL byte")]
    Nul,
    /// It contradicts another field or the kind of request.
    #[error("does not fit the rest of the message")]
    Contradiction,
}

/// A message that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// A field breaks its rules.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It has no body, or one that came with a later version.
    #[error("the message has no body that version 1 of the protocol knows")]
    UnknownBody,
}

// === impl Malformed ===

impl Malformed {
    pub(super) const fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, problem }
    }

    pub(super) const fn missing(field: &'static str) -> Self {
        Self::new(field, Problem::Missing)
    }

    pub(super) const fn unknown(field: &'static str) -> Self {
        Self::new(field, Problem::UnknownValue)
    }
}
