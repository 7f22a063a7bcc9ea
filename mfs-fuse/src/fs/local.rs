//! `Local`: this node's own files, used directly (dfsa=1).
//!
//! Data bypasses mfsd: finding, reading, listing and opening go to the export itself, by the same code that
//! mfsd runs. What changes names and attributes goes through mfsd, which knows who remembers them; a file
//! that is open for writing is open there, too, so that nobody remembers what is written past it; and so is
//! a program that runs, so that nobody writes it. Locks of jobs are taken there (`server_locks`).
//!
//! Lock order: `Local::noted` is a leaf.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mfs::export::{Export, OpenFile, OpenMap, Opens, Pool};
use mfs::sync::Mutex;
use mfs::telemetry::metrics::MOUNT_DIRECT_OPERATIONS;
use mfs::types::op::{self, Call, Create, Entry, Listing, Opened, Operation, Outcome};
use mfs::types::{Caller, Errno, FileId, OpenFlags, OpenId};

use super::backing::{Origin, Terms};
use super::remote::Remote;
use super::server_locks::ServerLocks;

/// Direct access to one export of this node.
#[derive(Debug)]
pub struct Local {
    export: Export,
    pool: Pool,
    pub(super) opens: Arc<OpenMap>,
    /// The opens that mfsd must know of, and their names there.
    pub(super) noted: Mutex<HashMap<OpenId, OpenId>>,
    /// The locks that mfsd has taken.
    pub(super) locks: ServerLocks,
    last_open: AtomicU64,
    changes: Changes,
    terms: Terms,
    /// Whether open files may be given to the kernel.
    lends: bool,
}

/// Who makes changes of names and attributes.
#[derive(Debug)]
pub enum Changes {
    /// This node's mfsd.
    Server(Remote),
    /// The export itself: nobody else serves the tree.
    Direct,
}

/// An open local file, for the kernel.
#[derive(Debug)]
pub struct LocalOpen(OpenFile);

/// An operation that was taken apart already; its answer is as it came.
pub(super) struct Whole(pub(super) Operation);

// === impl Whole ===

impl From<Whole> for Operation {
    fn from(whole: Whole) -> Self {
        whole.0
    }
}

impl Call for Whole {
    type Output = Outcome;

    fn answer(outcome: Outcome) -> Option<Outcome> {
        Some(outcome)
    }
}

// === impl LocalOpen ===

impl LocalOpen {
    /// The file's descriptor, if it is one that the kernel may be given.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_fd()
    }
}

// === impl Local ===

impl Local {
    /// Direct access to `export`, its changes made as `changes` says.
    ///
    /// `lends`: open files may be given to the kernel as backing files.
    pub fn new(export: Export, changes: Changes, terms: Terms, lends: bool) -> Arc<Self> {
        // The one session of this process: it may take all that the budget has.
        let opens = OpenMap::new(export.budget(), export.budget().limit());
        Arc::new(Self {
            export,
            pool: Pool::new(Pool::USUAL_THREADS),
            opens: Arc::new(opens),
            noted: Mutex::default(),
            locks: ServerLocks::default(),
            last_open: AtomicU64::new(0),
            changes,
            terms,
            lends,
        })
    }

