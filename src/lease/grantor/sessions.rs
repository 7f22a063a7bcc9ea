//! `SessionState`: what one session holds, and what it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use smallvec::SmallVec;

use super::{Action, Grantor, RecallId, Touch};
use crate::types::{InodeNo, Leases, SessionId};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionState {
    heard: Duration,
    /// The server ended it, or it did not answer: it holds what it holds until its term is over.
    cut: bool,
    files: BTreeMap<InodeNo, Since>,
    /// What it was asked for and has not returned, and by which recalls; never more than it holds.
    recalled: BTreeMap<InodeNo, SmallVec<[(RecallId, Leases); 1]>>,
    /// The recalls that are not wholly answered: since when, and how many files they wait for.
    asked: BTreeMap<RecallId, (Duration, usize)>,
}

/// Since when something is held, for people: two grantors that differ in nothing else are the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since(Duration);

// === impl Since ===

impl PartialEq for Since {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Since {}

impl Hash for Since {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

// === impl SessionState ===

impl SessionState {
    fn new(now: Duration) -> Self {
        Self {
            heard: now,
            cut: false,
            files: BTreeMap::new(),
            recalled: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// When something was last received from it.
    pub(super) const fn heard(&self) -> Duration {
        self.heard
    }

    /// On how many files it holds leases.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether it neither holds anything nor was asked for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.files.is_empty() && self.recalled.is_empty() && self.asked.is_empty()
    }

    /// Whether it may be granted more on a file. Not while it is asked for something there: its return may
    /// be of what it is granted now.
    pub(super) fn may_hold(&self, ino: InodeNo, limit: usize) -> bool {
        !self.cut
            && !self.recalled.contains_key(&ino)
            && (self.files.len() < limit || self.files.contains_key(&ino))
    }

    /// As [`Self::may_hold`] for a lease of another kind than what it is asked for: a return names kinds.
    pub(super) fn may_be_given(&self, ino: InodeNo, limit: usize) -> bool {
        !self.cut && (self.files.len() < limit || self.files.contains_key(&ino))
    }

    /// Since when it holds something on the file without a break.
    pub(super) fn held_since(&self, ino: InodeNo) -> Option<Duration> {
        self.files.get(&ino).map(|since| since.0)
    }

    /// Since when it is asked for something on the file.
    pub(super) fn asked_since(&self, ino: InodeNo) -> Option<Duration> {
        let (recall, _) = self.recalled.get(&ino)?.first()?;
        Some(self.asked.get(recall)?.0)
    }

    /// What of `wanted` it was not asked for yet.
    pub(super) fn not_asked(&self, ino: InodeNo, wanted: Leases) -> Leases {
        let asked = self.recalled.get(&ino).into_iter().flatten();
        asked.fold(wanted, |left, (_, leases)| left - *leases)
    }

    fn ask(&mut self, now: Duration, recall: RecallId, (ino, leases): Touch) {
        self.recalled.entry(ino).or_default().push((recall, leases));
        self.asked.entry(recall).or_insert((now, 0)).1 += 1;
    }

    /// An answer to a recall: what it gives back that was asked for.
    fn answer(&mut self, recall: RecallId, (ino, leases): Touch) -> Leases {
        let Some(asked) = self.recalled.get_mut(&ino) else { return Leases::empty() };
        let Some((_, left)) = asked.iter_mut().find(|(id, _)| *id == recall) else {
            return Leases::empty();
        };
        let given = *left & leases;
        *left -= given;
        if left.is_empty() {
            asked.retain(|(id, _)| *id != recall);
            if asked.is_empty() {
                self.recalled.remove(&ino);
            }
            if let Some((_, files)) = self.asked.get_mut(&recall) {
                *files -= 1;
                if *files == 0 {
                    self.asked.remove(&recall);
                }
            }
        }
        given
    }

    /// It holds nothing any more: what it held.
    fn clear(&mut self) -> BTreeSet<InodeNo> {
        self.recalled.clear();
        self.asked.clear();
        std::mem::take(&mut self.files).into_keys().collect()
    }
}

// === impl Grantor ===

impl Grantor {
    pub(super) fn attach(&mut self, now: Duration, session: SessionId, out: &mut Vec<Action>) {
        let state = self.sessions.entry(session).or_insert_with(|| SessionState::new(now));
        state.heard = now;
        let files = state.clear();
        self.free(session, files, out);
    }

    /// Also while it is being cut: what is answered meanwhile extends its client's term.
    pub(super) fn hear(&mut self, now: Duration, session: SessionId) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.heard = now;
        }
    }

    pub(super) fn cut(&mut self, session: SessionId) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.cut = true;
        if state.is_idle() {
            self.sessions.remove(&session);
        }
    }

