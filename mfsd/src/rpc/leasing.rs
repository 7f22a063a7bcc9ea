//! Leases around one execution: from what an operation says it changes and tells (`effects`) to the
//! numbers of files, and from an answer to the leases that go with it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mfs::clock::since_boot;
use mfs::lease::{ChangeId, Touch};
use mfs::types::op::{Listing, Open, Operation, Outcome};
use mfs::types::{
    Access, Caller, DataVersion, FileId, FileKind, InodeNo, Leases, OpenFlags, OpenId,
};

use super::coherence::{ChangeHold, Coherence, GuardHold, ReadingHold};
use super::dispatch::Dispatch;
use super::effects::{Effects, HARMLESS, Keeping, Subject, Told, bits};
use super::run::Answer;
use super::session::Session;
use super::tree::Tree;

/// What is not granted on a file that is written past this daemon.
const PAST: Leases = Leases::ATTRIBUTES.union(Leases::DATA).union(Leases::HANDLE);

/// An open for writing that is under way; dropped, it is over.
pub(super) struct WriteIntent<T: Tree> {
    coherence: Arc<Coherence>,
    session: Arc<Session<T>>,
    ino: InodeNo,
}

/// A reading of data that is to be kept.
pub(super) struct Filling<'a, T: Tree> {
    reading: ReadingHold<'a>,
    ino: InodeNo,
    /// What it is, or was before the session changed it itself.
    version: Option<DataVersion>,
    open: Option<T::Open>,
    /// Local changes of it are noticed as long as this is kept, or it is leased.
    watched: T::Watched,
    /// It is guarded as long as this is kept, or it is leased.
    guarding: Option<GuardHold<'a>>,
}

/// A file that an operation may make longer, while others' kernels keep pages of it.
pub(super) struct Growing<T: Tree> {
    ino: InodeNo,
    /// The open that it is done through, if it is.
    open: Option<T::Open>,
    /// How long it was.
    length: u64,
}

