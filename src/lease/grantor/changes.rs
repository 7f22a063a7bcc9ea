//! `Change`: what waits until nobody else may remember what it changes.
//!
//! A change waits for holders of leases, who return them whatever happens or lose them with their term; and,
//! before it is admitted, for changes of the same directories that were announced before it. As it is
//! announced in all of its directories at once, and never waits for another change later, there is no ring.

use std::collections::BTreeMap;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Action, ChangeId, Grantor, Touch};
use crate::types::{InodeNo, Leases, SessionId};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Change {
    session: Option<SessionId>,
    /// What its session knows that it changes; each file once.
    announced: SmallVec<[Touch; 4]>,
    /// What it changes beyond that; each file once.
    found: SmallVec<[Touch; 2]>,
    /// The data lease that it is for, if it is a reading of data to be kept.
    pub(super) wish: Leases,
    phase: Phase,
}

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Announced.
    Waiting,
    /// It may be made.
    Admitted,
    /// It was admitted, and then turned out to concern more.
    Extending,
    /// It is under way for long, and nobody waited for its beginning.
    Lasting,
}

// === impl Change ===

impl Change {
    pub(super) fn new(session: Option<SessionId>, touches: &[Touch], wish: Leases) -> Self {
        let announced = merged(touches).into_iter().collect();
        Self { session, announced, found: SmallVec::new(), wish, phase: Phase::Waiting }
    }

    /// The same as one that is under way for long.
    pub(super) fn lasting(self) -> Self {
        Self { phase: Phase::Lasting, ..self }
    }

    pub(super) const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Whether it reads data to keep it, and changes nothing.
    pub(super) const fn is_fill(&self) -> bool {
        !self.wish.is_empty()
    }

    pub(super) const fn is_admitted(&self) -> bool {
        matches!(self.phase, Phase::Admitted)
    }

    pub(super) const fn is_lasting(&self) -> bool {
        matches!(self.phase, Phase::Lasting)
    }

    /// All that it touches.
    pub(super) fn touches(&self) -> impl Iterator<Item = &Touch> {
        self.announced.iter().chain(&self.found)
    }
}

// === impl Grantor ===

impl Grantor {
    pub(super) fn announce(
        &mut self,
        now: Duration,
        id: ChangeId,
        session: Option<SessionId>,
        touches: &[Touch],
        out: &mut Vec<Action>,
    ) {
        self.enter(now, id, Change::new(session, touches, Leases::empty()), out);
    }

    /// Takes a change in, and asks for what is in its way.
    pub(super) fn enter(
        &mut self,
        now: Duration,
        id: ChangeId,
        change: Change,
        out: &mut Vec<Action>,
    ) {
        for (ino, leases) in &change.announced {
            let file = self.files.entry(*ino).or_default();
            file.changing.push((id, *leases));
            if leases.contains(Leases::DIRECTORY) {
                file.turns.push_back(id);
            }
        }
        self.recall(now, change.session, &change.announced, out);
        self.changes.insert(id, change);
        self.admit_if_clear(id, out);
    }

    pub(super) fn extend(
        &mut self,
        now: Duration,
        id: ChangeId,
        touches: &[Touch],
        out: &mut Vec<Action>,
    ) {
        let Some(change) = self.changes.get_mut(&id) else { return };
        if change.phase == Phase::Admitted {
            change.phase = Phase::Extending;
        }
        let mut found = merged(touches);
        for (ino, leases) in &change.announced {
            // What its session knows of it has stopped using; but what it has opened by itself stays open, and what
            // its kernel keeps stays there.
            let unused = *leases - (Leases::HANDLE | Leases::DATA_READ);
            found.entry(*ino).and_modify(|left| *left -= unused);
        }
        found.retain(|_, leases| !leases.is_empty());
        let found: SmallVec<[Touch; 2]> = found.into_iter().collect();
        change.found = merged(change.found.iter().chain(&found)).into_iter().collect();
        for (ino, leases) in &found {
            self.files.entry(*ino).or_default().changing.push((id, *leases));
        }
        self.recall(now, None, &found, out);
        self.admit_if_clear(id, out);
    }

