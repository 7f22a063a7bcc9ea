//! Connections to peers: how to dial, how long to wait, when to try again.
//!
//! Not here: what is said over a connection (`client`), and who a peer may be (`identity`).

pub mod backoff;
pub mod connect;
pub mod deadline;
pub mod discovery;
pub mod interfaces;
pub mod local;
pub mod member;
pub mod multicast;
pub mod observed;
pub mod plaintext;
mod sys;
pub mod tcp;

pub use backoff::{Backoff, BackoffError, BackoffSettings};
pub use connect::{ConnectError, Connector, Dialling, IoStream};
pub use deadline::Deadline;
pub use member::{MemberConnector, Transport};
pub use observed::{Fate, Observed, Pulse};
