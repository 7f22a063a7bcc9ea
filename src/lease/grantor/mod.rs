//! `Grantor`: the server's half of leases.
//!
//! Its parts: `readings` (what changed while an answer was made), `sessions` (who holds what, and was asked
//! for what), `changes` (what waits for it), `data` (who may keep a file's bytes). Everything is kept in order, so that a run can be repeated.

mod changes;
mod data;
mod readings;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use crate::types::{InodeNo, Leases, SessionId};
use changes::Change;
pub use readings::Reading;
use readings::Readings;
use sessions::SessionState;

/// Files on which more recalls than this are sent within [`QUIET`] are not leased for as long.
const RESTLESS: u32 = 3;

/// See [`RESTLESS`].
const QUIET: Duration = Duration::from_secs(1);

/// What the grantor goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How long leases last that their session does not renew.
    pub term: Duration,
    /// How long a session that lives may take to return leases; after that it is cut off.
    pub patience: Duration,
    /// Most files on which one session holds leases.
    pub files_per_session: usize,
}

/// What was granted before this grantor began: nothing is changed until it cannot be held any more.
#[derive(Debug, Clone)]
pub struct Grace {
    /// Clients that may hold something, until they greet. Empty: it is not known who, and only time ends it.
    pub awaited: HashSet<u64>,
    /// When it is over at the latest.
    pub until: Duration,
}

/// A file, and what of it is read or changed.
pub type Touch = (InodeNo, Leases);

/// Names a change; chosen by the caller, never twice.
pub type ChangeId = u64;

/// Names a recall; never 0, never twice.
pub type RecallId = u64;

/// What happens to the grantor. Times are [`crate::clock::since_boot`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The client of a session has greeted over a control stream, and so forgotten everything: what it held
    /// is free, and what it was asked for need not be returned.
    Attached(SessionId),
    /// Something was received from a session that may be answered.
    Heard(SessionId),
    /// A session returns leases that a recall asked for; any other return is ignored, as a newer grant may
    /// be under way to it. With 0, of its own motion: then it is asked for them.
    Returned(SessionId, RecallId, Vec<Touch>),
    /// A session has ended by its client's own word: it holds nothing any more.
    Left(SessionId),
    /// A session was ended by the server: its client may use what it holds until its term is over.
    Cut(SessionId),
    /// A client of before this grantor began has greeted, and so forgotten everything.
    Greeted(u64),
    /// A session (or the server itself) wants to change something.
    Change {
        /// Names it.
        id: ChangeId,
        /// Who; its own leases are not in the way.
        session: Option<SessionId>,
        /// What, as far as the session itself knows it: it uses nothing of it before it is answered.
        touches: Vec<Touch>,
    },
    /// As a change that nothing waits for but data leases, which are not granted beside it: what others
    /// remember is asked back, and it is under way at once, for as long as it takes.
    Lasting {
        /// Names it.
        id: ChangeId,
        /// Who; none of the sessions, if it is somebody who asks nobody.
        session: Option<SessionId>,
        /// What.
        touches: Vec<Touch>,
    },
    /// A session wants to read a file's data to keep it; [`Grantor::grant_data`] says whether it may. It is
    /// admitted and done like a change.
    Fill {
        /// Names it.
        id: ChangeId,
        /// Who.
        session: SessionId,
        /// Which file.
        ino: InodeNo,
        /// It may change what it keeps: it has the file open for writing.
        writes: bool,
    },
    /// An admitted change concerns more than its session knows: its leases on that are in the way, too.
    Extend {
        /// Which.
        id: ChangeId,
        /// What else.
        touches: Vec<Touch>,
    },
    /// A change is done, or was given up.
    Done(ChangeId),
    /// Somebody who asks nobody has changed something.
    Noticed(Vec<Touch>),
    /// Somebody who asks nobody may have changed anything.
    Overflowed,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask a session for leases.
    Recall(SessionId, RecallId, Vec<Touch>),
    /// The change may be made.
    Admit(ChangeId),
    /// End the session: it goes on talking, but does not return what it was asked for.
    Cut(SessionId),
}