    pub(super) fn leave(&mut self, session: SessionId, out: &mut Vec<Action>) {
        let Some(mut state) = self.sessions.remove(&session) else { return };
        let files = state.clear();
        self.free(session, files, out);
    }

    pub(super) fn hold(
        &mut self,
        now: Duration,
        session: SessionId,
        (ino, leases): Touch,
    ) -> Leases {
        let Some(state) = self.sessions.get_mut(&session) else { return Leases::empty() };
        state.files.entry(ino).or_insert(Since(now));
        let holders = &mut self.files.entry(ino).or_default().holders;
        match holders.iter_mut().find(|(holder, _)| *holder == session) {
            Some((_, held)) => *held |= leases,
            None => holders.push((session, leases)),
        }
        leases
    }

    pub(super) fn take_back(
        &mut self,
        session: SessionId,
        recall: RecallId,
        touches: &[Touch],
        out: &mut Vec<Action>,
    ) {
        for (ino, leases) in touches.iter().copied() {
            let Some(state) = self.sessions.get_mut(&session) else { return };
            let given = state.answer(recall, (ino, leases));
            if given.is_empty() {
                continue;
            }
            let Some(file) = self.files.get_mut(&ino) else { continue };
            for (_, held) in file.holders.iter_mut().filter(|(holder, _)| *holder == session) {
                *held -= given;
                if held.is_empty() {
                    state.files.remove(&ino);
                }
            }
            file.holders.retain(|(_, held)| !held.is_empty());
            self.admit_on(ino, out);
            self.tidy(ino);
        }
    }

    /// Asks one session for what it holds of `touches`.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        session: SessionId,
        touches: &[Touch],
        out: &mut Vec<Action>,
    ) {
        self.recall_from(now, touches, |holder| holder == session, out);
    }

    /// Asks those sessions for what they hold of `touches` and have not been asked for. Says on which files
    /// somebody was asked.
    pub(super) fn recall_from(
        &mut self,
        now: Duration,
        touches: &[Touch],
        whom: impl Fn(SessionId) -> bool,
        out: &mut Vec<Action>,
    ) -> BTreeSet<InodeNo> {
        let mut recalls: BTreeMap<SessionId, (RecallId, Vec<Touch>)> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for (ino, touched) in touches {
            let Some(file) = self.files.get(ino) else { continue };
            for (session, held) in file.holders.iter().filter(|(holder, _)| whom(*holder)) {
                let Some(state) = self.sessions.get_mut(session) else { continue };
                let wanted = state.not_asked(*ino, *held & *touched);
                if wanted.is_empty() {
                    continue;
                }
                let (recall, list) = recalls.entry(*session).or_insert_with(|| {
                    self.last_recall += 1;
                    (self.last_recall, Vec::new())
                });
                state.ask(now, *recall, (*ino, wanted));
                list.push((*ino, wanted));
                asked.insert(*ino);
            }
        }
        let recall = |(session, (recall, list))| Action::Recall(session, recall, list);
        out.extend(recalls.into_iter().map(recall));
        asked
    }

    /// Takes what is held by sessions of which nothing was heard for a term: their clients have stopped
    /// using it before, as they count from when they sent.
    pub(super) fn lapse(&mut self, now: Duration, out: &mut Vec<Action>) {
        let term = self.terms.term;
        let lapsed = self.sessions.iter().filter(|(_, state)| {
            now >= state.heard + term && (state.cut || !state.files.is_empty())
        });
        for session in lapsed.map(|(session, _)| *session).collect::<Vec<_>>() {
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            let files = state.clear();
            if state.cut {
                self.sessions.remove(&session);
            }
            self.free(session, files, out);
        }
    }

    /// Cuts off who goes on talking but does not return what it was asked for. Who is silent lapses anyway,
    /// not later, and may keep its opens.
    pub(super) fn lose_patience(&mut self, now: Duration, out: &mut Vec<Action>) {
        let patience = self.terms.patience;
        for (session, state) in &mut self.sessions {
            let oldest = state.asked.values().next().map(|(since, _)| *since + patience);
            if !state.cut && oldest.is_some_and(|end| now >= end && state.heard >= end) {
                state.cut = true;
                out.push(Action::Cut(*session));
            }
        }
    }

    fn free(&mut self, session: SessionId, files: BTreeSet<InodeNo>, out: &mut Vec<Action>) {
        for ino in files {
            if let Some(file) = self.files.get_mut(&ino) {
                file.holders.retain(|(holder, _)| *holder != session);
            }
            self.admit_on(ino, out);
            self.tidy(ino);
        }
    }
}
