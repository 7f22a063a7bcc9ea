//! What is to happen in a simulated world, and when.

use std::net::SocketAddr;
use std::time::Duration;

use crate::world::Index;

/// Something that happens, in the order of time and then of its making.
pub(crate) struct Scheduled {
    pub(crate) at: Duration,
    pub(crate) order: u64,
    pub(crate) what: What,
}

/// What happens.
pub(crate) enum What {
    Tick(Index),
    Deliver { from: SocketAddr, to: SocketAddr, sender: Index, bytes: Vec<u8> },
    Exchanged { node: Index, with: SocketAddr },
    ExchangeFailed { node: Index },
}

// === impl Scheduled ===

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