/// What a session holds on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub session: SessionId,
    /// What.
    pub leases: Leases,
    /// Since when it has held something there without a break.
    pub since: Option<Duration>,
    /// Since when it is asked for it.
    pub asked: Option<Duration>,
}

/// All leases of one tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grantor {
    terms: Terms,
    /// Clients of before that have not greeted, and when that does not matter any more.
    grace: Option<(BTreeSet<u64>, Duration)>,
    files: BTreeMap<InodeNo, FileState>,
    sessions: BTreeMap<SessionId, SessionState>,
    changes: BTreeMap<ChangeId, Change>,
    readings: Readings,
    last_recall: RecallId,
    /// Recalls on files since a time.
    restless: BTreeMap<InodeNo, (u32, Duration)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct FileState {
    holders: SmallVec<[(SessionId, Leases); 2]>,
    /// Changes that were announced and are not done.
    changing: SmallVec<[(ChangeId, Leases); 1]>,
    /// Those of them that change names in this directory: one at a time, in this order, so that what a
    /// name means stays what was found out.
    turns: VecDeque<ChangeId>,
}

// === impl Grantor ===

impl Grantor {
    /// A grantor that has granted nothing; `grace` says what one before it may have granted.
    pub fn new(terms: Terms, grace: Option<Grace>) -> Self {
        Self {
            terms,
            grace: grace.map(|grace| (grace.awaited.into_iter().collect(), grace.until)),
            files: BTreeMap::new(),
            sessions: BTreeMap::new(),
            changes: BTreeMap::new(),
            readings: Readings::new(),
            last_recall: 0,
            restless: BTreeMap::new(),
        }
    }

    /// Takes an event at `now`, and says what is to be done, in this order.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Attached(session) => self.attach(now, session, &mut out),
            Event::Heard(session) => self.hear(now, session),
            Event::Returned(session, 0, touches) => self.ask(now, session, &touches, &mut out),
            Event::Returned(session, recall, touches) => {
                self.take_back(session, recall, &touches, &mut out);
            }
            Event::Left(session) => self.leave(session, &mut out),
            Event::Cut(session) => self.cut(session),
            Event::Greeted(client) => self.greeted(client, &mut out),
            Event::Change { id, session, touches } => {
                self.announce(now, id, session, &touches, &mut out);
            }
            Event::Lasting { id, session, touches } => {
                self.announce_lasting(now, id, session, &touches, &mut out);
            }
            Event::Fill { id, session, ino, writes } => {
                self.announce_fill(now, id, session, ino, writes, &mut out);
            }
            Event::Extend { id, touches } => self.extend(now, id, &touches, &mut out),
            Event::Done(id) => self.done(now, id, &mut out),
            Event::Noticed(touches) => self.notice(now, &touches, &mut out),
            Event::Overflowed => self.suspect_all(now, &mut out),
            Event::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// Begins a reading; [`Self::grant`] or [`Self::end_reading`] must follow.
    pub fn begin_reading(&mut self) -> Reading {
        self.readings.begin()
    }

    /// Ends a reading without a wish.
    pub fn end_reading(&mut self, reading: Reading) {
        self.readings.end(reading);
    }

    /// Ends a reading of `session`, as part of the change `own` if it is one, and says which of the leases
    /// wished for are granted with the answer.
    pub fn grant(
        &mut self,
        now: Duration,
        session: SessionId,
        reading: Reading,
        own: Option<ChangeId>,
        wishes: &[Touch],
    ) -> SmallVec<[Leases; 2]> {
        let granted = wishes
            .iter()
            .map(|touch| {
                let free = self.is_grantable(now, session, &reading, own, *touch);
                if free { self.hold(now, session, *touch) } else { Leases::empty() }
            })
            .collect();
        self.readings.end(reading);
        granted
    }

    /// Who holds what on a file.
    pub fn holders_of(&self, ino: InodeNo) -> Vec<Held> {
        let Some(file) = self.files.get(&ino) else { return vec![] };
        let held = |(session, leases): &(SessionId, Leases)| {
            let state = self.sessions.get(session);
            Held {
                session: *session,
                leases: *leases,
                since: state.and_then(|state| state.held_since(ino)),
                asked: state.and_then(|state| state.asked_since(ino)),
            }
        };
        file.holders.iter().map(held).collect()
    }

