//! A tree for the tests of the service: flat, in memory, and able to be slow, to panic and to count.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use mfs::export::{Changed, LocalChanges, LocalUse, LockRecord};
use mfs::sync::{Condvar, Mutex};
use mfs::types::op::{
    Create, DirEntry, Entry, Listing, LockKind, Open, Opened, Operation, Outcome, ReadData,
    SetLock, TakenLock, Written,
};
use mfs::types::{
    Access, Attr, Caller, DataVersion, Errno, FileId, FileKind, FileName, InodeNo, LockOwner,
    NodeId, OpenId, OpenProof, Timestamp,
};

use super::tree::{Guard, Opens, Tree};

/// Files by name, with one exclusive lock each.
#[derive(Clone, Default)]
pub(crate) struct FakeTree(Arc<Shared>);

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<Bytes, FakeFile>>,
    executed: AtomicUsize,
    gate: Mutex<bool>,
    opened: Condvar,
    /// Local changes that were not read yet.
    changes: Mutex<LocalChanges>,
    wake: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// Local changes are not noticed at all.
    unwatched: AtomicBool,
    /// Names in capitals are the same names.
    folding: AtomicBool,
}

/// A file; open or not is the same here.
#[derive(Clone)]
pub(crate) struct FakeFile {
    id: FileId,
    ino: InodeNo,
    mode: Arc<AtomicUsize>,
    name: Bytes,
    data: Arc<Mutex<Vec<u8>>>,
    /// What was written into its conflict copy.
    apart: Arc<Mutex<Vec<u8>>>,
    lock: Arc<Mutex<Option<LockOwner>>>,
    guards: Arc<AtomicUsize>,
}

/// Counts as a guard until it is dropped.
struct Guarded(Arc<AtomicUsize>);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The one directory.
pub(crate) const ROOT: &[u8] = b"/";

/// Changes of this file are not noticed, unlike those of all others.
pub(crate) const UNWATCHED: &[u8] = b"unwatched";

/// Executing this name panics.
pub(crate) const PANICS: &[u8] = b"panics";

/// Executing this name waits until [`FakeTree::let_slow_ones_go`].
pub(crate) const SLOW: &[u8] = b"slow";

/// The longest the tests wait for what is to come.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

// === impl FakeTree ===

impl FakeTree {
    /// How many operations were executed.
    pub(crate) fn executed(&self) -> usize {
        self.0.executed.load(Ordering::Acquire)
    }

    /// Lets operations on [`SLOW`] go on, now and later.
    pub(crate) fn let_slow_ones_go(&self) {
        *self.0.gate.lock() = true;
        self.0.opened.notify_all();
    }

    /// Makes a file with these contents, or gives it these.
    pub(crate) fn make(&self, name: &'static [u8], contents: &[u8]) -> FileId {
        let (entry, file) = self.entry(&Bytes::from_static(name), true).expect("a good name");
        *file.data.lock() = contents.to_vec();
        entry.file
    }

    /// Whether local processes are kept from writing a file.
    pub(crate) fn is_guarded(&self, name: &'static [u8]) -> bool {
        let files = self.0.files.lock();
        files.get(name).is_some_and(|file| file.guards.load(Ordering::Acquire) > 0)
    }

    /// The contents of a file.
    pub(crate) fn contents(&self, name: &'static [u8]) -> Option<Vec<u8>> {
        self.0.files.lock().get(name).map(|file| file.data.lock().clone())
    }

    /// Takes or frees the lock of a file, as a process of the node would.
    pub(crate) fn lock_locally(&self, name: &'static [u8], held: bool) {
        if let Some(file) = self.0.files.lock().get(name) {
            *file.lock.lock() = held.then_some(LockOwner(u64::MAX));
        }
    }

    /// Goes without noticing local changes.
    pub(crate) fn stop_watching(&self) {
        self.0.unwatched.store(true, Ordering::Release);
    }

    /// Takes names in capitals for the same.
    pub(crate) fn fold_case(&self) {
        self.0.folding.store(true, Ordering::Release);
    }

