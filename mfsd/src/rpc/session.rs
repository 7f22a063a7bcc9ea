//! A session: what one client owns at this node.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mfs::export::LockRecord;
use mfs::sync::Mutex;
use mfs::telemetry::instruments::Held as Counted;
use mfs::telemetry::metrics::SERVER_SESSIONS;
use mfs::types::{Incarnation, NodeId, SessionId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::lane::Lane;
use super::limits::Limits;
use super::lock_waits::LockWaits;
use super::open_table::{Held, OpenTable};
use super::reply_cache::ReplyCache;
use super::tree::Tree;

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
    /// Its part of the threads.
    pub(super) lane: Lane,
}

/// One session. Its tables are independent: none is locked while another is.
pub(super) struct Session<T: Tree> {
    pub(super) id: SessionId,
    pub(super) owner: Owner,
    pub(super) share: Arc<Share>,
    /// Cancelled when the session is over; its streams end then.
    pub(super) ended: CancellationToken,
    pub(super) replies: Mutex<ReplyCache>,
    pub(super) opens: Mutex<OpenTable<T::Open>>,
    /// What it owns in the tree; `None` when it is over.
    pub(super) tenant: Mutex<Option<Arc<T::Tenant>>>,
    /// The requests that wait for a lock.
    pub(super) waits: Mutex<LockWaits>,
    /// Its client remembers what it is granted leases on.
    pub(super) remembers: AtomicBool,
    /// It understands that a lease may concern some entries of a listing only.
    pub(super) takes_parts: AtomicBool,
    /// It has its kernel look at what has become longer.
    pub(super) sees_lengths: AtomicBool,
    /// It opens files by itself while it may.
    pub(super) keeps_handles: AtomicBool,
    _counted: Counted,
}

/// What a session leaves behind.
pub(super) struct Ended<T: Tree> {
    pub(super) opens: Vec<Held<T::Open>>,
    pub(super) tenant: Option<Arc<T::Tenant>>,
}

// === impl Share ===

impl Share {
    /// Bytes in flight are counted in units of this many.
    pub(super) const UNIT: usize = 4 << 10;

    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            opens: Arc::new(Semaphore::new(limits.opens)),
            bytes: Arc::new(Semaphore::new(limits.in_flight_bytes / Self::UNIT)),
            lane: Lane::new(limits.running),
        }
    }
}

// === impl Session ===

impl<T: Tree> Session<T> {
    pub(super) fn new(
        id: SessionId,
        owner: Owner,
        share: Arc<Share>,
        tenant: Arc<T::Tenant>,
        limits: &Limits,
    ) -> Self {
        Self {
            id,
            owner,
            share,
            ended: CancellationToken::new(),
            replies: Mutex::new(ReplyCache::new(limits.slots)),
            opens: Mutex::new(OpenTable::new()),
            tenant: Mutex::new(Some(tenant)),
            waits: Mutex::default(),
            remembers: AtomicBool::new(false),
            takes_parts: AtomicBool::new(false),
            sees_lengths: AtomicBool::new(false),
            keeps_handles: AtomicBool::new(false),
            _counted: SERVER_SESSIONS.hold(),
        }
    }

    /// The locks that it holds. Blocks.
    pub(super) fn locks(&self) -> Vec<LockRecord> {
        let opens: Vec<_> = self.opens.lock().all().into_iter().map(|(open, _)| open).collect();
        let tenant = self.tenant.lock().clone();
        tenant.map_or_else(Vec::new, |tenant| T::locks(&tenant, &opens))
    }

    /// Ends the session and hands over what it owned, to be closed on a thread that may block.
    pub(super) fn end(&self) -> Ended<T> {
        self.ended.cancel();
        let tenant = self.tenant.lock().take();
        Ended { opens: self.opens.lock().end(), tenant }
    }
}
