//! A tree for the tests of the service: flat, in memory, and able to be slow, to panic and to count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use mfs::sync::{Condvar, Mutex};
use mfs::types::op::{Entry, LockKind, Opened, Operation, Outcome, ReadData, Written};
use mfs::types::{
    Attr, Caller, Errno, FileId, FileKind, InodeNo, LockOwner, NodeId, OpenId, OpenProof, Timestamp,
};

use super::tree::{Opens, Tree};

/// Files by name, with one exclusive lock each.
#[derive(Clone, Default)]
pub(crate) struct FakeTree(Arc<Shared>);

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<Bytes, FakeFile>>,
    executed: AtomicUsize,
    gate: Mutex<bool>,
    opened: Condvar,
}

/// A file; open or not is the same here.
#[derive(Clone)]
pub(crate) struct FakeFile {
    ino: InodeNo,
    name: Bytes,
    data: Arc<Mutex<Vec<u8>>>,
    lock: Arc<Mutex<Option<LockOwner>>>,
}

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
        let next = files.len() as u64 + 2;
        let file = match (files.get(name), make) {
            (Some(file), _) => file.clone(),
            (None, false) => return Err(Errno::NoEnt),
            (None, true) => {
                let ino = InodeNo::new(next).ok_or(Errno::Io)?;
                let file = FakeFile {
                    ino,
                    name: name.clone(),
                    data: Arc::default(),
                    lock: Arc::default(),
                };
                files.insert(name.clone(), file.clone());
                file
            }
        };
        let id = FileId::from_bytes(name.clone()).ok_or(Errno::Inval)?;
        Ok((Entry { file: id, attr: attr(file.ino) }, file))
    }
}

/// As a real tree answers it: with something that is this file's.
fn opened(entry: Entry) -> Opened {
    let proof = OpenProof::from_bytes(entry.file.as_bytes().clone());
    Opened { entry, proof }
}

fn attr(ino: InodeNo) -> Attr {
    let time = Timestamp::default();
    Attr {
        ino,
        kind: FileKind::Regular,
        mode: 0o644,
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

    fn root(&self) -> Result<Entry, Errno> {
        let file = FileId::from_bytes(Bytes::from_static(b"/")).ok_or(Errno::Io)?;
        Ok(Entry { file, attr: attr(InodeNo::FIRST.next()) })
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
                opens.keep(op.open, file)?;
                Outcome::Opened(opened(entry))
            }
            // Every write appends, so that a second execution shows.
            Operation::Write(op) => {
                find(op.open)?.data.lock().extend_from_slice(&op.data);
                let size = u32::try_from(op.data.len()).unwrap_or(u32::MAX);
                Outcome::Written(Written { size, offset: op.offset })
            }
            Operation::Read(op) => {
                let _ = find(op.open)?;
                Outcome::Data(ReadData { data: vec![7; op.size as usize].into() })
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

    fn spawn(&self, job: Box<dyn FnOnce() + Send>) {
        std::thread::spawn(job);
    }
}
