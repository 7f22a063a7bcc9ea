//! The export of the node as the file service serves it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mfs::export;
use mfs::export::{
    Export, Interest, LocalChanges, LocalUse, LockRecord, OnWriters, OpenFile, Pool, SharedLock,
    Tenant, Watched,
};
use mfs::telemetry::metrics as m;
use mfs::types::op::{
    Create, Entry, LockFamily, Open, Opened, Operation, Outcome, SetLock, TakenLock,
};
use mfs::types::{
    Access, Attr, Caller, DataVersion, Errno, FileId, FileKind, FileName, InodeNo, NodeId, OpenId,
    OpenProof,
};

use super::tree::{Anchor, Guard, Opens, Tree};

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

/// How long file systems are watched of which nothing is read and nothing remembered.
const WATCH_IDLE: Duration = Duration::from_secs(5);

/// A session's open files, as the export wants to see them.
struct Seen<'a>(&'a dyn Opens<ExportTree>);

/// Lets go of a file on a thread that may block: it may be the last to keep one that was removed.
struct LetGo {
    pool: Pool,
    kept: Option<mfs::export::Anchor>,
}

impl Drop for LetGo {
    fn drop(&mut self) {
        let kept = self.kept.take();
        self.pool.submit(move || drop(kept));
    }
}

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
    type SharedLock = SharedLock;
    type Watched = Watched;

    fn root(&self) -> Result<Entry, Errno> {
        self.export.root()
    }

    fn tenant(&self, peer: NodeId) -> Arc<Tenant> {
        Tenant::new(self.export.budget(), self.descriptors, Some(peer))
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

    fn opened(&self, file: &OpenFile) -> Result<Opened, Errno> {
        file.opened()
    }

    fn number_of(&self, file: &FileId) -> Option<InodeNo> {
        self.export.number_of(file)
    }

    fn number_of_name(&self, parent: &FileId, name: &FileName) -> Option<InodeNo> {
        self.export.number_of_name(parent, name)
    }

    fn file_of(open: &OpenFile) -> (&FileId, InodeNo) {
        (open.file(), open.number())
    }

    fn opened_for(open: &OpenFile) -> (Access, u32, u32) {
        let (uid, pid) = open.opener();
        (open.access(), uid, pid)
    }

    fn path_of(open: &OpenFile) -> Option<PathBuf> {
        open.path()
    }

    fn length_of(open: &OpenFile) -> Option<u64> {
        open.length()
    }

    fn locks(tenant: &Tenant, opens: &[OpenFile]) -> Vec<LockRecord> {
        let mut locks = tenant.range_locks();
        locks.extend(opens.iter().filter_map(OpenFile::flock_held));
        locks
    }

    fn share_lock(tenant: &Tenant, opens: &[OpenFile], lock: &TakenLock) -> Option<SharedLock> {
        match lock.family {
            LockFamily::Range => tenant.share_range_locks(lock.ino, lock.owner),
            LockFamily::Flock => {
                let mut of_file = opens.iter().filter(|open| open.number() == lock.ino);
                let holds =
                    |open: &&OpenFile| open.flock_held().is_some_and(|held| held.kind == lock.kind);
                of_file.find(holds)?.share_flock()
            }
        }
    }

    fn adopt_lock(
        open: &OpenFile,
        shared: &SharedLock,
        lock: &SetLock,
        opener: u32,
    ) -> Result<(), Errno> {
        open.adopt(shared, lock, opener)
    }

    fn is_watchable(&self) -> bool {
        self.export.is_watchable()
    }

    fn watch(&self, files: &[(&FileId, Option<FileKind>)]) -> Watched {
        self.export.watch(files)
    }

    fn covers(watched: &Watched, ino: InodeNo) -> bool {
        watched.covers(ino)
    }

    fn watch_found(&self, watched: &Watched, found: &mut Entry) -> bool {
        self.export.watch_found(watched, found)
    }

    fn has_exact_names(&self, directory: &FileId) -> bool {
        self.export.has_exact_names(directory)
    }

    fn local_changes(&self) -> LocalChanges {
        self.export.local_changes()
    }

    fn local_use(&self, file: &FileId, looks: usize) -> LocalUse {
        self.export.local_use(file, looks)
    }

    fn prove(&self, peer: NodeId, caller: &Caller, open: &Open) -> Option<OpenProof> {
        self.export.prove(peer, caller, open)
    }

    fn guard(&self, open: &OpenFile) -> Option<(Guard, LocalUse)> {
        let (lease, used) = self.export.lease_for_reading(open)?;
        Some((Guard::new(lease, self.export.is_mounted_below(open.file())), used))
    }

    fn on_writers(&self, longest: Duration, wake: OnWriters) {
        self.export.on_writers(longest, wake);
    }

    fn on_local_changes(&self, wake: Box<dyn Fn() + Send>) {
        self.export.on_local_changes(wake);
    }

    fn rest(&self, interest: Arc<dyn Interest>) {
        // It opens and closes descriptors, which may block.
        let export = self.export.clone();
        self.pool.submit(move || {
            let watched = export.watch_less(&*interest, WATCH_IDLE);
            m::SERVER_FILES_WATCHED.set(i64::try_from(watched).unwrap_or(i64::MAX));
            export.release_idle(MOUNT_IDLE);
        });
    }

    fn appends(open: &OpenFile) -> bool {
        open.appends()
    }

    fn size_of(open: &OpenFile) -> Result<u64, Errno> {
        open.attr().map(|attr| attr.size)
    }

    fn version_of(open: &OpenFile) -> Result<DataVersion, Errno> {
        open.version()
    }

    fn anchor(&self, open: &OpenFile) -> Option<Anchor> {
        let file = open.file();
        // What lies elsewhere would keep its file system from being unmounted.
        let kept = (!self.export.is_mounted_below(file)).then(|| open.anchor()).flatten()?;
        Some(Anchor::new(LetGo { pool: self.pool.clone(), kept: Some(kept) }))
    }

    fn is_removed(open: &OpenFile) -> bool {
        open.is_removed()
    }

    fn write_apart(
        open: &OpenFile,
        by: &str,
        copy: Option<&Path>,
        offset: u64,
        data: &[u8],
    ) -> Result<PathBuf, Errno> {
        open.write_apart(by, copy, offset, data)
    }

    fn entry_of_name(&self, parent: &FileId, name: &FileName) -> Result<Option<Entry>, Errno> {
        self.export.entry_of_name(parent, name)
    }

    fn attr_of(&self, file: &FileId) -> Result<Attr, Errno> {
        self.export.attr_of(file)
    }

    fn target_of(&self, file: &FileId) -> Result<Bytes, Errno> {
        self.export.target_of(file)
    }

    fn bytes_of(&self, file: &FileId, offset: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        self.export.bytes_of(file, offset, limit)
    }

    fn cut_off(&self, file: &FileId, size: u64) -> Result<(), Errno> {
        self.export.cut_off(file, size)
    }

    fn take_up(
        &self,
        caller: &Caller,
        create: &Create,
        file: &FileId,
        opens: &dyn Opens<Self>,
    ) -> Result<Opened, Errno> {
        self.export.take_up(caller, create, file, &Seen(opens))
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

#[cfg(test)]
mod tests {
    use mfs::export::{ExportKeys, ExportSettings, FdBudget};
    use mfs::sync::Mutex;
    use mfs::types::OpenFlags;

    use super::*;

    /// A session's opens that keeps the last.
    struct Last {
        tenant: Arc<Tenant>,
        file: Mutex<Option<OpenFile>>,
    }

    impl Opens<ExportTree> for Last {
        fn find(&self, _: OpenId) -> Option<OpenFile> {
            self.file.lock().clone()
        }

        fn keep(&self, _: OpenId, file: OpenFile) -> Result<(), Errno> {
            *self.file.lock() = Some(file);
            Ok(())
        }

        fn forget(&self, _: OpenId) {}

        fn tenant(&self) -> &Arc<Tenant> {
            &self.tenant
        }
    }

    fn peer(number: u8) -> NodeId {
        NodeId::from_digest([number; 32])
    }

    /// What one node was let open, no other can take.
    #[test]
    fn a_proof_is_worth_nothing_in_the_hands_of_another_node() {
        assert!(rustix::process::geteuid().is_root(), "needs root: run it by scripts/test");
        let dir = tempfile::tempdir().unwrap();
        let keys = ExportKeys { seal: [1; 32], inode_numbers: [2; 32] };
        let settings = ExportSettings::of(dir.path());
        let export = Export::open(&settings, &keys, peer(9), FdBudget::new(100)).unwrap();
        let file = export.root().unwrap().file;
        let tree = ExportTree::new(export, Pool::new(1), 10);
        let open = |number, caller: &Caller, proof| {
            let (access, flags) = (Access::Read, OpenFlags::empty());
            let open = Open { file: file.clone(), open: OpenId::FIRST, access, flags, proof };
            let opens = Last { tenant: tree.tenant(peer(number)), file: Mutex::default() };
            match tree.execute(caller, open.into(), &opens)? {
                Outcome::Opened(opened) => {
                    let file = opens.find(OpenId::FIRST).expect("it was kept");
                    assert_eq!(tree.opened(&file)?.proof, opened.proof, "each time the same");
                    Ok(opened.proof)
                }
                other => panic!("not opened: {other:?}"),
            }
        };
        let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
        std::fs::set_permissions(dir.path(), mode(0o755)).unwrap();
        let user = Caller::user(1001, 1001, &[]);
        let proof = open(1, &user, None).unwrap();
        std::fs::set_permissions(dir.path(), mode(0o700)).unwrap();
        assert_eq!(open(1, &user, None), Err(Errno::Access));
        assert_eq!(open(2, &user, proof.clone()), Err(Errno::Access));
        assert_eq!(open(1, &user, proof.clone()), Ok(proof));
    }
}