/// A reading whose answer may be remembered.
pub(super) struct Telling<'a, T: Tree> {
    reading: ReadingHold<'a>,
    /// What is watched for it.
    watched: T::Watched,
    /// The files that only the answer names, as far as they are watched.
    found: Vec<InodeNo>,
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

    /// The number of the file whose data an operation reads, if somebody may keep that data.
    pub(super) fn looked_at(&self, session: &Session<T>, effects: &Effects<'_>) -> Option<InodeNo> {
        let (open, _) = effects.looks?;
        let ino = self.number(session, Subject::Open(open))?;
        self.coherence.is_data_leased(ino).then_some(ino)
    }

    /// The number of the file whose data an operation reads to keep it, for a session that remembers.
    pub(super) fn filled(&self, session: &Session<T>, effects: &Effects<'_>) -> Option<InodeNo> {
        let (open, keeping) = effects.looks?;
        let keeps = keeping == Keeping::Pages && session.remembers.load(Ordering::Acquire);
        keeps.then(|| self.number(session, Subject::Open(open))).flatten()
    }

    /// What a session has opened for reading by itself, while it was allowed to and until it returns the lease,
    /// is opened as what it had open before: the permissions of today do not count.
    pub(super) fn admit_leased(&self, session: &Session<T>, caller: &Caller, open: &mut Open) {
        if !open.flags.contains(OpenFlags::LEASED) {
            return;
        }
        open.flags -= OpenFlags::LEASED;
        let ino = self.tree.number_of(&open.file);
        let is_leased = |ino| self.coherence.holds_handle(session.id, ino);
        let plain = open.access == Access::Read && HARMLESS.contains(open.flags);
        if plain && ino.is_some_and(is_leased) {
            open.proof = self.tree.prove(session.owner.node, caller, open);
        }
    }

    /// Begins an open for writing: from now on its session keeps no data for reading alone, and nobody is let
    /// open the file unasked.
    pub(super) fn intend(
        &self,
        session: &Arc<Session<T>>,
        operation: &Operation,
    ) -> Option<WriteIntent<T>> {
        let Operation::Open(open) = operation else { return None };
        if !open.access.writes() {
            return None;
        }
        let ino = self.tree.number_of(&open.file)?;
        self.coherence.intend(ino);
        session.opens.lock().intend(ino);
        let coherence = Arc::clone(&self.coherence);
        Some(WriteIntent { coherence, session: Arc::clone(session), ino })
    }

    /// Begins a fill; before the tree is looked at.
    pub(super) fn begin_filling(
        &self,
        session: &Session<T>,
        effects: &Effects<'_>,
        ino: InodeNo,
    ) -> Option<Filling<'_, T>> {
        let (open, _) = effects.looks?;
        let file = self.file(session, Subject::Open(open))?;
        // Before the tree is looked at: what is longer than what is read now its kernel must be told.
        self.keep_length(session, open);
        let reading = self.coherence.begin_reading();
        let watched = self.tree.watch(&[(&file, Some(FileKind::Regular))]);
        // After that: who opens it from now on is noticed.
        self.look_beside(ino, &file);
        let open = session.opens.lock().find(open);
        let version = open.as_ref().and_then(|open| T::version_of(open).ok());
        // Before it is read: who writes it from now on waits until what is kept of it is returned.
        let guarding = open.as_ref().and_then(|open| self.guard_pages(session, &watched, open));
        Some(Filling { reading, ino, version, open, watched, guarding })
    }

    /// Ends a fill with its answer: what of the data may be kept.
    pub(super) fn end_filling(
        &self,
        filling: Filling<'_, T>,
        session: &Session<T>,
        fill: ChangeId,
        answer: &mut Answer,
    ) -> Leases {
        let Filling { reading, ino, version, open, watched, guarding } = filling;
        let Ok(Outcome::Data(read)) = answer else { return Leases::empty() };
        let granted =
            reading.grant_data(session.id, fill, ino, || session.opens.lock().writes(ino));
        if let Some(version) = version.filter(|_| granted.contains(Leases::DATA_WRITE)) {
            let (writers, writer) = (&self.coherence.writers, (session.owner, session.id));
            // Of a writer it is known already.
            let open = open.filter(|_| !writers.has(&session.owner, ino));
            let place = open.as_ref().and_then(T::path_of);
            writers.granted(since_boot(), writer, ino, version, place);
            read.version = Some(version);
        }
        // After that: its local changes are noticed as those of a file that has a writer.
        drop((watched, guarding));
        granted
    }

    /// Pages that are read through an open are kept from now on.
    pub(super) fn keep_length(&self, session: &Session<T>, open: OpenId) {
        if session.sees_lengths.load(Ordering::Acquire) {
            self.coherence.keep_length(session.id, || session.opens.lock().fill(open));
        }
    }

    /// Before an operation: the file that it may make longer, if that must be seen by others' kernels. May
    /// block.
    pub(super) fn begin_growing(
        &self,
        session: &Session<T>,
        effects: &Effects<'_>,
    ) -> Option<Growing<T>> {
        let subject = effects.lengthens?;
        let ino = self.number(session, subject)?;
        if !self.coherence.is_length_kept(ino, session.id) {
            return None;
        }
        let open = match subject {
            Subject::Open(open) => session.opens.lock().find(open),
            Subject::File(_) => None,
        };
        let length = open.as_ref().and_then(T::length_of).unwrap_or(0);
        Some(Growing { ino, open, length })
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

    /// The file that it cuts off, if somebody may open that without a message, or keeps pages of it.
    pub(super) fn opened_unasked(&self, effects: &Effects<'_>) -> Option<Touch> {
        let ino = self.tree.number_of(effects.cuts_off?)?;
        self.coherence.guarded_for(ino)
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
        let told = effects.told().map(|(file, kind)| Some((self.file(session, file)?, kind)));
        let told: Vec<_> = told.collect::<Option<_>>()?;
        if told.is_empty() {
            return None;
        }
        let reading = self.coherence.begin_reading();
        // After the beginning: what is forgotten from now on is forgotten for this reading, too.
        let told: Vec<_> = told.iter().map(|(file, kind)| (file, *kind)).collect();
        let watched = self.tree.watch(&told);
        Some(Telling { reading, watched, found: Vec::new() })
    }

    /// Watches what only the answer names. What was not watched when it was looked at is read anew, so this
    /// comes before local changes are taken note of.
    pub(super) fn watch_found(
        &self,
        telling: &mut Telling<'_, T>,
        effects: &Effects<'_>,
        answer: &mut Answer,
    ) {
        let Ok(outcome) = answer else { return };
        for entry in effects.found(outcome) {
            if self.tree.watch_found(&telling.watched, entry) {
                telling.found.push(entry.attr.ino);
            }
        }
    }

    /// Guards what was opened to be read, if its session may then open it again and read it by itself. To be
    /// called before local changes are taken note of: what was read unguarded they make old.
    pub(super) fn begin_guarding(
        &self,
        telling: &Telling<'_, T>,
        session: &Session<T>,
        effects: &Effects<'_>,
    ) -> Option<(InodeNo, GuardHold<'_>)> {
        let open = effects.opens_to_read?;
        if !session.keeps_handles.load(Ordering::Acquire) {
            return None;
        }
        let open = session.opens.lock().find(open)?;
        let (file, ino) = T::file_of(&open);
        if !T::covers(&telling.watched, ino) {
            return None;
        }
        let take = || {
            let (guard, used) = self.tree.guard(&open)?;
            self.note_beside(ino, file, used);
            Some(guard)
        };
        Some((ino, self.coherence.guard(ino, take)?))
    }

    /// Guards what is read to be kept, if that is possible.
    fn guard_pages(
        &self,
        session: &Session<T>,
        watched: &T::Watched,
        open: &T::Open,
    ) -> Option<GuardHold<'_>> {
        let (file, ino) = T::file_of(open);
        if session.opens.lock().writes(ino) || !T::covers(watched, ino) {
            return None;
        }
        let take = || {
            let (guard, used) = self.tree.guard(open)?;
            self.note_beside(ino, file, used);
            Some(guard)
        };
        let guarding = self.coherence.guard_pages(ino, take);
        if guarding.is_none() {
            self.look_now(ino, file);
        }
        guarding
    }

    /// Ends a reading with its answer: the leases that go with it.
    pub(super) fn end_telling(
        &self,
        telling: Telling<'_, T>,
        session: &Session<T>,
        own: Option<ChangeId>,
        effects: &Effects<'_>,
        guarded: Option<InodeNo>,
        answer: &mut Answer,
    ) -> Leases {
        let Telling { reading, watched, found } = telling;
        if !effects.tells(answer) {
            return Leases::empty();
        }
        let covered = |subject| self.covered(session, &watched, subject);
        let named = |subject| covered(subject).filter(|_| self.has_exact_names(session, subject));
        let directories: Option<Vec<_>> = effects.directories.iter().copied().map(named).collect();
        let directories = directories.unwrap_or_default();
        let attributes = match (effects.attributes, &*answer) {
            (Some(Told::Of(subject)), _) => covered(subject).into_iter().collect(),
            (Some(Told::Answered | Told::Listed), Ok(_)) => found,
            (Some(Told::Answered | Told::Listed), Err(_)) | (None, _) => Vec::new(),
        };
        let names = directories.iter().map(|ino| (*ino, Leases::DIRECTORY));
        let wishes = names.chain(attributes.iter().map(|ino| (*ino, Leases::ATTRIBUTES)));
        let handle = guarded.map(|ino| (ino, Leases::HANDLE));
        let wishes: Vec<Touch> = wishes.chain(handle).collect();
        let mut granted = reading.grant(session.id, own, &wishes);
        let handle = handle.and_then(|_| granted.pop()).unwrap_or(Leases::empty());
        let all = |granted: &[Leases]| !granted.is_empty() && granted.iter().all(|g| !g.is_empty());
        let (names, granted) = granted.split_at(directories.len().min(granted.len()));
        let told = match answer {
            Ok(Outcome::Listing(listing)) => {
                let leased =
                    attributes.iter().zip(granted).filter(|(_, granted)| !granted.is_empty());
                let leased: HashSet<InodeNo> = leased.map(|(ino, _)| *ino).collect();
                tell_parts(listing, &leased, session.takes_parts.load(Ordering::Acquire))
            }
            _ => all(granted),
        };
        bits(all(names), told) | handle
    }

    /// After an open through which data may be written unseen: it is a change until it is released.
    pub(super) fn keep_changing(
        &self,
        session: &Session<T>,
        effects: &Effects<'_>,
    ) -> Option<ChangeHold> {
        let open = effects.writes_past?;
        let ino = self.number(session, Subject::Open(open))?;
        let hold = self.coherence.change_for_long(Some(session.id), vec![(ino, PAST)]);
        // Released meanwhile, it is over.
        session.opens.lock().writes_past(open, hold)
    }

    /// Tells the grantor of local changes that were noticed.
    pub(super) fn notice(self: &Arc<Self>) {
        let mut used = Vec::new();
        self.coherence.notice(|| {
            let mut changes = self.tree.local_changes();
            self.coherence.writers.note(&changes);
            used = std::mem::take(&mut changes.used);
            changes
        });
        self.used_beside(used);
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
        self.number(session, subject).filter(|number| T::covers(watched, *number))
    }
}

