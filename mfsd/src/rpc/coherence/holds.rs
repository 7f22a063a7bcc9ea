//! Changes and readings as they are held: each is over when its hold is dropped.

use std::fmt;
use std::sync::Arc;

use mfs::clock;
use mfs::lease::{ChangeId, Event, Reading, Touch};
use mfs::telemetry::metrics as m;
use mfs::types::{InodeNo, Leases, SessionId};
use smallvec::SmallVec;

use super::{Asked, Coherence, Delayed};

/// A change from its announcement to its end; dropped, it is done.
#[must_use = "a change is done when this is dropped"]
pub(in crate::rpc) struct ChangeHold {
    coherence: Arc<Coherence>,
    id: ChangeId,
}

/// A reading that is under way; dropped, it ends without a wish.
#[must_use = "a reading ends when this is dropped"]
pub(in crate::rpc) struct ReadingHold<'a> {
    coherence: &'a Coherence,
    reading: Option<Reading>,
}

// === impl Coherence ===

impl Coherence {
    /// A change that is not announced yet.
    pub(in crate::rpc) fn change(self: &Arc<Self>) -> ChangeHold {
        let mut inner = self.inner.lock();
        inner.last_change += 1;
        ChangeHold { coherence: Arc::clone(self), id: inner.last_change }
    }

    /// Announces a change of `session`. Gives `job` back if it is admitted at once; else it goes on by
    /// `resume` when it is.
    pub(in crate::rpc) fn announce<J: Asked + Send + 'static>(
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
    pub(in crate::rpc) fn extend<J: Asked + Send + 'static>(
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
    pub(in crate::rpc) fn change_for_long(
        self: &Arc<Self>,
        session: Option<SessionId>,
        touches: Vec<Touch>,
    ) -> ChangeHold {
        let hold = self.change();
        self.step(Event::Lasting { id: hold.id, session, touches });
        hold
    }

    /// Announces that a session reads data to keep it; as [`Self::announce`].
    pub(in crate::rpc) fn announce_fill<J: Asked + Send + 'static>(
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
    pub(in crate::rpc) fn is_data_leased(&self, ino: InodeNo) -> bool {
        self.inner.lock().grantor.is_data_leased(ino)
    }

    /// Begins a reading; before the tree is looked at.
    pub(in crate::rpc) fn begin_reading(&self) -> ReadingHold<'_> {
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
        let stepped = inner.step(event, Some(id));
        let job = if stepped.at_once {
            Some(job)
        } else {
            m::SERVER_CHANGES_DELAYED.add_one();
            let (since, asker) = (clock::since_boot(), job.asker());
            let go_on = Box::new(move || resume(job));
            inner.waiting.insert(id, Delayed { since, asker, go_on });
            None
        };
        drop(inner);
        stepped.go_on();
        job
    }
}

// === impl ChangeHold ===

impl ChangeHold {
    pub(in crate::rpc) const fn id(&self) -> ChangeId {
        self.id
    }
}

impl Drop for ChangeHold {
    fn drop(&mut self) {
        self.coherence.step(Event::Done(self.id));
    }
}

impl fmt::Debug for ChangeHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChangeHold").field(&self.id).finish()
    }
}

// === impl ReadingHold ===

impl ReadingHold<'_> {
    /// Ends the reading: which of the leases wished for `session` gets with the answer.
    pub(in crate::rpc) fn grant(
        mut self,
        session: SessionId,
        own: Option<ChangeId>,
        wishes: &[Touch],
    ) -> SmallVec<[Leases; 2]> {
        let Some(reading) = self.reading.take() else { return SmallVec::new() };
        let mut inner = self.coherence.inner.lock();
        // Looked at under the lock: whoever waits to write from now on finds it granted.
        let unguarded = |(ino, wish): &Touch| *wish == Leases::HANDLE && !inner.is_guarded(*ino);
        let permitted =
            |touch: &Touch| (touch.0, if unguarded(touch) { Leases::empty() } else { touch.1 });
        let wishes: SmallVec<[Touch; 3]> = wishes.iter().map(permitted).collect();
        let granted = inner.grantor.grant(clock::since_boot(), session, reading, own, &wishes);
        let count = granted.iter().filter(|leases| !leases.is_empty()).count();
        m::SERVER_LEASES_GRANTED.add(count as u64);
        granted
    }
}

impl ReadingHold<'_> {
    /// Ends the reading of data: what the session may keep of it. `writes` says whether it has the file open
    /// for writing at this moment.
    pub(in crate::rpc) fn grant_data(
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