    /// Whether some session holds any of these leases on a file.
    pub fn is_held(&self, ino: InodeNo, leases: Leases) -> bool {
        let holders = self.files.get(&ino).into_iter().flat_map(|file| &file.holders);
        holders.into_iter().any(|(_, held)| held.intersects(leases))
    }

    /// When something was last received from a session that may hold something.
    pub fn heard(&self, session: SessionId) -> Option<Duration> {
        Some(self.sessions.get(&session)?.heard())
    }

    /// The changes of a file that were announced and are not done: whose, of what, and whether they were
    /// admitted.
    pub fn changes_of(&self, ino: InodeNo) -> Vec<(ChangeId, Option<SessionId>, Leases, bool)> {
        let changing = self.files.get(&ino).into_iter().flat_map(|file| &file.changing);
        let described = |(id, leases): &(ChangeId, Leases)| {
            let change = self.changes.get(id)?;
            Some((*id, change.session(), *leases, change.is_admitted()))
        };
        changing.filter_map(described).collect()
    }

    /// Until when nothing is changed at the longest, while a client of before may remember something.
    pub fn grace_until(&self) -> Option<Duration> {
        self.grace.as_ref().map(|(_, until)| *until)
    }

    /// Whether a change of the file was announced and is not done.
    pub fn is_changing(&self, ino: InodeNo) -> bool {
        let changing = self.files.get(&ino).into_iter().flat_map(|file| &file.changing);
        changing.into_iter().any(|(id, _)| self.changes.get(id).is_some_and(|c| !c.is_fill()))
    }

    /// How many leases are held, counted by file and session.
    pub fn len(&self) -> usize {
        self.sessions.values().map(SessionState::len).sum()
    }

    /// Whether no lease is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing is held, changed or read, and nothing is remembered of what was.
    pub fn is_idle(&self) -> bool {
        self.is_empty()
            && self.files.is_empty()
            && self.changes.is_empty()
            && self.readings.is_idle()
            && self.sessions.values().all(SessionState::is_idle)
    }

    fn is_grantable(
        &self,
        now: Duration,
        session: SessionId,
        reading: &Reading,
        own: Option<ChangeId>,
        (ino, wish): Touch,
    ) -> bool {
        let may_hold = |state: &SessionState| state.may_hold(ino, self.terms.files_per_session);
        let changing = |file: &FileState| {
            file.changing.iter().any(|(id, touched)| Some(*id) != own && touched.intersects(wish))
        };
        !wish.is_empty()
            && self.readings.is_current(reading, ino)
            && !self.is_restless(now, ino)
            && self.sessions.get(&session).is_some_and(may_hold)
            && !self.files.get(&ino).is_some_and(changing)
    }

    fn is_restless(&self, now: Duration, ino: InodeNo) -> bool {
        self.restless.get(&ino).is_some_and(|(recalls, since)| {
            *recalls > RESTLESS && now.saturating_sub(*since) < QUIET
        })
    }

    /// A recall on the file was sent.
    fn stir(&mut self, now: Duration, ino: InodeNo) {
        let (recalls, since) = self.restless.entry(ino).or_insert((0, now));
        if now.saturating_sub(*since) >= QUIET {
            (*recalls, *since) = (0, now);
        }
        *recalls += 1;
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.grace.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.end_grace(out);
        }
        self.lapse(now, out);
        self.lose_patience(now, out);
        self.restless.retain(|_, (_, since)| now.saturating_sub(*since) < QUIET);
    }

    fn greeted(&mut self, client: u64, out: &mut Vec<Action>) {
        let Some((awaited, _)) = &mut self.grace else { return };
        if awaited.remove(&client) && awaited.is_empty() {
            self.end_grace(out);
        }
    }

    fn end_grace(&mut self, out: &mut Vec<Action>) {
        self.grace = None;
        self.admit_all(out);
    }

    /// Forgets a file of which nothing is to be known.
    fn tidy(&mut self, ino: InodeNo) {
        if self.files.get(&ino).is_some_and(|file| *file == FileState::default()) {
            self.files.remove(&ino);
        }
    }
}
