//! The client of exports: sessions with nodes, sequence numbers, reconnection, reclaim.
//!
//! [`Peers`] is the door: it asks any node of the cluster for an operation. Behind it there is one task
//! for each node (`driver`), which owns a machine without I/O (`session`), the policy of when a node is
//! tried and when it is away (`reach`), and up to two connections (`lane`). Nodes share nothing, so that
//! one cannot delay another.
//!
//! What is remembered under leases is kept by a [`LeaseKeeper`], which is told when they begin, last,
//! are taken back and end.
//!
//! Not here: caching, and the meaning of what is asked.
//!
//! Lock order: none. `Peers::nodes` and the list of `callers` are each held for a look into them, never both.

mod callers;
mod driver;
mod lane;
mod leases;
mod patience;
mod peers;
mod quiet;
mod reach;
mod said;
pub mod session;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use leases::{Answered, Keeper, LeaseKeeper, Returns, SessionLeases};
pub use patience::{Interrupted, Patience};
pub use peers::{Peers, PeersConfig};
pub use quiet::OnContact;