    /// Executes one operation, directly or through mfsd.
    ///
    /// # Errors
    /// What the file system said; ETIMEDOUT if it did not answer in time.
    pub async fn call<C: Call>(&self, origin: &Origin<'_>, call: C) -> Result<C::Output, Errno> {
        let operation = call.into();
        let outcome = match &self.changes {
            Changes::Server(server) if concerns_others(&operation) => match operation {
                Operation::Create(create) => self.create(server, origin, create).await?,
                Operation::Open(open) => self.open(server, origin, open).await?,
                operation => server.call(origin, Whole(operation)).await?,
            },
            Changes::Server(server) => {
                let operation = match self.lock_there(server, origin, operation).await {
                    Ok(outcome) => return C::answer(outcome?).ok_or(Errno::Proto),
                    Err(operation) => operation,
                };
                if let Operation::Flush(op::Flush { open, owner: Some(owner) }) = operation {
                    self.unlock_there(server, origin, open, owner).await?;
                }
                let released = match &operation {
                    Operation::Release(release) => Some(release.open),
                    _ => None,
                };
                let asked = Self::is_lookup(&operation).then(|| operation.clone());
                let outcome = self.execute(origin.caller, operation).await;
                let noted = released
                    .and_then(|open| self.noted.lock().remove(&open).map(|theirs| (open, theirs)));
                if let Some((open, theirs)) = noted {
                    self.locks.forget(open, theirs);
                    self.release(server, origin, theirs).await;
                }
                match (outcome?, asked) {
                    (Outcome::Entry(entry), Some(lookup)) if !self.serves(&entry.file) => {
                        server.call(origin, Whole(lookup)).await?
                    }
                    (Outcome::Listing(listing), _) => {
                        Outcome::Listing(self.without_strangers(listing))
                    }
                    (outcome, _) => outcome,
                }
            }
            Changes::Direct => self.execute(origin.caller, operation).await?,
        };
        C::answer(outcome).ok_or(Errno::Proto)
    }

    /// Whether this file can be had directly: mfsd must mean the same by its id, since changes go there.
    pub fn serves(&self, file: &FileId) -> bool {
        match self.changes {
            Changes::Server(_) => self.export.is_known_elsewhere(file),
            Changes::Direct => true,
        }
    }

    /// The way to mfsd, for files that cannot be had directly.
    pub const fn server(&self) -> Option<&Remote> {
        match &self.changes {
            Changes::Server(server) => Some(server),
            Changes::Direct => None,
        }
    }

    const fn is_lookup(operation: &Operation) -> bool {
        matches!(operation, Operation::Lookup(_))
    }

