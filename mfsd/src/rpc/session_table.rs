//! All sessions of this node, and how long each lives.
//!
//! A session lives while a stream is attached to it, and for the lease term after the last one ended. A
//! client that is silent on a stream that stands is ended by the transport's keep-alive.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mfs::clock;
use mfs::sync::Mutex;
use mfs::types::{NodeId, SessionId};
use mfs::wire::{ProtocolCode, Refusal};

use super::limits::Limits;
use super::session::{Owner, Session, Share};
use super::tree::Tree;

/// The table.
pub(super) struct SessionTable<T: Tree> {
    limits: Limits,
    lease_term: Duration,
    inner: Mutex<Inner<T>>,
}

struct Inner<T: Tree> {
    sessions: HashMap<SessionId, Record<T>>,
    shares: HashMap<NodeId, Arc<Share>>,
}

struct Record<T: Tree> {
    session: Arc<Session<T>>,
    streams: usize,
    /// When its last stream ended, if none is left.
    silent_since: Option<Instant>,
}

/// A stream's hold on its session; dropped, the stream has ended.
pub(super) struct Attachment<T: Tree> {
    table: Arc<SessionTable<T>>,
    pub(super) session: Arc<Session<T>>,
    /// The session is the one that the greeting named.
    pub(super) resumed: bool,
}

/// A stream that was attached, and the session that had to go for it; or why it was not.
type Attached<T> = Result<(Attachment<T>, Option<Arc<Session<T>>>), Refusal>;

// === impl SessionTable ===

impl<T: Tree> SessionTable<T> {
    pub(super) fn new(limits: Limits, lease_term: Duration) -> Self {
        let inner = Inner { sessions: HashMap::new(), shares: HashMap::new() };
        Self { limits, lease_term, inner: Mutex::new(inner) }
    }

    /// Attaches a stream to the session `wanted`, if it exists and is `owner`'s, or else to a new one. The
    /// second value is a session that had to go for it, to be closed.
    ///
    /// # Errors
    /// `Limit` if the peer has too many sessions whose clients live, or the session too many streams.
    pub(super) fn attach(
        self: &Arc<Self>,
        owner: Owner,
        wanted: Option<SessionId>,
        tenant: impl FnOnce() -> Arc<T::Tenant>,
    ) -> Attached<T> {
        let mut inner = self.inner.lock();
        if let Some(record) = wanted.and_then(|id| inner.sessions.get_mut(&id))
            && record.session.owner == owner
        {
            if record.streams >= self.limits.streams {
                return Err(Refusal::new(
                    ProtocolCode::Limit,
                    format!(
                        "this session has {} streams already, the most it may have",
                        record.streams
                    ),
                ));
            }
            record.streams += 1;
            record.silent_since = None;
            let session = Arc::clone(&record.session);
            return Ok((Attachment { table: Arc::clone(self), session, resumed: true }, None));
        }
        let evicted = inner.make_room(owner.node, self.limits.sessions)?;
        let share = inner.shares.entry(owner.node);
        let share = Arc::clone(share.or_insert_with(|| Arc::new(Share::new(&self.limits))));
        let id = inner.unused_id();
        let session = Arc::new(Session::new(id, owner, share, tenant(), &self.limits));
        let record = Record { session: Arc::clone(&session), streams: 1, silent_since: None };
        inner.sessions.insert(id, record);
        Ok((Attachment { table: Arc::clone(self), session, resumed: false }, evicted))
    }

    /// All sessions, and since when those are without a stream that have none.
    pub(super) fn all(&self) -> Vec<(Arc<Session<T>>, Option<Instant>)> {
        let inner = self.inner.lock();
        let records = inner.sessions.values();
        records.map(|record| (Arc::clone(&record.session), record.silent_since)).collect()
    }

    /// Takes out the sessions whose lease term is over at `now`, to be closed.
    pub(super) fn expire(&self, now: Instant) -> Vec<Arc<Session<T>>> {
        self.take(|record| {
            record
                .silent_since
                .is_some_and(|since| now.saturating_duration_since(since) >= self.lease_term)
        })
    }

    /// Takes out one session, to be closed.
    pub(super) fn end(&self, id: SessionId) -> Vec<Arc<Session<T>>> {
        self.take(|record| record.session.id == id)
    }

    /// Takes out all sessions of a peer, to be closed.
    pub(super) fn end_peer(&self, node: NodeId) -> Vec<Arc<Session<T>>> {
        self.take(|record| record.session.owner.node == node)
    }

    fn take(&self, over: impl Fn(&Record<T>) -> bool) -> Vec<Arc<Session<T>>> {
        let mut inner = self.inner.lock();
        let taken: Vec<_> = inner
            .sessions
            .extract_if(|_, record| over(record))
            .map(|(_, record)| record.session)
            .collect();
        for session in &taken {
            inner.forget_share(session.owner.node);
        }
        taken
    }

    fn detach(&self, id: SessionId, now: Instant) {
        if let Some(record) = self.inner.lock().sessions.get_mut(&id) {
            record.streams -= 1;
            if record.streams == 0 {
                record.silent_since = Some(now);
            }
        }
    }
}

