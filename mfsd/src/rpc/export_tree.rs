//! The export of the node as the file service serves it.

use std::sync::Arc;
use std::time::Duration;

use mfs::export;
use mfs::export::{Export, LocalChanges, OpenFile, Pool, Tenant, Watched};
use mfs::types::op::{Entry, Operation, Outcome};
use mfs::types::{Caller, Errno, FileId, FileName, InodeNo, OpenId};

use super::tree::{Opens, Tree};

/// An export and the threads it is served on.
#[derive(Debug, Clone)]
pub(crate) struct ExportTree {
    export: Export,
    pool: Pool,
    /// Most descriptors of one session.
    descriptors: usize,
}

/// How long a mount below the export is held that nothing uses, so that it can be unmounted soon after.
const MOUNT_IDLE: Duration = Duration::from_secs(5);

/// A session's open files, as the export wants to see them.
struct Seen<'a>(&'a dyn Opens<ExportTree>);

// === impl ExportTree ===

impl ExportTree {
    /// Serves `export` on the threads of `pool`; a session holds at most so many descriptors.
    pub(crate) const fn new(export: Export, pool: Pool, descriptors: usize) -> Self {
        Self { export, pool, descriptors }
    }
}

impl Tree for ExportTree {
    type Open = OpenFile;
    type Tenant = Tenant;
    type Watched = Watched;

    fn root(&self) -> Result<Entry, Errno> {
        self.export.root()
    }

    fn tenant(&self) -> Arc<Tenant> {
        Tenant::new(self.export.budget(), self.descriptors)
    }

    fn vouch(&self, caller: Caller, trust_root: bool) -> Caller {
        self.export.vouch(caller, trust_root)
    }

    fn execute(
        &self,
        caller: &Caller,
        operation: Operation,
        opens: &dyn Opens<Self>,
    ) -> Result<Outcome, Errno> {
        self.export.execute(caller, operation, &Seen(opens))
    }

    fn number_of(&self, file: &FileId) -> Option<InodeNo> {
        self.export.number_of(file)
    }

    fn number_of_name(&self, parent: &FileId, name: &FileName) -> Option<InodeNo> {
        self.export.number_of_name(parent, name)
    }

    fn opened(open: &OpenFile) -> (&FileId, InodeNo) {
        (open.file(), open.number())
    }

    fn is_watchable(&self) -> bool {
        self.export.is_watchable()
    }

    fn watch(&self, file: &FileId) -> Watched {
        self.export.watch(file)
    }

    fn covers(watched: &Watched, file: &FileId) -> bool {
        watched.covers(file)
    }

    fn has_exact_names(&self, directory: &FileId) -> bool {
        self.export.has_exact_names(directory)
    }

    fn local_changes(&self) -> LocalChanges {
        self.export.local_changes()
    }

    fn on_local_changes(&self, wake: Box<dyn Fn() + Send>) {
        self.export.on_local_changes(wake);
    }

    fn rest(&self) {
        // It closes descriptors, which may block.
        let export = self.export.clone();
        self.pool.submit(move || export.release_idle(MOUNT_IDLE));
    }

    fn spawn(&self, job: Box<dyn FnOnce() + Send>) {
        self.pool.submit(job);
    }
}

// === impl Seen ===

impl export::Opens for Seen<'_> {
    fn find(&self, open: OpenId) -> Option<OpenFile> {
        self.0.find(open)
    }

    fn keep(&self, open: OpenId, file: OpenFile) -> Result<(), Errno> {
        self.0.keep(open, file)
    }

    fn forget(&self, open: OpenId) {
        self.0.forget(open);
    }

    fn tenant(&self) -> &Arc<Tenant> {
        self.0.tenant()
    }
}