    /// Changes the attributes of a file as a process of the node would, or misses what was changed.
    pub(crate) fn change_locally(&self, name: &'static [u8]) {
        let ino = self.0.files.lock().get(name).map(|file| file.ino);
        let mut changes = self.0.changes.lock();
        match ino {
            Some(ino) => changes.others.push(Changed { ino, names: false }),
            None => changes.anything = true,
        }
        drop(changes);
        if let Some(wake) = &*self.0.wake.lock() {
            wake();
        }
    }

    /// Takes all permissions from a file, as a process of the node would.
    pub(crate) fn forbid_locally(&self, name: &'static [u8]) {
        if let Some(file) = self.0.files.lock().get(name) {
            file.mode.store(0, Ordering::Release);
        }
        self.change_locally(name);
    }

    fn is_watched(&self, file: &FileId) -> bool {
        self.is_watchable() && file.as_bytes() != UNWATCHED
    }

    fn entry(&self, name: &Bytes, make: bool) -> Result<(Entry, FakeFile), Errno> {
        match &name[..] {
            PANICS => panic!("on purpose"),
            SLOW => {
                let mut gate = self.0.gate.lock();
                while !*gate {
                    self.0.opened.wait(&mut gate);
                }
            }
            _ => {}
        }
        let mut files = self.0.files.lock();
        let next = match &name[..] {
            ROOT => ROOT_NUMBER,
            _ => ROOT_NUMBER + 1 + files.len() as u64,
        };
        let id = FileId::from_bytes(name.clone()).ok_or(Errno::Inval)?;
        let file = match (files.get(name), make || name == ROOT) {
            (Some(file), _) => file.clone(),
            (None, false) => return Err(Errno::NoEnt),
            (None, true) => {
                let ino = InodeNo::new(next).ok_or(Errno::Io)?;
                let mode = Arc::new(AtomicUsize::new(0o644));
                let (id, data, lock) = (id.clone(), Arc::default(), Arc::default());
                let guards = Arc::default();
                let file = FakeFile {
                    id,
                    ino,
                    mode,
                    name: name.clone(),
                    data,
                    apart: Arc::default(),
                    lock,
                    guards,
                };
                files.insert(name.clone(), file.clone());
                file
            }
        };
        Ok((Entry { file: id, attr: attr(&file) }, file))
    }

    fn listing(&self) -> Listing {
        let files = self.0.files.lock();
        let listed = files.iter().filter(|(name, _)| *name != ROOT);
        let entry = |(name, file): (&Bytes, &FakeFile)| {
            Some(DirEntry {
                name: FileName::parse(name.clone()).ok()?,
                kind: FileKind::Regular,
                ino: file.ino,
                cookie: 1,
                entry: Some(Entry { file: file.id.clone(), attr: attr(file) }),
                unleased: false,
            })
        };
        Listing { entries: listed.filter_map(entry).collect(), end: true }
    }
}

const ROOT_NUMBER: u64 = 2;

/// As a real tree answers it: with something that is this file's.
fn opened(entry: Entry) -> Opened {
    let proof = OpenProof::from_bytes(entry.file.as_bytes().clone());
    Opened { entry, proof }
}

fn attr(file: &FakeFile) -> Attr {
    let time = Timestamp::default();
    Attr {
        ino: file.ino,
        kind: if file.id.as_bytes() == ROOT { FileKind::Directory } else { FileKind::Regular },
        mode: file.mode.load(Ordering::Acquire) as u16,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        block_size: 4096,
        rdev: (0, 0),
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
    }
}

impl Tree for FakeTree {
    type Open = FakeFile;
    type Tenant = ();
    type SharedLock = ();
    type Watched = Vec<InodeNo>;

    fn root(&self) -> Result<Entry, Errno> {
        Ok(self.entry(&Bytes::from_static(ROOT), true)?.0)
    }

    fn number_of(&self, file: &FileId) -> Option<InodeNo> {
        match file.as_bytes().as_ref() {
            ROOT => InodeNo::new(ROOT_NUMBER),
            name => self.0.files.lock().get(name).map(|file| file.ino),
        }
    }

