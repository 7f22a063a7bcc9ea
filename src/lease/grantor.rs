//! `Grantor`: the server's half of leases.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use smallvec::SmallVec;

use crate::types::{InodeNo, Leases, SessionId};

/// Files on which more recalls than this are sent within [`QUIET`] are not leased for as long.
const RESTLESS: u32 = 3;

/// See [`RESTLESS`].
const QUIET: Duration = Duration::from_secs(1);

/// What the grantor goes by.
#[derive(Debug, Clone, Copy)]
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
    /// Clients that may hold something, until they greet.
    pub awaited: HashSet<u64>,
    /// When it is over at the latest.
    pub until: Duration,
}

/// A file, and what of it is read or changed.
pub type Touch = (InodeNo, Leases);

/// Names a change; chosen by the caller, never twice.
pub type ChangeId = u64;

/// The beginning of a reading, to be taken before the tree is looked at.
#[derive(Debug)]
#[must_use = "a reading that is not ended is remembered for ever"]
pub struct Reading {
    began: u64,
}

/// What happens to the grantor. Times are [`crate::clock::since_boot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session begins, or one goes on over a new connection.
    Attached(SessionId),
    /// Something was received from a session.
    Heard(SessionId),
    /// A session returns leases.
    Returned(SessionId, Vec<Touch>),
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
        /// What.
        touches: Vec<Touch>,
    },
    /// An admitted change concerns more than was known when it was announced.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask a session for leases.
    Recall(SessionId, Vec<Touch>),
    /// The change may be made.
    Admit(ChangeId),
    /// End the session: it does not return what it was asked for.
    Cut(SessionId),
}

/// All leases of one tree.
#[derive(Debug)]
pub struct Grantor {
    terms: Terms,
    grace: Option<Grace>,
    /// Counts changes as they begin and end.
    clock: u64,
    files: HashMap<InodeNo, FileState>,
    sessions: HashMap<SessionId, SessionState>,
    changes: BTreeMap<ChangeId, Change>,
    /// Readings under way, by when they began.
    readings: BTreeMap<u64, usize>,
    /// Files that were changed while a reading was under way, by when.
    changed: BTreeSet<(u64, InodeNo)>,
    /// Readings that began before this are granted nothing.
    forgotten_at: u64,
    /// Recalls on files since a time.
    restless: HashMap<InodeNo, (u32, Duration)>,
}

#[derive(Debug, Default)]
struct FileState {
    holders: SmallVec<[(SessionId, Leases); 2]>,
    /// Changes that were announced, in this order.
    changing: SmallVec<[(ChangeId, Leases); 1]>,
    /// When it was last changed, by [`Grantor::clock`]; 0: before every reading that is under way.
    changed_at: u64,
}

#[derive(Debug)]
struct SessionState {
    heard: Duration,
    /// The server ended it, or it did not answer: it holds what it holds until its term is over.
    cut: bool,
    files: HashSet<InodeNo>,
    /// What it was asked for and has not returned, and since when.
    recalled: HashMap<InodeNo, (Leases, Duration)>,
}

#[derive(Debug)]
struct Change {
    session: Option<SessionId>,
    touches: Vec<Touch>,
    phase: Phase,
}

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Announced.
    Waiting,
    /// It may be made.
    Admitted,
    /// It was admitted, and then turned out to concern more.
    Extending,
}

// === impl Grantor ===

impl Grantor {
    /// A grantor that has granted nothing; `grace` says what one before it may have granted.
    pub fn new(terms: Terms, grace: Option<Grace>) -> Self {
        Self {
            terms,
            grace,
            clock: 0,
            files: HashMap::new(),
            sessions: HashMap::new(),
            changes: BTreeMap::new(),
            readings: BTreeMap::new(),
            changed: BTreeSet::new(),
            forgotten_at: 0,
            restless: HashMap::new(),
        }
    }

