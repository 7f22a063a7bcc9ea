//! The client of exports: sessions with nodes, sequence numbers, reconnection, reclaim.

pub mod session;
