//! Locks exclude other owners, other sessions and local processes, and end when they should.

use mfs::export::{OpenMap, Opens};
use mfs::types::op::{
    Flush, GetLock, HeldLock, LockFamily, LockKind, LockRange, Open, SetLock, Taking,
};
use mfs::types::{Access, Caller, Errno, FileId, LockOwner, OpenFlags};

use crate::lab::{Lab, needs_root, open_id};
use crate::sys;

const WHOLE: LockRange = LockRange::ALL;

struct Session<'a> {
    lab: &'a Lab,
    opens: OpenMap,
}

impl<'a> Session<'a> {
    fn new(lab: &'a Lab) -> Self {
        Self { lab, opens: OpenMap::new(lab.export.budget(), 50) }
    }

    fn open(&self, id: u64, file: &FileId, access: Access) {
        let (file, open, flags) = (file.clone(), open_id(id), OpenFlags::empty());
        let open = Open { file, open, access, flags, proof: None };
        self.lab.export.call(&Caller::root(), open, &self.opens).unwrap();
    }

    fn lock(&self, id: u64, owner: u64, kind: LockKind, range: LockRange) -> Result<(), Errno> {
        self.set(id, owner, LockFamily::Range, kind, range)
    }

    fn set(
        &self,
        id: u64,
        owner: u64,
        family: LockFamily,
        kind: LockKind,
        range: LockRange,
    ) -> Result<(), Errno> {
        let owner = LockOwner(owner);
        let lock = SetLock {
            open: open_id(id),
            owner,
            family,
            kind,
            range,
            wait: false,
            taking: Taking::default(),
        };
        self.lab.export.call(&Caller::root(), lock, &self.opens)
    }

    fn test(&self, id: u64, owner: u64, kind: LockKind, range: LockRange) -> HeldLock {
        let get = GetLock { open: open_id(id), owner: LockOwner(owner), kind, range };
        self.lab.export.call(&Caller::root(), get, &self.opens).unwrap()
    }

    fn flush(&self, id: u64, owner: u64) {
        let flush = Flush { open: open_id(id), owner: Some(LockOwner(owner)) };
        self.lab.export.call(&Caller::root(), flush, &self.opens).unwrap();
    }
}

/// A lab with a file of 100 bytes.
fn file() -> (Lab, FileId) {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("f"), vec![0; 100]).unwrap();
    let file = lab.walk("f").unwrap().file;
    (lab, file)
}

fn range(start: u64, end: u64) -> LockRange {
    LockRange { start, end }
}

#[test]
fn owners_exclude_each_other_and_not_themselves() {
    let (lab, file) = file();
    let one = Session::new(&lab);
    one.open(1, &file, Access::ReadWrite);
    one.open(2, &file, Access::ReadWrite);
    assert_eq!(one.lock(1, 7, LockKind::Exclusive, range(0, 9)), Ok(()));
    assert_eq!(one.lock(2, 7, LockKind::Exclusive, range(5, 14)), Ok(()), "the same owner");
    assert_eq!(one.lock(2, 8, LockKind::Shared, range(9, 9)), Err(Errno::Again));
    assert_eq!(one.lock(2, 8, LockKind::Shared, range(15, 20)), Ok(()));
    let held = one.test(2, 8, LockKind::Exclusive, WHOLE);
    assert_eq!((held.kind, held.range), (LockKind::Exclusive, range(0, 14)));
    assert_eq!(one.test(1, 7, LockKind::Exclusive, range(0, 14)).kind, LockKind::Unlock);
    assert_eq!(one.lock(1, 7, LockKind::Unlock, range(3, 3)), Ok(()));
    assert_eq!(one.lock(2, 8, LockKind::Exclusive, range(3, 3)), Ok(()));
    assert_eq!(one.lock(2, 8, LockKind::Exclusive, range(2, 3)), Err(Errno::Again));

    // The same number in another session is another owner.
    let other = Session::new(&lab);
    other.open(1, &file, Access::ReadWrite);
    assert_eq!(other.lock(1, 7, LockKind::Exclusive, range(0, 0)), Err(Errno::Again));
    drop(one);
    assert_eq!(other.lock(1, 7, LockKind::Exclusive, WHOLE), Ok(()), "a session's end frees");
    let taken = lab.export.budget().taken();
    drop(other);
    assert_eq!(lab.export.budget().taken(), taken - 2, "the open and the lock");
}