    /// Takes an event at `now`, and says what is to be done, in this order.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Attached(session) => self.attach(now, session, &mut out),
            Event::Heard(session) => {
                if let Some(state) = self.sessions.get_mut(&session).filter(|state| !state.cut) {
                    state.heard = now;
                }
            }
            Event::Returned(session, touches) => {
                for (ino, leases) in touches {
                    self.take_back(session, ino, leases);
                    self.admit_on(ino, &mut out);
                }
            }
            Event::Left(session) => self.drop_session(session, &mut out),
            Event::Cut(session) => {
                if let Some(state) = self.sessions.get_mut(&session) {
                    state.cut = true;
                }
            }
            Event::Greeted(client) => self.greeted(client, &mut out),
            Event::Change { id, session, touches } => {
                let change = Change { session, touches: vec![], phase: Phase::Waiting };
                self.changes.insert(id, change);
                self.announce(now, id, touches, &mut out);
            }
            Event::Extend { id, touches } => self.announce(now, id, touches, &mut out),
            Event::Done(id) => self.done(id, &mut out),
            Event::Noticed(touches) => self.notice(now, &touches, &mut out),
            Event::Overflowed => {
                let held: Vec<Touch> =
                    self.files.iter().map(|(ino, state)| (*ino, state.granted())).collect();
                self.forgotten_at = self.clock + 1;
                self.notice(now, &held, &mut out);
            }
            Event::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// Begins a reading; [`Self::end_reading`] must follow.
    pub fn begin_reading(&mut self) -> Reading {
        *self.readings.entry(self.clock).or_default() += 1;
        Reading { began: self.clock }
    }

    /// Ends a reading without a wish.
    pub fn end_reading(&mut self, reading: Reading) {
        self.forget_reading(&reading);
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
            .map(|(ino, wish)| self.grant_one(now, session, &reading, own, *ino, *wish))
            .collect();
        self.forget_reading(&reading);
        granted
    }

    /// Who holds what on a file, and who has been asked for it since when.
    pub fn holders_of(&self, ino: InodeNo) -> Vec<(SessionId, Leases, Option<Duration>)> {
        let Some(file) = self.files.get(&ino) else { return vec![] };
        let asked = |session| Some(self.sessions.get(session)?.recalled.get(&ino)?.1);
        file.holders.iter().map(|(session, held)| (*session, *held, asked(session))).collect()
    }

    /// How many leases are held, counted by file and session.
    pub fn len(&self) -> usize {
        self.sessions.values().map(|session| session.files.len()).sum()
    }

    /// Whether no lease is held.
    pub fn is_empty(&self) -> bool {
        self.sessions.values().all(|session| session.files.is_empty())
    }

    fn grant_one(
        &mut self,
        now: Duration,
        session: SessionId,
        reading: &Reading,
        own: Option<ChangeId>,
        ino: InodeNo,
        wish: Leases,
    ) -> Leases {
        let none = Leases::empty();
        if reading.began < self.forgotten_at || self.is_restless(now, ino) {
            return none;
        }
        let limit = self.terms.files_per_session;
        let Some(state) = self.sessions.get_mut(&session).filter(|state| !state.cut) else {
            return none;
        };
        if state.recalled.contains_key(&ino)
            || (state.files.len() >= limit && !state.files.contains(&ino))
        {
            return none;
        }
        let file = self.files.entry(ino).or_default();
        let changing = file
            .changing
            .iter()
            .filter(|(id, _)| Some(*id) != own)
            .fold(none, |all, (_, touched)| all | *touched);
        if file.changed_at > reading.began || changing.intersects(wish) {
            self.tidy(ino);
            return none;
        }
        match file.holders.iter_mut().find(|(holder, _)| *holder == session) {
            Some((_, held)) => *held |= wish,
            None => file.holders.push((session, wish)),
        }
        state.files.insert(ino);
        wish
    }

    fn attach(&mut self, now: Duration, session: SessionId, out: &mut Vec<Action>) {
        let state = self.sessions.entry(session).or_insert_with(|| SessionState {
            heard: now,
            cut: false,
            files: HashSet::new(),
            recalled: HashMap::new(),
        });
        if state.cut {
            return;
        }
        state.heard = now;
        // What it was asked for over the connection before this one may not have arrived.
        let asked: Vec<_> =
            state.recalled.iter().map(|(ino, (leases, _))| (*ino, *leases)).collect();
        if !asked.is_empty() {
            out.push(Action::Recall(session, asked));
        }
    }

    fn greeted(&mut self, client: u64, out: &mut Vec<Action>) {
        let Some(grace) = &mut self.grace else { return };
        grace.awaited.remove(&client);
        if grace.awaited.is_empty() {
            self.end_grace(out);
        }
    }

    fn end_grace(&mut self, out: &mut Vec<Action>) {
        self.grace = None;
        for id in self.changes.keys().copied().collect::<Vec<_>>() {
            self.admit_if_clear(id, out);
        }
    }

