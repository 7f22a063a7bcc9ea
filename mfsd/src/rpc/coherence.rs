//! `Coherence`: carries out what the grantor of leases (`mfs::lease`) decides. Changes that are admitted go
//! on, recalls go to streams, sessions that do not answer are named to be ended.
//!
//! A change that waits is kept here as what is to be done when it is admitted, so that it takes no thread
//! and no place in its peer's lane: a peer that is asked for leases is answered meanwhile.
//!
//! Lock order; what was admitted runs under the first at most, and neither waits nor looks at the tree:
//!   Coherence::noticing
//!     Coherence::inner
//!       Session::opens        (a leaf)

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mfs::clock;
use mfs::export::{Changed, Interest, LocalChanges};
use mfs::lease::{
    Action, ChangeId, Event, Grace, Grantor, Growth, Held, Lengths, Reading, RecallId, Terms, Told,
    Touch,
};
use mfs::sync::Mutex;
use mfs::telemetry::metrics as m;
use mfs::types::{InodeNo, Leases, SessionId};
use mfs::wire::{MAX_LEASED, Recall, ReturnLease, ServerMessage};
use smallvec::SmallVec;
use tokio::sync::mpsc::WeakUnboundedSender;

use super::run::{Outbox, Outgoing, Permits};

/// All leases on the tree, and the changes that wait for them.
pub(super) struct Coherence {
    /// Held from reading local changes until the grantor knows them.
    noticing: Mutex<()>,
    inner: Mutex<Inner>,
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

/// What is remembered and changed of one file, for people. Times are lengths, up to now.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) leases: Vec<Holding>,
    pub(super) changes: Vec<Pending>,
    /// Nothing is changed for so long at most.
    pub(super) grace: Option<Duration>,
}

/// What one session may remember.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) session: SessionId,
    pub(super) leases: Leases,
    /// Since it was granted the first of them.
    pub(super) held: Option<Duration>,
    /// Since it was asked for them.
    pub(super) asked: Option<Duration>,
    /// Since something was received from it.
    pub(super) silent: Duration,
    /// Until they end if nothing more is received from it.
    pub(super) left: Duration,
}

/// A change that is not done.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) session: Option<SessionId>,
    pub(super) leases: Leases,
    /// Where it waits: for whom, and since when.
    pub(super) waits: Option<(Asker, Duration)>,
}

/// A change from its announcement to its end; dropped, it is done.
#[must_use = "a change is done when this is dropped"]
pub(super) struct ChangeHold {
    coherence: Arc<Coherence>,
    id: ChangeId,
}

/// A reading that is under way; dropped, it ends without a wish.
#[must_use = "a reading ends when this is dropped"]
pub(super) struct ReadingHold<'a> {
    coherence: &'a Coherence,
    reading: Option<Reading>,
}

// === impl Coherence ===

