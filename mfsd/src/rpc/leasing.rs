//! Leases around one execution: from what an operation says it changes and tells (`effects`) to the
//! numbers of files, and from an answer to the leases that go with it.

use std::sync::atomic::Ordering;

use mfs::lease::{ChangeId, Touch};
use mfs::types::op::Outcome;
use mfs::types::{FileId, InodeNo, Leases};

use super::coherence::{ChangeHold, ReadingHold};
use super::dispatch::Dispatch;
use super::effects::{Effects, Subject, Told, answered, bits};
use super::run::Answer;
use super::session::Session;
use super::tree::Tree;

/// A reading whose answer may be remembered.
pub(super) struct Telling<'a, T: Tree> {
    reading: ReadingHold<'a>,
    /// Where local changes were noticed when it began.
    watched: T::Watched,
}

// === impl Dispatch ===

impl<T: Tree> Dispatch<T> {
    /// The files that an operation is known to change before it is looked for names.
    pub(super) fn touches(&self, session: &Session<T>, effects: &Effects<'_>) -> Vec<Touch> {
        let touch = |(subject, leases): &(Subject<'_>, Leases)| {
            Some((self.number(session, *subject)?, *leases))
        };
        effects.changes.iter().filter_map(touch).collect()
    }

    /// The files that it changes by their names; on a thread that may block, while no other session
    /// changes the directories.
    pub(super) fn victims(&self, effects: &Effects<'_>) -> Vec<Touch> {
        let victims = effects.victims.iter();
        victims
            .filter_map(|victim| {
                let ino = self.tree.number_of_name(victim.parent, victim.name)?;
                Some((ino, victim.leases))
            })
            .collect()
    }

    /// Begins a reading for a session that remembers; before the tree is looked at.
    pub(super) fn begin_telling(
        &self,
        session: &Session<T>,
        effects: &Effects<'_>,
    ) -> Option<Telling<'_, T>> {
        if !session.remembers.load(Ordering::Acquire) {
            return None;
        }
        let file = self.file(session, effects.told().next()?)?;
        let reading = self.coherence.begin_reading();
        // After the beginning: what is forgotten from now on is forgotten for this reading, too.
        let watched = self.tree.watch(&file);
        Some(Telling { reading, watched })
    }

    /// Ends a reading with its answer: the leases that go with it.
    pub(super) fn end_telling(
        &self,
        telling: Telling<'_, T>,
        session: &Session<T>,
        own: Option<ChangeId>,
        effects: &Effects<'_>,
        answer: &Answer,
    ) -> Leases {
        let Telling { reading, watched } = telling;
        if !effects.tells(answer) {
            return Leases::empty();
        }
        let covered = |subject| self.covered(session, &watched, subject);
        let named = |subject| covered(subject).filter(|_| self.has_exact_names(session, subject));
        let directories: Option<Vec<_>> = effects.directories.iter().copied().map(named).collect();
        let directories = directories.unwrap_or_default();
        let attributes = match (effects.attributes, answer) {
            (Some(Told::Of(subject)), _) => covered(subject).map(|ino| vec![ino]),
            (Some(Told::Answered), Ok(outcome)) => answered_number::<T>(&watched, outcome),
            (Some(Told::Listed), Ok(outcome)) => listed_numbers::<T>(&watched, outcome),
            (Some(Told::Answered | Told::Listed), Err(_)) | (None, _) => None,
        };
        let attributes = attributes.unwrap_or_default();
        let names = directories.iter().map(|ino| (*ino, Leases::DIRECTORY));
        let wishes: Vec<Touch> =
            names.chain(attributes.iter().map(|ino| (*ino, Leases::ATTRIBUTES))).collect();
        let granted = reading.grant(session.id, own, &wishes);
        let all = |granted: &[Leases]| !granted.is_empty() && granted.iter().all(|g| !g.is_empty());
        let (names, attributes) = granted.split_at(directories.len().min(granted.len()));
        bits(all(names), all(attributes))
    }

    /// After an open through which data may be written unseen: it is a change until it is released.
    pub(super) fn keep_changing(
        &self,
        session: &Session<T>,
        effects: &Effects<'_>,
    ) -> Option<ChangeHold> {
        let open = effects.writes_past?;
        let ino = self.number(session, Subject::Open(open))?;
        let hold = self.coherence.change_for_long(session.id, vec![(ino, Leases::ATTRIBUTES)]);
        // Released meanwhile, it is over.
        session.opens.lock().writes_past(open, hold)
    }

    /// Tells the grantor of local changes that were noticed.
    pub(super) fn notice(&self) {
        self.coherence.notice(|| self.tree.local_changes());
    }

    fn number(&self, session: &Session<T>, subject: Subject<'_>) -> Option<InodeNo> {
        match subject {
            Subject::File(file) => self.tree.number_of(file),
            Subject::Open(open) => {
                let open = session.opens.lock().find(open)?;
                Some(T::file_of(&open).1)
            }
        }
    }

    fn file(&self, session: &Session<T>, subject: Subject<'_>) -> Option<FileId> {
        match subject {
            Subject::File(file) => Some(file.clone()),
            Subject::Open(open) => {
                let open = session.opens.lock().find(open)?;
                Some(T::file_of(&open).0.clone())
            }
        }
    }

    fn has_exact_names(&self, session: &Session<T>, subject: Subject<'_>) -> bool {
        self.file(session, subject).is_some_and(|file| self.tree.has_exact_names(&file))
    }

    fn covered(
        &self,
        session: &Session<T>,
        watched: &T::Watched,
        subject: Subject<'_>,
    ) -> Option<InodeNo> {
        let file = self.file(session, subject)?;
        let number = self.tree.number_of(&file)?;
        T::covers(watched, &file).then_some(number)
    }
}

fn answered_number<T: Tree>(watched: &T::Watched, outcome: &Outcome) -> Option<Vec<InodeNo>> {
    let entry = answered(outcome)?;
    T::covers(watched, &entry.file).then(|| vec![entry.attr.ino])
}

fn listed_numbers<T: Tree>(watched: &T::Watched, outcome: &Outcome) -> Option<Vec<InodeNo>> {
    let Outcome::Listing(listing) = outcome else { return None };
    let entries = listing.entries.iter().filter_map(|entry| entry.entry.as_ref());
    entries.map(|entry| T::covers(watched, &entry.file).then_some(entry.attr.ino)).collect()
}