    fn announce(
        &mut self,
        now: Duration,
        id: ChangeId,
        touches: Vec<Touch>,
        out: &mut Vec<Action>,
    ) {
        let Some(change) = self.changes.get_mut(&id) else { return };
        if change.phase == Phase::Admitted {
            change.phase = Phase::Extending;
        }
        let session = change.session;
        change.touches.extend_from_slice(&touches);
        for (ino, leases) in &touches {
            self.files.entry(*ino).or_default().changing.push((id, *leases));
        }
        self.recall(now, session, &touches, out);
        self.admit_if_clear(id, out);
    }

    fn done(&mut self, id: ChangeId, out: &mut Vec<Action>) {
        let Some(change) = self.changes.remove(&id) else { return };
        self.clock += 1;
        for (ino, _) in &change.touches {
            if let Some(file) = self.files.get_mut(ino) {
                file.changing.retain(|(other, _)| *other != id);
            }
            self.mark_changed(*ino);
        }
        for (ino, _) in change.touches {
            self.admit_on(ino, out);
            self.tidy(ino);
        }
    }

    fn notice(&mut self, now: Duration, touches: &[Touch], out: &mut Vec<Action>) {
        self.clock += 1;
        for (ino, _) in touches {
            self.mark_changed(*ino);
        }
        self.recall(now, None, touches, out);
        for (ino, _) in touches {
            self.tidy(*ino);
        }
    }

    /// Asks all sessions but one for what they hold of `touches` and have not been asked for.
    fn recall(
        &mut self,
        now: Duration,
        except: Option<SessionId>,
        touches: &[Touch],
        out: &mut Vec<Action>,
    ) {
        let mut asked: Vec<(SessionId, Vec<Touch>)> = Vec::new();
        for (ino, touched) in touches {
            let Some(file) = self.files.get(ino) else { continue };
            let mut any = false;
            for (session, held) in &file.holders {
                let wanted = *held & *touched;
                if Some(*session) == except || wanted.is_empty() {
                    continue;
                }
                let Some(state) = self.sessions.get_mut(session) else { continue };
                let (before, _) = state.recalled.entry(*ino).or_insert((Leases::empty(), now));
                let new = wanted - *before;
                if new.is_empty() {
                    continue;
                }
                *before |= new;
                any = true;
                match asked.iter_mut().find(|(other, _)| other == session) {
                    Some((_, list)) => list.push((*ino, new)),
                    None => asked.push((*session, vec![(*ino, new)])),
                }
            }
            if any {
                let (recalls, since) = self.restless.entry(*ino).or_insert((0, now));
                if now.saturating_sub(*since) >= QUIET {
                    (*recalls, *since) = (0, now);
                }
                *recalls += 1;
            }
        }
        out.extend(asked.into_iter().map(|(session, list)| Action::Recall(session, list)));
    }

    fn admit_on(&mut self, ino: InodeNo, out: &mut Vec<Action>) {
        let Some(file) = self.files.get(&ino) else { return };
        for id in file.changing.iter().map(|(id, _)| *id).collect::<SmallVec<[_; 4]>>() {
            self.admit_if_clear(id, out);
        }
    }

    fn admit_if_clear(&mut self, id: ChangeId, out: &mut Vec<Action>) {
        let Some(change) = self.changes.get(&id) else { return };
        if change.phase == Phase::Admitted || self.grace.is_some() {
            return;
        }
        if change.touches.iter().all(|touch| self.is_clear(id, change, *touch)) {
            if let Some(change) = self.changes.get_mut(&id) {
                change.phase = Phase::Admitted;
            }
            out.push(Action::Admit(id));
        }
    }

    /// Whether nothing stands in the way of a change on one file.
    fn is_clear(&self, id: ChangeId, change: &Change, (ino, touched): Touch) -> bool {
        let Some(file) = self.files.get(&ino) else { return true };
        let in_the_way = |(session, held): &(SessionId, Leases)| {
            Some(*session) != change.session && held.intersects(touched)
        };
        if file.holders.iter().any(in_the_way) {
            return false;
        }
        if !touched.contains(Leases::DIRECTORY) {
            return true;
        }
        // One change of a directory at a time, so that what it concerns stays what was found out before.
        // One that was admitted already waits only for others that were: those that wait may wait for it.
        let mut before = true;
        !file.changing.iter().any(|(other, leases)| {
            before &= *other != id;
            *other != id
                && leases.contains(Leases::DIRECTORY)
                && self.changes.get(other).is_some_and(|other| match other.phase {
                    Phase::Admitted | Phase::Extending => true,
                    Phase::Waiting => before && change.phase == Phase::Waiting,
                })
        })
    }