    fn number_of_name(&self, _parent: &FileId, name: &FileName) -> Option<InodeNo> {
        self.0.files.lock().get(name.as_bytes()).map(|file| file.ino)
    }

    fn file_of(open: &FakeFile) -> (&FileId, InodeNo) {
        (&open.id, open.ino)
    }

    fn opened_for(_open: &FakeFile) -> (Access, u32, u32) {
        (Access::ReadWrite, 0, 0)
    }

    fn path_of(_open: &FakeFile) -> Option<PathBuf> {
        None
    }

    fn length_of(open: &FakeFile) -> Option<u64> {
        Some(open.data.lock().len() as u64)
    }

    fn locks(_tenant: &(), _opens: &[FakeFile]) -> Vec<LockRecord> {
        Vec::new()
    }

    fn share_lock(_tenant: &(), _opens: &[FakeFile], _lock: &TakenLock) -> Option<()> {
        None
    }

    fn adopt_lock(_open: &FakeFile, _: &(), _lock: &SetLock, _opener: u32) -> Result<(), Errno> {
        Err(Errno::Again)
    }

    fn is_watchable(&self) -> bool {
        !self.0.unwatched.load(Ordering::Acquire)
    }

    fn watch(&self, files: &[(&FileId, Option<FileKind>)]) -> Vec<InodeNo> {
        let watched = files.iter().filter(|(file, _)| self.is_watched(file));
        watched.filter_map(|(file, _)| self.number_of(file)).collect()
    }

    fn covers(watched: &Vec<InodeNo>, ino: InodeNo) -> bool {
        watched.contains(&ino)
    }

    fn watch_found(&self, _watched: &Vec<InodeNo>, found: &mut Entry) -> bool {
        self.is_watched(&found.file)
    }

    fn has_exact_names(&self, _directory: &FileId) -> bool {
        !self.0.folding.load(Ordering::Acquire)
    }

    fn local_changes(&self) -> LocalChanges {
        std::mem::take(&mut *self.0.changes.lock())
    }

    fn on_local_changes(&self, wake: Box<dyn Fn() + Send>) {
        *self.0.wake.lock() = Some(wake);
    }

    fn tenant(&self, _peer: NodeId) -> Arc<()> {
        Arc::new(())
    }

    fn vouch(&self, caller: Caller, _trust_root: bool) -> Caller {
        caller
    }

    fn execute(
        &self,
        _caller: &Caller,
        operation: Operation,
        opens: &dyn Opens<Self>,
    ) -> Result<Outcome, Errno> {
        self.0.executed.fetch_add(1, Ordering::AcqRel);
        let find = |id: OpenId| opens.find(id).ok_or(Errno::BadF);
        Ok(match operation {
            Operation::Lookup(op) => Outcome::Entry(self.entry(op.name.as_bytes(), false)?.0),
            Operation::Create(op) => {
                let (entry, file) = self.entry(op.name.as_bytes(), true)?;
                opens.keep(op.open, file)?;
                Outcome::Opened(opened(entry))
            }
            Operation::Open(op) => {
                let (entry, file) = self.entry(op.file.as_bytes(), false)?;
                if entry.attr.mode == 0 && op.proof.is_none() {
                    return Err(Errno::Access);
                }
                opens.keep(op.open, file)?;
                Outcome::Opened(opened(entry))
            }
            Operation::GetAttr(op) => Outcome::Attr(self.entry(op.file.as_bytes(), false)?.0.attr),
            Operation::SetAttributes(op) => {
                let (_, file) = self.entry(op.file.as_bytes(), false)?;
                if let Some(mode) = op.set.mode {
                    file.mode.store(mode.into(), Ordering::Release);
                }
                Outcome::Attr(attr(&file))
            }
            Operation::Unlink(op) => {
                let _ = self.entry(op.name.as_bytes(), false)?;
                self.0.files.lock().remove(op.name.as_bytes());
                Outcome::Done(())
            }
            Operation::GetXattr(_) => return Err(Errno::NoData),
            Operation::ReadDir(op) => {
                let _ = find(op.open)?;
                Outcome::Listing(self.listing())
            }
            // Every write appends, so that a second execution shows.
            Operation::Write(op) => {
                find(op.open)?.data.lock().extend_from_slice(&op.data);
                let size = u32::try_from(op.data.len()).unwrap_or(u32::MAX);
                Outcome::Written(Written { size, offset: op.offset, ..Written::default() })
            }
            Operation::Read(op) => {
                let _ = find(op.open)?;
                Outcome::Data(ReadData { data: vec![7; op.size as usize].into(), version: None })
            }
            Operation::SetLock(op) => {
                let file = find(op.open)?;
                let mut lock = file.lock.lock();
                match op.kind {
                    LockKind::Unlock => *lock = None,
                    _ if lock.is_some_and(|owner| owner != op.owner) => return Err(Errno::Again),
                    _ => *lock = Some(op.owner),
                }
                Outcome::Done(())
            }
            Operation::Release(op) => {
                opens.forget(op.open);
                Outcome::Done(())
            }
            _ => return Err(Errno::NoSys),
        })
    }

