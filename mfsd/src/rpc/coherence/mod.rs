//! `Coherence`: carries out what the grantor of leases (`mfs::lease`) decides. Changes that are admitted go
//! on, recalls go to streams, sessions that do not answer are named to be ended.
//!
//! A change that waits is kept here as what is to be done when it is admitted, so that it takes no thread
//! and no place in its peer's lane: a peer that is asked for leases is answered meanwhile.
//!
//! Its parts: `holds` (changes and readings under way), `growth` (what became longer), `guards` (what keeps
//! local processes from writing), `picture` (for people).
//!
//! Lock order; what was admitted runs under the first at most, and neither waits nor looks at the tree:
//!   Coherence::noticing
//!     Coherence::inner
//!       Session::opens        (a leaf)
//!       Writers::inner        (a leaf)

mod growth;
mod guards;
mod holds;
mod picture;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mfs::clock;
use mfs::export::{Changed, Interest, LocalChanges};
use mfs::lease::{
    Action, ChangeId, Event, Grace, Grantor, Growth, Held, Lengths, RecallId, Terms, Touch,
};
use mfs::sync::Mutex;
use mfs::telemetry::metrics as m;
use mfs::types::{InodeNo, Leases, SessionId};
use mfs::wire::{MAX_LEASED, Recall, ReturnLease, ServerMessage};
use smallvec::SmallVec;
use tokio::sync::mpsc::WeakUnboundedSender;

pub(super) use self::guards::GuardHold;
use self::guards::Guards;
pub(super) use self::holds::{ChangeHold, ReadingHold};
pub(super) use self::picture::{Holding, Pending};
use super::run::{Outbox, Outgoing, Permits};
use super::tree::Guard;
use super::writers::Writers;

/// All leases on the tree, and the changes that wait for them.
pub(super) struct Coherence {
    /// Held from reading local changes until the grantor knows them.
    noticing: Mutex<()>,
    inner: Mutex<Inner>,
    /// Who may have stored into pages of which file what is not written.
    pub(super) writers: Writers,
}

struct Inner {
    grantor: Grantor,
    term: Duration,
    patience: Duration,
    /// The changes that are not admitted yet.
    waiting: HashMap<ChangeId, Delayed>,
    last_change: ChangeId,
    lengths: Lengths,
    /// What made a file longer, and is answered when all kernels have seen it.
    growing: HashMap<Growth, Continuation>,
    /// The control streams of each session, the newest last. Weak: a stream ends with its last answer.
    streams: HashMap<SessionId, Streams>,
    /// Sessions that are to be ended.
    cut: Vec<SessionId>,
    guards: Guards,
}

/// What an event brought about, to be carried on without the lock.
struct Stepped {
    /// First: what goes on may wait for it.
    freed: Vec<Guard>,
    /// What goes on now.
    admitted: SmallVec<[Continuation; 1]>,
    /// Whether who asked is admitted.
    at_once: bool,
}

#[derive(Debug, Default)]
struct Streams {
    /// The latest connection that one came over.
    connection: u64,
    outboxes: Vec<WeakUnboundedSender<Outgoing>>,
}

type Continuation = Box<dyn FnOnce() + Send>;

/// A change that waits.
struct Delayed {
    since: Duration,
    asker: Asker,
    /// What is to be done when it is admitted.
    go_on: Continuation,
}

/// Who wants what changed, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) operation: &'static str,
    pub(super) uid: u32,
    pub(super) pid: u32,
}

/// What can say for whom it is.
pub(super) trait Asked {
    fn asker(&self) -> Asker;
}

// === impl Coherence ===

impl Coherence {
    /// A table without leases; `grace` says what a daemon before this one may have granted. At most so many `guards`
    /// are held.
    pub(super) fn new(
        terms: Terms,
        grace: Option<Grace>,
        guards: usize,
        writers: Writers,
    ) -> Arc<Self> {
        Arc::new(Self {
            noticing: Mutex::new(()),
            inner: Mutex::new(Inner {
                grantor: Grantor::new(terms, grace),
                term: terms.term,
                patience: terms.patience,
                waiting: HashMap::new(),
                last_change: 0,
                lengths: Lengths::new(terms.patience),
                growing: HashMap::new(),
                streams: HashMap::new(),
                cut: Vec::new(),
                guards: Guards::new(guards),
            }),
            writers,
        })
    }

