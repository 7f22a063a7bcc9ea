//! Conversion between the generated protocol types and `types`; refuses what is malformed.
//!
//! Everything a peer sends passes here once. What comes out is valid by construction; what does not is
//! refused with the name of the field. Encoding never fails. Not here: sessions, sequence, limits that
//! depend on state (`mfsd::rpc`), and any I/O.

pub mod cluster;
mod error;
mod field;
mod greeting;
pub mod job;
mod lease;
pub mod load;
pub mod locks;
mod message;
pub mod moving;
mod operation;
mod outcome;
mod value;

pub use error::{Malformed, Problem, Undecodable};
pub use greeting::{Hello, Purpose, VersionMismatch, Versions, Welcome, features};
pub use lease::{Leased, MAX_LEASED, Recall, ReturnLease};
pub use message::{
    ClientMessage, Failure, Origin, ProtocolCode, Refusal, Reply, Request, ServerMessage,
};

pub use crate::types::op::MAX_IO;

/// Most bytes of one message, 2 MiB: `MAX_IO` or a full listing, and what is around it.
pub const MAX_MESSAGE: usize = 2 << 20;