impl Coherence {
    /// A table without leases; `grace` says what a daemon before this one may have granted.
    pub(super) fn new(terms: Terms, grace: Option<Grace>) -> Arc<Self> {
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
            }),
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
        let (mut admitted, _) = inner.step(Event::Attached(session), None);
        let told = inner.lengths.attach(session);
        admitted.extend(inner.tell(told));
        drop(inner);
        admitted.drain(..).for_each(|go_on| go_on());
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

    /// A session keeps pages of a file through one more open, if `new` says so.
    pub(super) fn keep_length(&self, session: SessionId, new: impl FnOnce() -> Option<InodeNo>) {
        let mut inner = self.inner.lock();
        // Asked under the lock: an open that is being closed either is closed now, or lets go after this.
        if let Some(ino) = new() {
            inner.lengths.keep(session, ino);
        }
    }

    /// A session has closed an open through which it kept pages of a file.
    pub(super) fn let_length_go(&self, session: SessionId, ino: InodeNo) {
        self.tell(|lengths| lengths.let_go(session, ino));
    }

    /// Whether kernels of other sessions must see when the file becomes longer.
    pub(super) fn is_length_kept(&self, ino: InodeNo, session: SessionId) -> bool {
        self.inner.lock().lengths.concern(ino, Some(session))
    }

    /// A session has made a file longer; `go_on` is called when all other kernels that keep pages of it have
    /// seen that.
    pub(super) fn grew(
        &self,
        ino: InodeNo,
        session: SessionId,
        go_on: impl FnOnce() + Send + 'static,
    ) {
        let mut inner = self.inner.lock();
        let mut told = Vec::new();
        let growth = inner.lengths.grow(clock::since_boot(), ino, Some(session), &mut told);
        inner.growing.insert(growth, Box::new(go_on));
        let seen = inner.tell(told);
        drop(inner);
        seen.into_iter().for_each(|go_on| go_on());
    }

    /// Somebody who asks nobody may have made a file longer.
    fn grew_unasked(&self, ino: InodeNo) {
        self.tell(|lengths| {
            let mut told = Vec::new();
            if lengths.concern(ino, None) {
                lengths.grow(clock::since_boot(), ino, None, &mut told);
            }
            told
        });
    }

    fn tell(&self, step: impl FnOnce(&mut Lengths) -> Vec<Told>) {
        let mut inner = self.inner.lock();
        let told = step(&mut inner.lengths);
        let seen = inner.tell(told);
        drop(inner);
        seen.into_iter().for_each(|go_on| go_on());
    }

    /// A change that is not announced yet.
    pub(super) fn change(self: &Arc<Self>) -> ChangeHold {
        let mut inner = self.inner.lock();
        inner.last_change += 1;
        ChangeHold { coherence: Arc::clone(self), id: inner.last_change }
    }

    /// Announces a change of `session`. Gives `job` back if it is admitted at once; else it goes on by
    /// `resume` when it is.
    pub(super) fn announce<J: Asked + Send + 'static>(
        &self,
        id: ChangeId,
        session: SessionId,
        touches: Vec<Touch>,
        job: J,
        resume: impl FnOnce(J) + Send + 'static,
    ) -> Option<J> {
        self.ask(id, Event::Change { id, session: Some(session), touches }, job, resume)
    }

    /// As [`Self::announce`], for what else an admitted change turned out to concern.
    pub(super) fn extend<J: Asked + Send + 'static>(
        &self,
        id: ChangeId,
        touches: Vec<Touch>,
        job: J,
        resume: impl FnOnce(J) + Send + 'static,
    ) -> Option<J> {
        self.ask(id, Event::Extend { id, touches }, job, resume)
    }

    /// A change that goes on until the hold is dropped. Nothing waits for it to be admitted: what others
    /// remember of the file has been asked back by the change it came from.
    pub(super) fn change_for_long(
        self: &Arc<Self>,
        session: Option<SessionId>,
        touches: Vec<Touch>,
    ) -> ChangeHold {
        let hold = self.change();
        self.step(Event::Lasting { id: hold.id, session, touches });
        hold
    }

    /// Announces that a session reads data to keep it; as [`Self::announce`].
    pub(super) fn announce_fill<J: Asked + Send + 'static>(
        &self,
        id: ChangeId,
        session: SessionId,
        (ino, writes): (InodeNo, bool),
        job: J,
        resume: impl FnOnce(J) + Send + 'static,
    ) -> Option<J> {
        self.ask(id, Event::Fill { id, session, ino, writes }, job, resume)
    }

    /// Whether somebody may keep the file's data, or waits to.
    pub(super) fn is_data_leased(&self, ino: InodeNo) -> bool {
        self.inner.lock().grantor.is_data_leased(ino)
    }

    /// Begins a reading; before the tree is looked at.
    pub(super) fn begin_reading(&self) -> ReadingHold<'_> {
        let reading = self.inner.lock().grantor.begin_reading();
        ReadingHold { coherence: self, reading: Some(reading) }
    }

    fn ask<J: Asked + Send + 'static>(
        &self,
        id: ChangeId,
        event: Event,
        job: J,
        resume: impl FnOnce(J) + Send + 'static,
    ) -> Option<J> {
        let mut inner = self.inner.lock();
        let (mut admitted, at_once) = inner.step(event, Some(id));
        let job = if at_once {
            Some(job)
        } else {
            m::SERVER_CHANGES_DELAYED.add_one();
            let (since, asker) = (clock::since_boot(), job.asker());
            let go_on = Box::new(move || resume(job));
            inner.waiting.insert(id, Delayed { since, asker, go_on });
            None
        };
        drop(inner);
        admitted.drain(..).for_each(|go_on| go_on());
        job
    }

    /// Who may remember what of a file, and what waits for them.
    pub(super) fn holdings(&self, ino: InodeNo) -> Holdings {
        let inner = self.inner.lock();
        let (grantor, now) = (&inner.grantor, clock::since_boot());
        let ago = |then: Duration| now.saturating_sub(then);
        let holding = |held: Held| {
            let heard = grantor.heard(held.session).unwrap_or(now);
            Holding {
                session: held.session,
                leases: held.leases,
                held: held.since.map(ago),
                asked: held.asked.map(ago),
                silent: ago(heard),
                left: (heard + inner.term).saturating_sub(now),
            }
        };
        let pending = |(id, session, leases, _): (ChangeId, Option<SessionId>, Leases, bool)| {
            let waits = inner.waiting.get(&id).map(|delayed| (delayed.asker, ago(delayed.since)));
            Pending { session, leases, waits }
        };
        Holdings {
            leases: grantor.holders_of(ino).into_iter().map(holding).collect(),
            changes: grantor.changes_of(ino).into_iter().map(pending).collect(),
            grace: grantor.grace_until().map(|until| until.saturating_sub(now)),
        }
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
        let (mut admitted, _) = inner.step(event, None);
        drop(inner);
        admitted.drain(..).for_each(|go_on| go_on());
    }
}