    /// The client of a session that remembers has greeted over a control stream, and forgotten everything;
    /// recalls go out over it from now on. `false`: a later connection greeted before this one, whose client
    /// has given it up.
    pub(super) fn attach(&self, session: SessionId, connection: u64, outbox: &Outbox) -> bool {
        let mut inner = self.inner.lock();
        let streams = inner.streams.entry(session).or_default();
        if connection < streams.connection {
            return false;
        }
        streams.connection = connection;
        streams.outboxes.retain(|outbox| outbox.strong_count() > 0);
        streams.outboxes.push(outbox.downgrade());
        let mut stepped = inner.step(Event::Attached(session), None);
        let told = inner.lengths.attach(session);
        stepped.admitted.extend(inner.tell(told));
        drop(inner);
        stepped.go_on();
        true
    }

    /// A client has greeted over a control stream: what a daemon before this one granted it is forgotten.
    pub(super) fn greeted(&self, client: u64) {
        self.step(Event::Greeted(client));
    }

    /// Something was received from a session.
    pub(super) fn heard(&self, session: SessionId) {
        self.step(Event::Heard(session));
    }

    /// A session gives leases back.
    pub(super) fn returned(&self, session: SessionId, lease: ReturnLease) {
        m::SERVER_LEASES_RETURNED.add(lease.files.len() as u64);
        if Lengths::is_recall(lease.recall) {
            return self.tell(|lengths| lengths.seen(session, lease.recall));
        }
        self.step(Event::Returned(session, lease.recall, lease.files));
    }

    /// Whether a session holds the lease to store into pages of a file.
    pub(super) fn may_store(&self, session: SessionId, ino: InodeNo) -> bool {
        let holders = self.inner.lock().grantor.holders_of(ino);
        let may = |held: &Held| held.session == session && held.leases.contains(Leases::DATA_WRITE);
        holders.iter().any(may)
    }

    /// A session has ended by its client's own word: it uses nothing any more.
    pub(super) fn left(&self, session: SessionId) {
        self.end(session, Event::Left(session));
    }

    /// A session was ended whose client may not know it yet.
    pub(super) fn cut(&self, session: SessionId) {
        self.end(session, Event::Cut(session));
    }

    /// Time has passed. The sessions that are to be ended: they did not return what they were asked for.
    pub(super) fn tick(&self) -> Vec<SessionId> {
        self.step(Event::Tick);
        self.tell(|lengths| lengths.tick(clock::since_boot()));
        let mut inner = self.inner.lock();
        m::SERVER_LEASES.set(i64::try_from(inner.grantor.len()).unwrap_or(i64::MAX));
        m::SERVER_CHANGES_WAITING.set(i64::try_from(inner.waiting.len()).unwrap_or(i64::MAX));
        let cut = std::mem::take(&mut inner.cut);
        m::SERVER_RECALLS_UNANSWERED.add(cut.len() as u64);
        cut
    }

    /// Somebody beside the sessions has changed something.
    /// `read` is called by one caller at a time, who has told the grantor before the next looks: so when
    /// this returns, all that was noticed before it was called has been told.
    pub(super) fn notice(&self, read: impl FnOnce() -> LocalChanges) {
        let _noticing = self.noticing.lock();
        let LocalChanges { others, own, anything, .. } = read();
        m::SERVER_LOCAL_CHANGES.add(others.len() as u64);
        if anything {
            self.step(Event::Overflowed);
            let files = self.inner.lock().lengths.files();
            files.into_iter().for_each(|ino| self.grew_unasked(ino));
        }
        if others.is_empty() && own.is_empty() {
            return;
        }
        self.step_with(|inner| {
            // What this process did itself was announced, and is not done yet. What was not is as if others
            // had done it: the name that was to be removed may have got another file meanwhile.
            let announced = |changed: &Changed| inner.grantor.is_changing(changed.ino);
            let unannounced = own.iter().filter(|changed| !announced(changed));
            Event::Noticed(others.iter().chain(unannounced).map(touch).collect())
        });
        // After what is asked back, so that who looks does not look at what it remembers.
        others.iter().filter(|changed| !changed.names).for_each(|c| self.grew_unasked(c.ino));
    }

    /// Somebody who asks nobody may have looked at what others keep changed of a file.
    pub(super) fn looked_unasked(&self, ino: InodeNo) {
        self.step(Event::Noticed(vec![(ino, Leases::DATA_WRITE)]));
    }

    fn end(&self, session: SessionId, event: Event) {
        self.step_with(|inner| {
            inner.streams.remove(&session);
            event
        });
        self.tell(|lengths| lengths.end(session));
    }

    fn step(&self, event: Event) {
        self.step_with(|_| event);
    }

