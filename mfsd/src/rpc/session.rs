//! A session: what one client owns at this node.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mfs::sync::Mutex;
use mfs::telemetry::instruments::Held as Counted;
use mfs::telemetry::metrics::SERVER_SESSIONS;
use mfs::types::{Incarnation, LockOwner, NodeId, RequestId, SessionId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::open_table::{Held, OpenTable};
use super::reply_cache::ReplyCache;

/// Whose a session is. Only the same client of the same authenticated peer may go on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    /// The peer, from its certificate, or this node for a mount on it.
    pub(super) node: NodeId,
    /// It came over the unix socket.
    pub(super) local: bool,
    /// Which client of that node.
    pub(super) incarnation: Incarnation,
}

/// What all sessions of one peer share: its part of this node.
#[derive(Debug)]
pub(super) struct Share {
    /// Files it may still open.
    pub(super) opens: Arc<Semaphore>,
    /// Units of [`Share::UNIT`] bytes that its requests in flight may still hold.
    pub(super) bytes: Arc<Semaphore>,
}

/// One session; `O` is an open file. Its three tables are independent: none is locked while another is.
#[derive(Debug)]
pub(super) struct Session<O> {
    pub(super) id: SessionId,
    pub(super) owner: Owner,
    pub(super) share: Arc<Share>,
    /// Cancelled when the session is over; its streams end then.
    pub(super) ended: CancellationToken,
    pub(super) replies: Mutex<ReplyCache>,
    pub(super) opens: Mutex<OpenTable<O>>,
    /// The requests that wait for a lock, and whether they were given up.
    pub(super) waits: Mutex<HashMap<RequestId, Arc<AtomicBool>>>,
    _counted: Counted,
}

// === impl Share ===

impl Share {
    /// Bytes in flight are counted in units of this many.
    pub(super) const UNIT: usize = 4 << 10;

    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            opens: Arc::new(Semaphore::new(limits.opens)),
            bytes: Arc::new(Semaphore::new(limits.in_flight_bytes / Self::UNIT)),
        }
    }
}

// === impl Session ===

impl<O: Clone> Session<O> {
    pub(super) fn new(id: SessionId, owner: Owner, share: Arc<Share>, limits: &Limits) -> Self {
        Self {
            id,
            owner,
            share,
            ended: CancellationToken::new(),
            replies: Mutex::new(ReplyCache::new(limits.slots)),
            opens: Mutex::new(OpenTable::new()),
            waits: Mutex::new(HashMap::new()),
            _counted: SERVER_SESSIONS.hold(),
        }
    }

    /// The lock owner that stands for `owner` of this session among the owners of all sessions.
    pub(super) fn scoped(&self, owner: LockOwner) -> LockOwner {
        let mut hasher = DefaultHasher::new();
        (self.id, owner).hash(&mut hasher);
        LockOwner(hasher.finish())
    }

    /// Ends the session and hands over its open files, to be closed on a thread that may block.
    pub(super) fn end(&self) -> Vec<Held<O>> {
        self.ended.cancel();
        self.opens.lock().end()
    }
}
