//! The cluster as this daemon takes part in it.

mod beacon;
mod discovery;
pub(crate) mod driver;
mod memory;
mod sockets;