    fn step_with(&self, event: impl FnOnce(&mut Inner) -> Event) {
        let mut inner = self.inner.lock();
        let event = event(&mut inner);
        let stepped = inner.step(event, None);
        drop(inner);
        stepped.go_on();
    }
}

impl Interest for Coherence {
    fn in_file(&self, ino: InodeNo) -> bool {
        let inner = self.inner.lock();
        !inner.grantor.holders_of(ino).is_empty()
            || inner.lengths.concern(ino, None)
            || self.writers.concern(ino)
    }

    fn in_anything(&self) -> bool {
        let inner = self.inner.lock();
        !inner.grantor.is_empty() || !inner.lengths.is_empty() || !self.writers.is_empty()
    }
}

// === impl Inner ===

impl Inner {
    /// Takes an event; whether `asking` is admitted.
    fn step(&mut self, event: Event, asking: Option<ChangeId>) -> Stepped {
        let (mut admitted, mut at_once) = (SmallVec::new(), false);
        let returned = match &event {
            Event::Change { .. }
            | Event::Lasting { .. }
            | Event::Fill { .. }
            | Event::Extend { .. }
            | Event::Done(_)
            | Event::Heard(_)
            | Event::Greeted(_) => Some(Vec::new()),
            Event::Returned(_, _, files) => Some(files.iter().map(|(ino, _)| *ino).collect()),
            Event::Noticed(files) => Some(files.iter().map(|(ino, _)| *ino).collect()),
            Event::Attached(_)
            | Event::Left(_)
            | Event::Cut(_)
            | Event::Overflowed
            | Event::Tick => None,
        };
        // Time passes often, and seldom takes a lease away.
        let before = matches!(event, Event::Tick).then(|| self.grantor.len());
        for action in self.grantor.step(clock::since_boot(), event) {
            match action {
                Action::Recall(session, id, files) => {
                    m::SERVER_RECALLS.add(files.len() as u64);
                    self.recall(session, id, &files);
                }
                Action::Admit(id) if Some(id) == asking => at_once = true,
                Action::Admit(id) => {
                    admitted.extend(self.waiting.remove(&id).map(|delayed| delayed.go_on));
                }
                Action::Cut(session) => self.cut.push(session),
            }
        }
        let freed = if before == Some(self.grantor.len()) {
            Vec::new()
        } else {
            self.free_guards(returned.as_deref())
        };
        Stepped { freed, admitted, at_once }
    }

    /// Asks a session for leases over its newest stream. Without one it has forgotten them, and says so by
    /// greeting again.
    fn recall(&self, session: SessionId, id: RecallId, files: &[Touch]) {
        let Some(streams) = self.streams.get(&session) else { return };
        let alive = streams.outboxes.iter().rev().filter_map(WeakUnboundedSender::upgrade);
        let Some(outbox) = alive.into_iter().find(|outbox| !outbox.is_closed()) else { return };
        let deadline_ms = u32::try_from(self.patience.as_millis()).unwrap_or(u32::MAX);
        for files in files.chunks(MAX_LEASED) {
            let recall = Recall { id, files: files.to_vec(), deadline_ms };
            let message = Ok(ServerMessage::Recall(recall).into());
            // A stream that ended just now has made its client forget them.
            let _ = outbox.send(Outgoing { message, operation: "", permits: Permits::default() });
        }
    }
}

// === impl Stepped ===

impl Stepped {
    fn go_on(self) {
        drop(self.freed);
        self.admitted.into_iter().for_each(|go_on| go_on());
    }
}

fn touch(changed: &Changed) -> Touch {
    let data = Leases::DATA.union(Leases::HANDLE);
    let other = if changed.names { Leases::DIRECTORY } else { data };
    (changed.ino, Leases::ATTRIBUTES | other)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_greeting_that_was_overtaken_frees_nothing() {
        let patience = Duration::from_secs(1);
        let coherence = Coherence::new(
            Terms { term: patience, patience, files_per_session: 8 },
            None,
            4,
            Writers::default(),
        );
        let session = SessionId::new(1).unwrap();
        let (outbox, mut inbox) = mpsc::unbounded_channel();
        assert!(coherence.attach(session, 2, &outbox));
        let touch = (InodeNo::FIRST, Leases::ATTRIBUTES);
        let granted = coherence.begin_reading().grant(session, None, &[touch]);
        assert_eq!(granted[..], [Leases::ATTRIBUTES]);
        assert!(!coherence.attach(session, 1, &outbox), "its client has gone on to connection 2");
        coherence.step(Event::Noticed(vec![touch]));
        assert!(inbox.try_recv().is_ok(), "it is still held, and asked back");
    }
}