    pub(super) fn done(&mut self, now: Duration, id: ChangeId, out: &mut Vec<Action>) {
        let Some(change) = self.changes.remove(&id) else { return };
        if !change.is_fill() {
            self.readings.change(change.touches().map(|(ino, _)| *ino));
        }
        for (ino, touched) in change.touches().copied() {
            let Some(file) = self.files.get_mut(&ino) else { continue };
            file.changing.retain(|(other, _)| *other != id);
            file.turns.retain(|other| *other != id);
            if let Some(next) = file.turns.front().copied() {
                self.admit_if_clear(next, out);
            }
            if touched.intersects(Leases::DATA) || change.is_fill() {
                self.hand_on(now, ino, out);
            }
            self.tidy(ino);
        }
    }

    pub(super) fn notice(&mut self, now: Duration, touches: &[Touch], out: &mut Vec<Action>) {
        self.readings.change(touches.iter().map(|(ino, _)| *ino));
        self.recall(now, None, touches, out);
    }

    pub(super) fn suspect_all(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.readings.change_all();
        let all: Vec<_> = self.files.keys().map(|ino| (*ino, Leases::all())).collect();
        self.recall(now, None, &all, out);
    }

    /// The leases on a file have become fewer.
    pub(super) fn admit_on(&mut self, ino: InodeNo, out: &mut Vec<Action>) {
        let Some(file) = self.files.get(&ino) else { return };
        for id in file.changing.iter().map(|(id, _)| *id).collect::<SmallVec<[_; 4]>>() {
            self.admit_if_clear(id, out);
        }
    }

    pub(super) fn admit_all(&mut self, out: &mut Vec<Action>) {
        for id in self.changes.keys().copied().collect::<Vec<_>>() {
            self.admit_if_clear(id, out);
        }
    }

    fn admit_if_clear(&mut self, id: ChangeId, out: &mut Vec<Action>) {
        let Some(change) = self.changes.get(&id) else { return };
        let is_under_way = matches!(change.phase, Phase::Admitted | Phase::Lasting);
        if is_under_way || self.grace.is_some() || !self.is_clear(id, change) {
            return;
        }
        if let Some(change) = self.changes.get_mut(&id) {
            change.phase = Phase::Admitted;
        }
        out.push(Action::Admit(id));
    }

    /// Whether nothing stands in the way of a change.
    fn is_clear(&self, id: ChangeId, change: &Change) -> bool {
        let in_turn = |ino| self.files.get(ino).is_none_or(|file| file.turns.front() == Some(&id));
        let free = |(ino, touched): &Touch, but: Option<SessionId>| {
            let touched = *touched - self.not_awaited(change, *ino);
            let in_the_way = |(holder, held): &(SessionId, Leases)| {
                Some(*holder) != but && held.intersects(touched)
            };
            !self.files.get(ino).is_some_and(|file| file.holders.iter().any(in_the_way))
                && self.is_in_order(id, change, (*ino, touched))
        };
        let mut names =
            change.announced.iter().filter(|(_, leases)| leases.contains(Leases::DIRECTORY));
        (change.phase != Phase::Waiting || names.all(|(ino, _)| in_turn(ino)))
            && change.announced.iter().all(|touch| free(touch, change.session))
            && change.found.iter().all(|touch| free(touch, None))
    }

    /// Asks all sessions but one for what they hold of `touches` and have not been asked for.
    pub(super) fn recall(
        &mut self,
        now: Duration,
        but: Option<SessionId>,
        touches: &[Touch],
        out: &mut Vec<Action>,
    ) {
        for ino in self.recall_from(now, touches, |holder| Some(holder) != but, out) {
            self.stir(now, ino);
        }
    }
}

/// Each file once.
fn merged<'a>(touches: impl IntoIterator<Item = &'a Touch>) -> BTreeMap<InodeNo, Leases> {
    let mut all = BTreeMap::new();
    for (ino, leases) in touches {
        *all.entry(*ino).or_insert(Leases::empty()) |= *leases;
    }
    all
}