#[test]
fn local_processes_and_peers_exclude_each_other() {
    let (lab, file) = file();
    let session = Session::new(&lab);
    session.open(1, &file, Access::ReadWrite);
    let local = std::fs::File::options().read(true).write(true).open(lab.path("f")).unwrap();
    assert!(sys::local_lock(&local, true, 0, 10));
    assert_eq!(session.lock(1, 7, LockKind::Shared, range(9, 9)), Err(Errno::Again));
    assert_eq!(session.lock(1, 7, LockKind::Shared, range(10, 19)), Ok(()));
    assert!(!sys::local_lock(&local, true, 10, 1));
    assert!(sys::local_lock(&local, false, 10, 1), "shared beside shared");
    session.flush(1, 7);
    assert!(sys::local_lock(&local, true, 10, 10), "closing releases");

    assert_eq!(session.set(1, 7, LockFamily::Flock, LockKind::Exclusive, WHOLE), Ok(()));
    assert!(local.try_lock_shared().is_err());
    assert_eq!(session.set(1, 7, LockFamily::Flock, LockKind::Unlock, WHOLE), Ok(()));
    local.try_lock().unwrap();
    let refused = session.set(1, 7, LockFamily::Flock, LockKind::Shared, WHOLE);
    assert_eq!(refused, Err(Errno::Again));
}

#[test]
fn the_open_decides_what_may_be_locked() {
    let (lab, file) = file();
    let session = Session::new(&lab);
    session.open(1, &file, Access::Read);
    session.open(2, &file, Access::Write);
    assert_eq!(session.lock(1, 7, LockKind::Exclusive, WHOLE), Err(Errno::BadF));
    assert_eq!(session.lock(2, 7, LockKind::Shared, WHOLE), Err(Errno::BadF));
    assert_eq!(session.lock(1, 7, LockKind::Shared, range(10, 5)), Err(Errno::Inval));
    let flock = |kind| session.set(1, 7, LockFamily::Flock, kind, WHOLE);
    assert_eq!(flock(LockKind::Exclusive), Ok(()), "flock asks for no mode");
}

#[test]
fn a_shared_lock_becomes_exclusive_without_a_gap() {
    let (lab, file) = file();
    let session = Session::new(&lab);
    session.open(1, &file, Access::Read);
    session.open(2, &file, Access::ReadWrite);
    for range in [range(0, 9), range(20, 29), range(40, u64::MAX)] {
        assert_eq!(session.lock(1, 7, LockKind::Shared, range), Ok(()));
    }
    // The description for reading cannot carry it; the locks move to one that can.
    assert_eq!(session.lock(2, 7, LockKind::Exclusive, range(5, 24)), Ok(()));
    let kind = |at| session.test(2, 8, LockKind::Exclusive, range(at, at)).kind;
    assert_eq!(kind(0), LockKind::Shared);
    assert_eq!(kind(5), LockKind::Exclusive);
    assert_eq!(kind(24), LockKind::Exclusive);
    assert_eq!(kind(25), LockKind::Shared);
    assert_eq!(kind(30), LockKind::Unlock);
    assert_eq!(kind(1 << 40), LockKind::Shared);
    session.flush(2, 7);
    assert_eq!(kind(5), LockKind::Unlock);
    assert_eq!(session.opens.tenant().descriptors(), 2, "the opens alone");
}

#[test]
fn an_owner_cannot_fill_the_kernel_with_locks() {
    let (lab, file) = file();
    let session = Session::new(&lab);
    session.open(1, &file, Access::ReadWrite);
    let lock = |i: u64, kind| session.lock(1, 7, kind, range(i * 2, i * 2));
    let locked = (0..10_000).take_while(|i| lock(*i, LockKind::Shared).is_ok()).count();
    assert_eq!(locked, 4_096);
    assert_eq!(lock(50_000, LockKind::Shared), Err(Errno::NoLck));
    assert_eq!(lock(7, LockKind::Unlock), Ok(()));
    assert_eq!(lock(50_000, LockKind::Shared), Ok(()));
    assert_eq!(session.lock(1, 7, LockKind::Unlock, WHOLE), Ok(()));
    // Taking one lock and letting it go many times does not add up.
    for _ in 0..10_000 {
        assert_eq!(lock(1, LockKind::Shared), Ok(()));
    }
    // Nor can a single range be cut into more.
    assert_eq!(session.lock(1, 7, LockKind::Shared, WHOLE), Ok(()));
    let cut = (0..20_000).take_while(|i| lock(*i, LockKind::Unlock).is_ok()).count();
    assert!(cut < 10_000, "{cut}");
}
