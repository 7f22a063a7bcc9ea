//! What one peer may make this node hold.

use std::time::Duration;

/// Bounds of the file service. Each is per peer or per stream: a peer that reaches one is refused with a
/// sentence, or not read from until it takes its replies; the others do not notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Sessions of one peer: its mounts, and those of its restarts within a lease term.
    pub(crate) sessions: usize,
    /// Streams of one session; a mount uses two.
    pub(crate) streams: usize,
    /// Files that one peer may have open.
    pub(crate) opens: usize,
    /// Slots of one session: how many once-only requests it may have in flight.
    pub(crate) slots: u32,
    /// Requests in flight on one stream. The transport reads no further until one is answered.
    pub(crate) in_flight: usize,
    /// Bytes that the requests of one peer in flight may hold, their answers included.
    pub(crate) in_flight_bytes: usize,
    /// Operations of one peer that run at a time; there are 64 threads for all peers.
    pub(crate) running: usize,
    /// Longest wait for a lock; the client asks again.
    pub(crate) lock_wait: Duration,
    /// Longest wait for the greeting of a stream.
    pub(crate) greeting: Duration,
    /// Longest wait for leases that a session was asked for.
    pub(crate) patience: Duration,
    /// Files on which one session holds leases.
    pub(crate) leased_files: usize,
    /// Files that are guarded for all peers, a descriptor each.
    pub(crate) guarded_files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 64,
            streams: 16,
            opens: 65_536,
            slots: 256,
            in_flight: 512,
            in_flight_bytes: 128 << 20,
            running: 24,
            lock_wait: Duration::from_secs(30),
            greeting: Duration::from_secs(10),
            patience: Duration::from_secs(4),
            leased_files: 200_000,
            guarded_files: 3_072,
        }
    }
}