    /// Entries that only this process knows by their ids are looked up when they are wanted.
    fn without_strangers(&self, mut listing: Listing) -> Listing {
        for entry in &mut listing.entries {
            if entry.entry.as_ref().is_some_and(|found| !self.serves(&found.file)) {
                entry.entry = None;
            }
        }
        listing
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// Those of looking at it.
    pub async fn root(&self) -> Result<Entry, Errno> {
        let export = self.export.clone();
        self.in_time(self.pool.run(move || export.root())).await
    }

    /// A name for an open that is to be made.
    pub fn new_open(&self) -> OpenId {
        OpenId::new(self.last_open.fetch_add(1, Relaxed) + 1).unwrap_or(OpenId::FIRST)
    }

    /// The open file, to be given to the kernel; `None` where that is not wanted.
    pub fn find(&self, open: OpenId) -> Option<LocalOpen> {
        self.opens.find(open).filter(|_| self.lends).map(LocalOpen)
    }

    /// Lets go of mounts below the tree that nothing has used for so long.
    pub fn release_idle(&self, idle: Duration) {
        let export = self.export.clone();
        self.pool.submit(move || export.release_idle(idle));
    }

    async fn execute(&self, caller: &Caller, operation: Operation) -> Result<Outcome, Errno> {
        MOUNT_DIRECT_OPERATIONS.count(&operation);
        let (export, opens, caller) = (self.export.clone(), self.opens.clone(), caller.clone());
        self.in_time(self.pool.run(move || export.execute(&caller, operation, &*opens))).await
    }

    /// mfsd makes the file, so that whoever caches its directory learns of it; it is opened here.
    async fn create(
        &self,
        server: &Remote,
        origin: &Origin<'_>,
        create: Create,
    ) -> Result<Outcome, Errno> {
        let (open, access, flags) = (create.open, create.access, create.flags);
        let theirs = server.new_open();
        let Opened { entry, proof } =
            server.call(origin, Create { open: theirs, ..create }).await?;
        let flags = flags - (OpenFlags::TRUNCATE | OpenFlags::EXCLUSIVE);
        let again = op::Open { file: entry.file.clone(), open, access, flags, proof: None };
        let mut opened = self.execute(origin.caller, Operation::Open(again.clone())).await;
        if opened == Err(Errno::Access) {
            // A file may be made read-only and yet be open for writing: mfsd has let the caller do so.
            opened = self.execute(&Caller::root(), Operation::Open(again)).await;
        }
        // The file stays open at mfsd until it is open here, so that nobody can take it away between; and
        // as long as it is written to here.
        let keep = opened.is_ok() && access.writes();
        self.opened(server, origin, (open, theirs), keep).await;
        opened.map(|_| Outcome::Opened(Opened { entry, proof }))
    }

    /// mfsd opens the file, too, and truncates it: until it is closed there, nobody remembers what it says,
    /// or nobody writes what runs.
    async fn open(
        &self,
        server: &Remote,
        origin: &Origin<'_>,
        asked: op::Open,
    ) -> Result<Outcome, Errno> {
        let (open, theirs) = (asked.open, server.new_open());
        let lasts = asked.access.writes() || asked.flags.contains(OpenFlags::EXECUTE);
        server.call(origin, op::Open { open: theirs, ..asked.clone() }).await?;
        let flags = asked.flags - OpenFlags::TRUNCATE;
        let opened =
            self.execute(origin.caller, Operation::Open(op::Open { flags, ..asked })).await;
        self.opened(server, origin, (open, theirs), opened.is_ok() && lasts).await;
        opened
    }

    /// Keeps an open of mfsd as long as the file is open here, or ends it.
    async fn opened(
        &self,
        server: &Remote,
        origin: &Origin<'_>,
        (open, theirs): (OpenId, OpenId),
        keep: bool,
    ) {
        if keep {
            self.noted.lock().insert(open, theirs);
        } else {
            self.release(server, origin, theirs).await;
        }
    }

    pub(super) async fn release(&self, server: &Remote, origin: &Origin<'_>, theirs: OpenId) {
        if let Err(error) = server.call(origin, op::Release { open: theirs }).await {
            tracing::debug!(%error, "mfsd keeps an open until the session ends");
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Errno>>) -> Result<T, Errno> {
        if self.terms.hard {
            return work.await;
        }
        tokio::time::timeout(self.terms.timeo, work).await.unwrap_or(Err(Errno::TimedOut))
    }
}

/// Whether others may remember what the operation changes, and have not been asked to forget it when the
/// file was opened for writing; or must be kept from writing what it runs.
const fn concerns_others(operation: &Operation) -> bool {
    match operation {
        // What is open for writing is open at mfsd, too.
        Operation::SetAttributes(set) => set.open.is_none(),
        Operation::Open(open) => {
            open.access.writes()
                || open.flags.contains(OpenFlags::TRUNCATE)
                || open.flags.contains(OpenFlags::EXECUTE)
        }
        Operation::MakeNode(_)
        | Operation::MakeDir(_)
        | Operation::MakeSymlink(_)
        | Operation::Link(_)
        | Operation::Unlink(_)
        | Operation::RemoveDir(_)
        | Operation::Rename(_)
        | Operation::Create(_)
        | Operation::SetXattr(_)
        | Operation::RemoveXattr(_) => true,
        Operation::Lookup(_)
        | Operation::GetAttr(_)
        | Operation::ReadLink(_)
        | Operation::Read(_)
        | Operation::Write(_)
        | Operation::Flush(_)
        | Operation::Release(_)
        | Operation::Sync(_)
        | Operation::ReadDir(_)
        | Operation::StatFsOf(_)
        | Operation::CheckAccess(_)
        | Operation::GetXattr(_)
        | Operation::ListXattr(_)
        | Operation::Fallocate(_)
        | Operation::Seek(_)
        | Operation::CopyRange(_)
        | Operation::GetLock(_)
        | Operation::SetLock(_) => false,
    }
}
