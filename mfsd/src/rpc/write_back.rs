//! Writing what a client has stored into pages under a lease: into the file, unless others have changed it since
//! and the client had lost the lease by then; then into a conflict copy, so that neither is lost.
//!
//! Looking and writing are one step for all sessions. What a local process writes between the two is not seen.
//!
//! Not here: what is known of who has changed a file (`writers`), where a copy is made (`mfs::export`).

use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use mfs::clock::since_boot;
use mfs::telemetry::metrics as m;
use mfs::types::op::{Operation, Outcome, Write, Written};
use mfs::types::{DataVersion, Errno, InodeNo, Leases, SessionId};
use mfs::wire::{Failure, ReturnLease};

use super::dispatch::Dispatch;
use super::effects::Effects;
use super::open_table::Held;
use super::run::Answer;
use super::session::{Owner, Session};
use super::tree::Tree;
use super::writers::Judgement;

/// A write through an open file.
struct Target<'a, T: Tree> {
    session: &'a Session<T>,
    open: T::Open,
    ino: InodeNo,
}

// === impl Dispatch ===

impl<T: Tree> Dispatch<T> {
    /// Executes an operation, as far as it concerns what clients have stored into pages and not written.
    pub(super) fn execute_for_writers(
        &self,
        session: &Session<T>,
        effects: &Effects<'_>,
        operation: Operation,
        execute: impl FnOnce(Operation) -> Answer,
    ) -> Answer {
        let writers = &self.coherence.writers;
        match &operation {
            Operation::Write(write) if write.known.is_some() || !writers.is_empty() => {
                let open = session.opens.lock().find(write.open);
                // Without one it is refused.
                let Some(open) = open else { return execute(operation) };
                let target = Target { session, ino: T::file_of(&open).1, open };
                match write.known {
                    Some(known) => self.write_back(&target, known, operation, execute),
                    None => {
                        writers.change_by(Some(&session.owner), target.ino);
                        self.write(&target, operation, execute)
                    }
                }
            }
            _ if writers.is_empty() => execute(operation),
            _ => self.change(session, effects, operation, execute),
        }
    }

    /// Keeps the files there that a session had open, and had stored into when it was lost.
    pub(super) fn anchor(&self, owner: &Owner, opens: &[Held<T::Open>]) {
        let writers = &self.coherence.writers;
        for (ino, file) in opens.iter().filter_map(|held| Some((held.ino?, &held.file))) {
            if writers.has(owner, ino)
                && let Some(anchor) = self.tree.anchor(file)
            {
                writers.anchor(owner, ino, anchor);
            }
        }
    }

    /// What was open before a restart cannot be opened any more: nobody can say what its client had stored.
    pub(super) fn note_removed(
        &self,
        session: &Session<T>,
        operation: &Operation,
        answer: &Answer,
    ) {
        let (Operation::Open(open), Err(Failure::File(Errno::Stale))) = (operation, answer) else {
            return;
        };
        let ino = self.tree.number_of(&open.file).filter(|_| open.proof.is_some());
        let lost = ino.and_then(|ino| self.coherence.writers.lost(&session.owner, ino));
        if let Some(place) = lost {
            let (by, place) = (self.name_of(session.owner.node), place.unwrap_or_default());
            tracing::error!(
                "{}: what {by} had stored in it and not written, if anything, is lost: it was removed, and mfsd was \
                 restarted",
                place.display()
            );
        }
    }

    /// A session gives leases back: what it had stored is written.
    pub(super) fn returned(&self, session: SessionId, lease: ReturnLease) {
        let may_store = |ino: &InodeNo| self.coherence.may_store(session, *ino);
        let given = lease.files.iter().filter(|(_, given)| given.contains(Leases::DATA_WRITE));
        let held: Vec<_> = given.map(|(ino, _)| *ino).filter(|ino| may_store(ino)).collect();
        self.coherence.returned(session, lease);
        // One that answers no recall gives nothing back.
        for ino in held.into_iter().filter(|ino| !may_store(ino)) {
            self.coherence.writers.returned(session, ino);
        }
    }

    /// Forgets who will write nothing back any more; to be called at intervals.
    pub(super) fn review_writers(&self) {
        let holds = |ino, session| self.coherence.may_store(session, ino);
        self.coherence.writers.rest(since_boot(), holds);
    }

    /// What changes the data of files, or takes their names away, otherwise than by a write.
    fn change(
        &self,
        session: &Session<T>,
        effects: &Effects<'_>,
        operation: Operation,
        execute: impl FnOnce(Operation) -> Answer,
    ) -> Answer {
        let (writers, owner) = (&self.coherence.writers, &session.owner);
        let victims = self.victims(effects);
        let changed = self.touches(session, effects).into_iter().chain(victims.iter().copied());
        // Who only opens to write takes the right to read alone.
        for (ino, _) in changed.filter(|(_, touched)| touched.contains(Leases::DATA_WRITE)) {
            writers.change_by(Some(owner), ino);
        }
        let removes = matches!(operation, Operation::Unlink(_) | Operation::Rename(_));
        let answer = execute(operation);
        if removes && answer.is_ok() {
            // What is only moved keeps the right to be open.
            let removed = victims.iter().filter(|(_, leases)| leases.contains(Leases::HANDLE));
            removed.for_each(|(ino, _)| writers.removed_by(owner, *ino));
        }
        answer
    }

