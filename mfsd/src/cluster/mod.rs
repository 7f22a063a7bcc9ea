//! What nodes do together beside files: found a cluster, join, notice each other, renew certificates,
//! remove, leave.

pub(crate) mod attempts;
pub(crate) mod authority;
mod beacon;
pub(crate) mod dial;
mod discovery;
mod driver;
pub(crate) mod exchange;
pub(crate) mod found;
pub(crate) mod join;
pub(crate) mod membership;
mod memory;
pub(crate) mod naming;
mod publication;
pub(crate) mod removal;
pub(crate) mod renewal;
pub(crate) mod services;
mod sockets;
pub(crate) mod tokens;
