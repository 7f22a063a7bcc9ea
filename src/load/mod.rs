//! How busy the nodes are: what each says of itself, and the window in which every node keeps the freshest of
//! what it heard.
//!
//! Each second every node sends one message to one other, chosen at random: its own record and the freshest of
//! those that it holds. Nobody asks, nothing is sent to all, and what it costs a node does not depend on how
//! many there are (docs/BALANCING.md has the figures). It is openMosix's way.
//!
//! Not here: how a node's load is measured and how messages travel (`mfsd`), and what is decided by it
//! (`jobs`).

mod cluster;
mod idle;
mod message;
mod record;
mod window;
mod wishes;

pub use cluster::{ClusterLoad, NodeLoad};
pub use idle::{Idleness, Lending};
pub use message::{Heard, MAX_MESSAGE, RECORDS_IN_MESSAGE, decode, encode};
pub use record::{Load, LoadRecord, Mebibytes, NodeFlags, Pressure, Speed, Stamp};
pub use window::{FRESH, Known, MOST_RECORDS, TOO_OLD, Window};
pub use wishes::{Wish, Wishes};