impl Interest for Coherence {
    fn in_file(&self, ino: InodeNo) -> bool {
        let inner = self.inner.lock();
        !inner.grantor.holders_of(ino).is_empty() || inner.lengths.concern(ino, None)
    }

    fn in_anything(&self) -> bool {
        let inner = self.inner.lock();
        !inner.grantor.is_empty() || !inner.lengths.is_empty()
    }
}

// === impl Inner ===

impl Inner {
    /// Takes an event. What goes on now, to be run without the lock, and whether `asking` is admitted.
    fn step(
        &mut self,
        event: Event,
        asking: Option<ChangeId>,
    ) -> (SmallVec<[Continuation; 1]>, bool) {
        let (mut admitted, mut at_once) = (SmallVec::new(), false);
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
        (admitted, at_once)
    }

    /// Tells sessions what became longer. What goes on now, to be run without the lock.
    fn tell(&mut self, told: Vec<Told>) -> SmallVec<[Continuation; 1]> {
        let mut seen = SmallVec::new();
        for told in told {
            match told {
                Told::Tell(session, id, ino) => {
                    m::SERVER_RECALLS.add_one();
                    self.recall(session, id, &[(ino, Leases::LENGTH)]);
                }
                Told::Seen(growth) => seen.extend(self.growing.remove(&growth)),
            }
        }
        seen
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

fn touch(changed: &Changed) -> Touch {
    let other = if changed.names { Leases::DIRECTORY } else { Leases::DATA };
    (changed.ino, Leases::ATTRIBUTES | other)
}

// === impl ChangeHold ===

impl ChangeHold {
    pub(super) const fn id(&self) -> ChangeId {
        self.id
    }
}

impl Drop for ChangeHold {
    fn drop(&mut self) {
        self.coherence.step(Event::Done(self.id));
    }
}

impl std::fmt::Debug for ChangeHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ChangeHold").field(&self.id).finish()
    }
}

// === impl ReadingHold ===

impl ReadingHold<'_> {
    /// Ends the reading: which of the leases wished for `session` gets with the answer.
    pub(super) fn grant(
        mut self,
        session: SessionId,
        own: Option<ChangeId>,
        wishes: &[Touch],
    ) -> SmallVec<[Leases; 2]> {
        let Some(reading) = self.reading.take() else { return SmallVec::new() };
        let mut inner = self.coherence.inner.lock();
        let granted = inner.grantor.grant(clock::since_boot(), session, reading, own, wishes);
        let count = granted.iter().filter(|leases| !leases.is_empty()).count();
        m::SERVER_LEASES_GRANTED.add(count as u64);
        granted
    }
}

impl ReadingHold<'_> {
    /// Ends the reading of data: what the session may keep of it. `writes` says whether it has the file open
    /// for writing at this moment.
    pub(super) fn grant_data(
        mut self,
        session: SessionId,
        fill: ChangeId,
        ino: InodeNo,
        writes: impl FnOnce() -> bool,
    ) -> Leases {
        let Some(reading) = self.reading.take() else { return Leases::empty() };
        let mut inner = self.coherence.inner.lock();
        // Asked under the lock: an open for writing is counted before it asks for what is held for reading.
        let writes = writes();
        let granted =
            inner.grantor.grant_data(clock::since_boot(), session, reading, fill, ino, writes);
        m::SERVER_LEASES_GRANTED.add(u64::from(!granted.is_empty()));
        granted
    }
}

impl Drop for ReadingHold<'_> {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take() {
            self.coherence.inner.lock().grantor.end_reading(reading);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_greeting_that_was_overtaken_frees_nothing() {
        let patience = Duration::from_secs(1);
        let coherence =
            Coherence::new(Terms { term: patience, patience, files_per_session: 8 }, None);
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