/// Says of each entry whether the lease of attributes that goes with a listing concerns it, to a client that
/// understands that; to another it concerns all or none. Whether it is to go with it.
fn tell_parts(listing: &mut Listing, leased: &HashSet<InodeNo>, takes_parts: bool) -> bool {
    let mut whole = true;
    for listed in &mut listing.entries {
        let Some(entry) = &listed.entry else { continue };
        let is_leased = leased.contains(&entry.attr.ino);
        listed.unleased = takes_parts && !is_leased;
        whole &= is_leased;
    }
    !leased.is_empty() && (whole || takes_parts)
}

// === impl Growing ===

impl<T: Tree> Growing<T> {
    /// The file, if it is longer now.
    pub(super) fn grown(&self, answer: &Answer) -> Option<InodeNo> {
        let length = match (&self.open, answer) {
            (Some(open), _) => T::length_of(open),
            (None, Ok(Outcome::Attr(attr))) => Some(attr.size),
            (None, _) => None,
        };
        length.is_some_and(|length| length > self.length).then_some(self.ino)
    }
}

// === impl WriteIntent ===

impl<T: Tree> WriteIntent<T> {
    /// What nobody may keep of the file then, if anybody keeps it: its session no pages for reading alone, and
    /// nobody an open.
    pub(super) fn kept(&self, coherence: &Coherence) -> Option<Touch> {
        let filled = coherence.is_data_leased(self.ino).then_some(Leases::DATA_READ);
        let held = coherence.guarded_for(self.ino).map(|(_, held)| held);
        let kept = filled.into_iter().chain(held).collect::<Leases>();
        (!kept.is_empty()).then_some((self.ino, kept))
    }
}

impl<T: Tree> Drop for WriteIntent<T> {
    fn drop(&mut self) {
        self.session.opens.lock().forgo(self.ino);
        self.coherence.forgo(self.ino);
    }
}
