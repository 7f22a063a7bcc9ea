//! What the suites share: laboratories that take themselves down, nodes to work on, and the programs under
//! test. It starts nothing that a user could not start: a thin wrapper around `mfs lab`.
//!
//! Nothing here decides a test by a length of time; limits only end what hangs.

mod cluster;
mod leaks;
mod loopback;
mod node;
mod programs;
mod wait;

pub use cluster::{Cluster, Setup};
pub use leaks::Machine;
pub use loopback::loopback;
pub use node::{Node, Ran};
pub use programs::{binary, tool, with_criu};
pub use wait::eventually;
