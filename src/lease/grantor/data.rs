//! Data leases: who may keep a file's bytes where a program can reach them without asking.
//!
//! Bytes in the page cache of a client's kernel are read, and if it has the file open for writing also
//! changed, without a message. So any number of sessions keep them for reading, or one for both, and
//! nobody keeps them without a lease: a reading of bytes that are to be kept (a fill) waits for the lease.
//!
//! A fill and a change of the data by another session are done in the order in which they were announced,
//! and so are two fills of which one is for changing. What was announced meanwhile asks the new holder for
//! the lease at once. A session that holds a lease on the data, also one that it is asked for, waits for
//! nobody with its fills: its kernel gives pages back only when the fills under way are answered. For the
//! same reason the writing back of what it has changed waits for nobody but those who remember attributes.
//! So only those wait who owe nothing themselves, and there is no ring.

use std::time::Duration;

use super::changes::Change;
use super::{Action, ChangeId, Grantor, Reading, Touch};
use crate::types::{InodeNo, Leases, SessionId};

// === impl Grantor ===

impl Grantor {
    pub(super) fn announce_fill(
        &mut self,
        now: Duration,
        id: ChangeId,
        session: SessionId,
        ino: InodeNo,
        writes: bool,
        out: &mut Vec<Action>,
    ) {
        let wish = if writes { Leases::DATA_WRITE } else { Leases::DATA_READ };
        let in_the_way = if writes { Leases::DATA } else { Leases::DATA_WRITE };
        // Who holds something keeps it: what it lacks it is granted when it has returned that.
        let kept = self.held(session, ino).intersects(Leases::DATA);
        let touched = if kept { Leases::empty() } else { in_the_way };
        self.enter(now, id, Change::new(Some(session), &[(ino, touched)], wish), out);
    }

    pub(super) fn announce_lasting(
        &mut self,
        now: Duration,
        id: ChangeId,
        session: Option<SessionId>,
        touches: &[Touch],
        out: &mut Vec<Action>,
    ) {
        let change = Change::new(session, touches, Leases::empty());
        self.enter(now, id, change.lasting(), out);
    }

    /// What `session` may keep of the data that the fill `id` has read: what it holds and was not asked for,
    /// or what it is granted now, or `DATA_ONCE` where nothing can be granted; ends the reading. To be called
    /// before the fill is done. `writes`: it has the file open for writing by now, and what it keeps for
    /// reading alone it could change unseen.
    ///
    /// Nothing: it was served as one who holds what it is asked for. If it has returned that meanwhile it
    /// must read again, as it must if the file was changed beside the reading.
    pub fn grant_data(
        &mut self,
        now: Duration,
        session: SessionId,
        reading: Reading,
        id: ChangeId,
        ino: InodeNo,
        writes: bool,
    ) -> Leases {
        let is_current = self.readings.is_current(&reading, ino);
        self.readings.end(reading);
        let Some(fill) = self.changes.get(&id) else { return Leases::empty() };
        // One that was announced by who held something has not waited for anybody.
        let has_waited = fill.touches().any(|(_, touched)| !touched.is_empty());
        let wish = fill.wish;
        let Some(state) = self.sessions.get(&session) else { return Leases::DATA_ONCE };
        let held = self.held(session, ino) & Leases::DATA;
        let kept = state.not_asked(ino, held);
        let suffices = if writes { Leases::DATA_WRITE } else { Leases::DATA };
        if kept.intersects(suffices) {
            return kept;
        }
        if !state.may_be_given(ino, self.terms.files_per_session)
            || self.changes_for_long(ino, wish)
        {
            return Leases::DATA_ONCE;
        }
        let suits = !writes || wish == Leases::DATA_WRITE;
        let is_free = is_current && has_waited && held.is_empty() && suits;
        if is_free { self.hold(now, session, (ino, wish)) } else { Leases::empty() }
    }

    /// Whether somebody may keep the file's data, or waits to.
    pub fn is_data_leased(&self, ino: InodeNo) -> bool {
        let Some(file) = self.files.get(&ino) else { return false };
        let is_fill = |id: &ChangeId| self.changes.get(id).is_some_and(Change::is_fill);
        file.holders.iter().any(|(_, held)| held.intersects(Leases::DATA))
            || file.changing.iter().any(|(id, _)| is_fill(id))
    }

    /// A fill or a change of the data is done: what waits asks for what it left, and goes on if it may.
    pub(super) fn hand_on(&mut self, now: Duration, ino: InodeNo, out: &mut Vec<Action>) {
        let Some(file) = self.files.get(&ino) else { return };
        let waiting: Vec<_> = file.changing.iter().copied().collect();
        for (id, touched) in waiting {
            let Some(change) = self.changes.get(&id).filter(|change| !change.is_lasting()) else {
                continue;
            };
            let data = touched & Leases::DATA;
            if !data.is_empty() && !self.suffices(change, ino) {
                let session = change.session();
                self.recall(now, session, &[(ino, data)], out);
            }
        }
        self.admit_on(ino, out);
    }

    /// Whether nothing else must be done before this change on account of data: what was announced before it,
    /// or is being done.
    pub(super) fn is_in_order(&self, id: ChangeId, change: &Change, (ino, touched): Touch) -> bool {
        if !touched.intersects(Leases::DATA) {
            return true;
        }
        let Some(file) = self.files.get(&ino) else { return true };
        let own = file.changing.iter().position(|(other, _)| *other == id);
        !file.changing.iter().enumerate().any(|(at, (other, their))| {
            let Some(other) = self.changes.get(other) else { return false };
            // Of those after it only what is being done, by who held the lease.
            if own.is_none_or(|own| at >= own) && !other.is_admitted() {
                return false;
            }
            let is_other = other.session().is_none() || other.session() != change.session();
            let for_them = touched.contains(Leases::DATA_READ) && !other.wish.is_empty();
            let for_us = their.contains(Leases::DATA_READ) && !change.wish.is_empty();
            is_other && !other.is_lasting() && (for_them || for_us)
        })
    }

    /// The leases of others that are not in the way of this change, as its session holds enough.
    pub(super) fn not_awaited(&self, change: &Change, ino: InodeNo) -> Leases {
        if self.suffices(change, ino) { Leases::DATA } else { Leases::empty() }
    }

    /// Whether its session holds enough not to wait for others' use of the data.
    fn suffices(&self, change: &Change, ino: InodeNo) -> bool {
        let held = change.session().map_or(Leases::empty(), |session| self.held(session, ino));
        let enough = if change.wish.is_empty() { Leases::DATA_WRITE } else { Leases::DATA };
        held.intersects(enough)
    }

    fn changes_for_long(&self, ino: InodeNo, wish: Leases) -> bool {
        let Some(file) = self.files.get(&ino) else { return false };
        file.changing.iter().any(|(id, touched)| {
            touched.intersects(wish) && self.changes.get(id).is_some_and(Change::is_lasting)
        })
    }

    fn held(&self, session: SessionId, ino: InodeNo) -> Leases {
        let held = self.files.get(&ino).and_then(|file| {
            file.holders.iter().find(|(holder, _)| *holder == session).map(|(_, held)| *held)
        });
        held.unwrap_or(Leases::empty())
    }
}