    fn opened(&self, file: &FakeFile) -> Result<Opened, Errno> {
        Ok(opened(self.entry(&file.name, false)?.0))
    }

    fn prove(&self, _peer: NodeId, _caller: &Caller, open: &Open) -> Option<OpenProof> {
        OpenProof::from_bytes(open.file.as_bytes().clone())
    }

    fn guard(&self, open: &FakeFile) -> Option<(Guard, LocalUse)> {
        if open.id.as_bytes() == ROOT {
            return None;
        }
        open.guards.fetch_add(1, Ordering::AcqRel);
        Some((Guard::new(Guarded(Arc::clone(&open.guards)), false), LocalUse::None))
    }

    fn appends(_open: &FakeFile) -> bool {
        true
    }

    fn size_of(open: &FakeFile) -> Result<u64, Errno> {
        Ok(open.data.lock().len() as u64)
    }

    /// Each write appends.
    fn version_of(open: &FakeFile) -> Result<DataVersion, Errno> {
        let size = open.data.lock().len() as u64;
        let time = Timestamp { seconds: size.cast_signed(), nanos: 0 };
        Ok(DataVersion { ctime: time, mtime: time, size })
    }

    fn write_apart(
        open: &FakeFile,
        by: &str,
        copy: Option<&Path>,
        _offset: u64,
        data: &[u8],
    ) -> Result<PathBuf, Errno> {
        open.apart.lock().extend_from_slice(data);
        Ok(copy.map_or_else(|| format!("/apart-{by}").into(), Path::to_owned))
    }

    fn entry_of_name(&self, _parent: &FileId, name: &FileName) -> Result<Option<Entry>, Errno> {
        if self.0.files.lock().contains_key(name.as_bytes()) {
            return self.entry(name.as_bytes(), false).map(|(entry, _)| Some(entry));
        }
        Ok(None)
    }

    fn attr_of(&self, file: &FileId) -> Result<Attr, Errno> {
        let (_, found) = self.entry(file.as_bytes(), false)?;
        let size = found.data.lock().len() as u64;
        Ok(Attr { size, ..attr(&found) })
    }

    fn target_of(&self, _file: &FileId) -> Result<Bytes, Errno> {
        Err(Errno::Inval)
    }

    fn bytes_of(&self, file: &FileId, offset: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        let (_, found) = self.entry(file.as_bytes(), false)?;
        let bytes = found.data.lock();
        Ok(bytes.iter().copied().skip(offset as usize).take(limit).collect())
    }

    fn cut_off(&self, file: &FileId, size: u64) -> Result<(), Errno> {
        let (_, found) = self.entry(file.as_bytes(), false)?;
        found.data.lock().truncate(size as usize);
        Ok(())
    }

    fn take_up(
        &self,
        _caller: &Caller,
        create: &Create,
        file: &FileId,
        opens: &dyn Opens<Self>,
    ) -> Result<Opened, Errno> {
        let (entry, file) = self.entry(file.as_bytes(), false)?;
        opens.keep(create.open, file)?;
        Ok(opened(entry))
    }

    fn spawn(&self, job: Box<dyn FnOnce() + Send>) {
        std::thread::spawn(job);
    }
}