    /// A write by which a program or an old client changes the file in any case.
    fn write(
        &self,
        target: &Target<'_, T>,
        operation: Operation,
        execute: impl FnOnce(Operation) -> Answer,
    ) -> Answer {
        let writers = &self.coherence.writers;
        if !writers.has(&target.session.owner, target.ino) {
            return execute(operation);
        }
        let turn = writers.turn(target.ino);
        let _shared = turn.read();
        self.with_version(target, execute(operation))
    }

    fn write_back(
        &self,
        target: &Target<'_, T>,
        known: DataVersion,
        operation: Operation,
        execute: impl FnOnce(Operation) -> Answer,
    ) -> Answer {
        let (writers, owner, ino) = (&self.coherence.writers, target.session.owner, target.ino);
        let holds = |session| self.coherence.may_store(session, ino);
        if T::is_removed(&target.open) && writers.removed_by_others(&owner, ino, holds) {
            return self.keep_apart(target, known, &operation);
        }
        // Asked before it is told: what is kept apart is no change.
        let told = self.judge(target, known) == Judgement::Unchanged;
        if told {
            writers.change_by(Some(&owner), ino);
        }
        let turn = writers.turn(ino);
        {
            let _shared = turn.read();
            match self.judge(target, known) {
                Judgement::Unchanged if told => {
                    return self.with_version(target, execute(operation));
                }
                Judgement::Changed => return self.keep_apart(target, known, &operation),
                Judgement::Unchanged | Judgement::Look(_) => {}
            }
        }
        // Alone, so that what it has written itself by now is known.
        let _alone = turn.write();
        match self.judge(target, known) {
            Judgement::Changed => return self.keep_apart(target, known, &operation),
            Judgement::Look(versions) => {
                let version = T::version_of(&target.open).map_err(Failure::File)?;
                if !versions.iter().any(|known| known.is_same_data(&version)) {
                    return self.keep_apart(target, known, &operation);
                }
                let writer = (owner, target.session.id);
                writers.found_unchanged(since_boot(), writer, ino, known);
            }
            Judgement::Unchanged => {}
        }
        writers.mark(Some(&owner), ino);
        self.with_version(target, execute(operation))
    }

    fn judge(&self, target: &Target<'_, T>, known: DataVersion) -> Judgement {
        let holds = |session: SessionId| self.coherence.may_store(session, target.ino);
        self.coherence.writers.judge(&target.session.owner, target.ino, known, holds)
    }

    /// The answer to a write, with the version that it made if that is the client's own.
    fn with_version(&self, target: &Target<'_, T>, answer: Answer) -> Answer {
        let Ok(Outcome::Written(written)) = answer else { return answer };
        let made = T::version_of(&target.open).ok();
        let version = made.filter(|version| {
            self.coherence.writers.wrote(&target.session.owner, target.ino, *version)
        });
        Ok(Outcome::Written(Written { version, ..written }))
    }

    /// Writes into the conflict copy in place of the file.
    fn keep_apart(
        &self,
        target: &Target<'_, T>,
        known: DataVersion,
        operation: &Operation,
    ) -> Answer {
        let Operation::Write(Write { offset, data, .. }) = operation else {
            return Err(Failure::File(Errno::Proto));
        };
        let (writers, owner, ino) = (&self.coherence.writers, target.session.owner, target.ino);
        let by = self.name_of(owner.node);
        // One at a time, or each would make a copy.
        let _alone = self.parting.lock();
        let before = writers.copy(&owner, ino);
        let copied = T::write_apart(&target.open, &by, before.as_deref(), *offset, data);
        let file = T::path_of(&target.open).unwrap_or_else(|| "(a file without a name)".into());
        let copy = copied.map_err(|errno| {
            tracing::error!(
                "{}: what {by} had stored is lost, {} bytes from {offset} on: others had changed the file \
                 while {by} was away, and no conflict copy can be made: {errno}",
                file.display(),
                data.len()
            );
            Failure::File(Errno::Io)
        })?;
        if before.as_ref() != Some(&copy) {
            m::SERVER_CONFLICT_COPIES.add_one();
            tracing::warn!(
                "{}: others have changed it while {by} was away; what {by} had stored is in {}: compare \
                 them, then remove it",
                file.display(),
                copy.display()
            );
            writers.copied(since_boot(), (owner, target.session.id), ino, known, copy.clone());
        }
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let apart = Some(Bytes::copy_from_slice(copy.as_os_str().as_bytes()));
        Ok(Outcome::Written(Written { size, offset: *offset, apart, ..Written::default() }))
    }
}