    fn take_back(&mut self, session: SessionId, ino: InodeNo, leases: Leases) {
        if let Some(file) = self.files.get_mut(&ino) {
            for (holder, held) in &mut file.holders {
                if *holder == session {
                    *held -= leases;
                }
            }
            file.holders.retain(|(_, held)| !held.is_empty());
            let holds = file.holders.iter().any(|(holder, _)| *holder == session);
            if !holds && let Some(state) = self.sessions.get_mut(&session) {
                state.files.remove(&ino);
            }
        }
        if let Some(state) = self.sessions.get_mut(&session)
            && let Some((asked, _)) = state.recalled.get_mut(&ino)
        {
            *asked -= leases;
            if asked.is_empty() {
                state.recalled.remove(&ino);
            }
        }
        self.tidy(ino);
    }

    /// Takes everything that a session holds, and forgets the session.
    fn drop_session(&mut self, session: SessionId, out: &mut Vec<Action>) {
        let Some(state) = self.sessions.remove(&session) else { return };
        self.take_all(session, state.files, out);
    }

    fn take_all(&mut self, session: SessionId, files: HashSet<InodeNo>, out: &mut Vec<Action>) {
        for ino in files {
            if let Some(file) = self.files.get_mut(&ino) {
                file.holders.retain(|(holder, _)| *holder != session);
            }
            self.admit_on(ino, out);
            self.tidy(ino);
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.grace.as_ref().is_some_and(|grace| now >= grace.until) {
            self.end_grace(out);
        }
        let Terms { term, patience, .. } = self.terms;
        let lapsed: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, state)| {
                now >= state.heard + term && (state.cut || !state.files.is_empty())
            })
            .map(|(session, _)| *session)
            .collect();
        for session in lapsed {
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            state.recalled.clear();
            let files = std::mem::take(&mut state.files);
            if state.cut {
                self.sessions.remove(&session);
            }
            self.take_all(session, files, out);
        }
        for (session, state) in &mut self.sessions {
            let overdue = |(_, since): &(Leases, Duration)| now >= *since + patience;
            if !state.cut && state.recalled.values().any(overdue) {
                state.cut = true;
                out.push(Action::Cut(*session));
            }
        }
        self.restless.retain(|_, (_, since)| now.saturating_sub(*since) < QUIET);
    }

    fn is_restless(&self, now: Duration, ino: InodeNo) -> bool {
        self.restless.get(&ino).is_some_and(|(recalls, since)| {
            *recalls > RESTLESS && now.saturating_sub(*since) < QUIET
        })
    }

    /// A file was changed; matters to the readings that are under way.
    fn mark_changed(&mut self, ino: InodeNo) {
        if self.readings.is_empty() {
            return;
        }
        self.files.entry(ino).or_default().changed_at = self.clock;
        self.changed.insert((self.clock, ino));
    }

    fn forget_reading(&mut self, reading: &Reading) {
        if let Some(count) = self.readings.get_mut(&reading.began) {
            *count -= 1;
            if *count == 0 {
                self.readings.remove(&reading.began);
            }
        }
        // What was changed before the oldest of them began matters to none.
        let oldest = self.readings.keys().next().copied().unwrap_or(self.clock);
        while let Some((at, ino)) = self.changed.first().copied().filter(|(at, _)| *at <= oldest) {
            self.changed.remove(&(at, ino));
            if let Some(file) = self.files.get_mut(&ino)
                && file.changed_at <= at
            {
                file.changed_at = 0;
            }
            self.tidy(ino);
        }
    }

    /// Forgets a file of which nothing is to be known.
    fn tidy(&mut self, ino: InodeNo) {
        if let Some(file) = self.files.get(&ino)
            && file.holders.is_empty()
            && file.changing.is_empty()
            && file.changed_at == 0
        {
            self.files.remove(&ino);
        }
    }
}

// === impl FileState ===

impl FileState {
    fn granted(&self) -> Leases {
        self.holders.iter().fold(Leases::empty(), |all, (_, held)| all | *held)
    }
}