// === impl Inner ===

impl<T: Tree> Inner<T> {
    /// Makes room for one more session of `node`: the longest silent one goes.
    fn make_room(
        &mut self,
        node: NodeId,
        limit: usize,
    ) -> Result<Option<Arc<Session<T>>>, Refusal> {
        let of_node = || self.sessions.values().filter(|r| r.session.owner.node == node);
        if of_node().count() < limit {
            return Ok(None);
        }
        let silent = of_node()
            .filter_map(|record| Some((record.silent_since?, record.session.id)))
            .min_by_key(|(since, _)| *since);
        let Some((_, id)) = silent else {
            return Err(Refusal::new(
                ProtocolCode::Limit,
                format!("this node serves {limit} mounts of one peer at most: unmount one"),
            ));
        };
        Ok(self.sessions.remove(&id).map(|record| record.session))
    }

    fn unused_id(&self) -> SessionId {
        loop {
            if let Some(id) = SessionId::new(rand::random())
                && !self.sessions.contains_key(&id)
            {
                return id;
            }
        }
    }

    /// Forgets the peer's share with its last session.
    fn forget_share(&mut self, node: NodeId) {
        if !self.sessions.values().any(|record| record.session.owner.node == node) {
            self.shares.remove(&node);
        }
    }
}

// === impl Attachment ===

impl<T: Tree> Drop for Attachment<T> {
    fn drop(&mut self) {
        self.table.detach(self.session.id, clock::now());
    }
}

#[cfg(test)]
mod tests {
    use mfs::types::Incarnation;

    use super::super::fake::FakeTree;
    use super::*;

    const TERM: Duration = Duration::from_secs(10);

    fn table(sessions: usize) -> Arc<SessionTable<FakeTree>> {
        let limits = Limits { sessions, streams: 2, ..Limits::default() };
        Arc::new(SessionTable::new(limits, TERM))
    }

    fn owner(node: u8, incarnation: u64) -> Owner {
        let incarnation = Incarnation::new(incarnation).expect("not 0");
        Owner { node: NodeId::from_digest([node; 32]), local: false, incarnation }
    }

    fn attach(
        table: &Arc<SessionTable<FakeTree>>,
        owner: Owner,
        id: Option<SessionId>,
    ) -> Attached<FakeTree> {
        table.attach(owner, id, || Arc::new(()))
    }

    #[track_caller]
    fn refused(attached: Attached<FakeTree>) -> ProtocolCode {
        attached.err().expect("attached").code
    }

    #[test]
    fn a_session_is_resumed_by_its_owner_alone() {
        let table = table(8);
        let (first, _) = attach(&table, owner(1, 1), None).unwrap();
        let id = first.session.id;
        for stranger in [owner(1, 2), owner(2, 1), Owner { local: true, ..owner(1, 1) }] {
            let (other, _) = attach(&table, stranger, Some(id)).unwrap();
            assert!(!other.resumed);
            assert_ne!(other.session.id, id);
        }
        drop(first);
        let (again, _) = attach(&table, owner(1, 1), Some(id)).unwrap();
        assert!(again.resumed);
        assert_eq!(again.session.id, id);
    }

    #[test]
    fn a_session_outlives_its_streams_by_the_lease_term() {
        let table = table(8);
        let (control, _) = attach(&table, owner(1, 1), None).unwrap();
        let id = control.session.id;
        let (bulk, _) = attach(&table, owner(1, 1), Some(id)).unwrap();
        drop(control);
        assert!(table.expire(clock::now() + 2 * TERM).is_empty(), "a stream is left");
        drop(bulk);
        let ended = clock::now();
        assert!(table.expire(ended + TERM / 2).is_empty());
        let expired = table.expire(ended + TERM);
        assert_eq!(expired.iter().map(|session| session.id).collect::<Vec<_>>(), [id]);
        assert!(!attach(&table, owner(1, 1), Some(id)).unwrap().0.resumed);
    }

    #[test]
    fn a_peer_has_a_bounded_number_of_sessions_and_the_silent_go_first() {
        let table = table(2);
        let (first, _) = attach(&table, owner(1, 1), None).unwrap();
        let (_second, _) = attach(&table, owner(1, 2), None).unwrap();
        assert_eq!(refused(attach(&table, owner(1, 3), None)), ProtocolCode::Limit);
        assert!(attach(&table, owner(2, 1), None).is_ok(), "another peer's share is its own");
        let silent = first.session.id;
        drop(first);
        let (_third, evicted) = attach(&table, owner(1, 3), None).unwrap();
        assert_eq!(evicted.map(|session| session.id), Some(silent));
    }

    #[test]
    fn a_session_has_a_bounded_number_of_streams() {
        let table = table(2);
        let (first, _) = attach(&table, owner(1, 1), None).unwrap();
        let id = Some(first.session.id);
        let (_second, _) = attach(&table, owner(1, 1), id).unwrap();
        assert_eq!(refused(attach(&table, owner(1, 1), id)), ProtocolCode::Limit);
    }
}
