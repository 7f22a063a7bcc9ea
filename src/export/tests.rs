//! What an export must do and refuse, tried on real directories.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::types::op::{self, Create, GetAttr, Lookup, MakeDir, Read, ReadDir, Write};
use crate::types::{Access, FileName, LockOwner, OpenFlags, OpenId};

struct Lab {
    dir: tempfile::TempDir,
    export: Export,
    opens: OpenMap,
}

fn keys() -> ExportKeys {
    ExportKeys { seal: [1; 32], inode_numbers: [2; 32] }
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::open(
        &ExportSettings::of(dir.path()),
        &keys(),
        NodeId::from_digest([3; 32]),
        FdBudget::new(100),
    )
    .unwrap();
    let opens = OpenMap::new(export.budget(), 50);
    Lab { dir, export, opens }
}

fn name(name: &str) -> FileName {
    FileName::parse(name.as_bytes().to_vec()).unwrap()
}

#[test]
fn a_file_is_made_written_listed_and_read() {
    let Lab { dir, export, opens } = &lab();
    let root = export.root().unwrap();
    let caller = Caller::root();
    let create = Create {
        parent: root.file.clone(),
        name: name("a"),
        open: OpenId::FIRST,
        mode: 0o640,
        access: Access::ReadWrite,
        flags: OpenFlags::empty(),
    };
    let made = export.call(&caller, create, opens).unwrap().entry;
    let write = Write {
        open: OpenId::FIRST,
        offset: 0,
        data: (&b"hello"[..]).into(),
        pages: false,
        known: None,
    };
    assert_eq!(export.call(&caller, write, opens).unwrap().size, 5);
    let read = Read { open: OpenId::FIRST, offset: 1, size: 100, pages: false };
    assert_eq!(&export.call(&caller, read, opens).unwrap().data[..], b"ello");
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"hello");

    let look = Lookup { parent: root.file.clone(), name: name("a"), keep: false };
    let found = export.call(&caller, look, opens).unwrap();
    assert_eq!((found.file.clone(), found.attr.ino), (made.file, made.attr.ino));
    assert_eq!((found.attr.size, found.attr.mode), (5, 0o640));

    let sub = MakeDir { parent: root.file.clone(), name: name("sub"), mode: 0o755 };
    export.call(&caller, sub, opens).unwrap();
    let open = OpenId::FIRST.next();
    let open_root = crate::types::op::Open {
        file: root.file.clone(),
        open,
        access: Access::Read,
        flags: OpenFlags::empty(),
        proof: None,
    };
    export.call(&caller, open_root, opens).unwrap();
    let list = ReadDir { open, cookie: 0, limit: 100, attributes: true };
    let listing = export.call(&caller, list, opens).unwrap();
    assert!(listing.end);
    let mut names: Vec<_> = listing.entries.iter().map(|e| e.name.clone()).collect();
    names.sort();
    assert_eq!(names, [name("a"), name("sub")]);

    std::fs::remove_file(dir.path().join("a")).unwrap();
    let attr = GetAttr { file: found.file.clone(), open: None };
    assert_eq!(export.call(&caller, attr.clone(), opens).unwrap().nlink, 0);
    opens.forget(OpenId::FIRST);
    // A process that another test is just starting holds a copy of every descriptor until it runs.
    let begin = crate::clock::now();
    while export.call(&caller, attr.clone(), opens) != Err(Errno::Stale) {
        let patience = std::time::Duration::from_secs(60);
        assert!(begin.elapsed() < patience, "a file without names and opens can still be reached");
        std::thread::yield_now();
    }
}

#[test]
fn who_else_has_a_file_open_is_told_by_the_counts_of_the_kernel() {
    let Lab { dir, export, opens } = &lab();
    let caller = Caller::root();
    let parent = export.root().unwrap().file;
    let (flags, open) = (OpenFlags::empty(), OpenId::FIRST);
    let access = Access::ReadWrite;
    let create = Create { parent, name: name("a"), open, mode: 0o600, access, flags };
    let file = export.call(&caller, create, opens).unwrap().entry.file;
    let beside = |writes: bool| {
        std::fs::File::options().read(true).write(writes).open(dir.path().join("a")).unwrap()
    };
    let seen = |looks| export.local_use(&file, looks);
    assert_eq!(seen(1), LocalUse::None);
    let reader = beside(false);
    assert_eq!(seen(2), LocalUse::Writes, "what for is not known beside an own writer");
    drop(reader);
    assert_eq!(seen(1), LocalUse::None);
    let read = |open| {
        let (file, access) = (file.clone(), Access::Read);
        export.call(&caller, op::Open { file, open, access, flags, proof: None }, opens).unwrap();
    };
    let (second, third) = (open.next(), open.next().next());
    read(second);
    assert_eq!(seen(1), LocalUse::Unknown, "both are open here");
    export.call(&caller, op::Release { open }, opens).unwrap();
    let reader = beside(false);
    assert_eq!(seen(1), LocalUse::Reads);
    read(third);
    assert_eq!(seen(1), LocalUse::Unwritten, "who reads is not known beside two own opens");
    let writer = beside(true);
    assert_eq!(seen(1), LocalUse::Writes);
    drop((reader, writer));
}

/// The kernel's lease: who wants to write waits, and this process hears of it.
#[test]
fn who_waits_to_write_a_leased_file_is_told_of() {
    let Lab { dir, export, opens } = &lab();
    let caller = Caller::root();
    let parent = export.root().unwrap().file;
    let path = dir.path().join("a");
    std::fs::write(&path, b"text").unwrap();
    let found =
        export.call(&caller, Lookup { parent, name: name("a"), keep: false }, opens).unwrap();
    let (file, open) = (found.file, OpenId::FIRST);
    let (access, flags) = (Access::Read, OpenFlags::empty());
    let read = op::Open { file: file.clone(), open, access, flags, proof: None };
    export.call(&caller, read.clone(), opens).unwrap();
    let opened = opens.find(open).unwrap();
    assert!(export.lease_for_reading(&opened).is_none(), "nobody would be told");

    let (sender, receiver) = std::sync::mpsc::channel();
    export.on_writers(Duration::ZERO, Box::new(move |files| sender.send(files.to_vec()).unwrap()));
    let writer = std::fs::File::options().write(true).open(&path).unwrap();
    assert!(export.lease_for_reading(&opened).is_none(), "it is being written");
    drop(writer);
    let (lease, used) = export.lease_for_reading(&opened).unwrap();
    assert_eq!(used, LocalUse::None);
    let reader = std::fs::File::open(&path).unwrap();
    assert_eq!(export.local_use(&file, 1), LocalUse::Reads, "and the lease is as it was");
    // The open ends, the lease does not; and what is removed meanwhile can be opened through it.
    drop(opened);
    export.call(&caller, op::Release { open }, opens).unwrap();
    std::fs::remove_file(&path).unwrap();
    export.call(&caller, op::Open { open: open.next(), ..read }, opens).unwrap();
    export.call(&caller, op::Release { open: open.next() }, opens).unwrap();

    let waits = std::thread::spawn(move || {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        std::fs::File::options().write(true).open(path).unwrap();
    });
    assert_eq!(receiver.recv().unwrap(), [found.attr.ino]);
    assert!(!waits.is_finished());
    drop(lease);
    waits.join().unwrap();
}

/// The lease keeps the description of an open that has ended; its lock is none of that.
#[test]
fn a_lock_ends_with_its_open_though_the_file_is_leased() {
    let Lab { dir, export, opens } = &lab();
    let caller = Caller::root();
    let parent = export.root().unwrap().file;
    std::fs::write(dir.path().join("a"), b"text").unwrap();
    let file =
        export.call(&caller, Lookup { parent, name: name("a"), keep: false }, opens).unwrap().file;
    let (open, access, flags) = (OpenId::FIRST, Access::Read, OpenFlags::empty());
    export.call(&caller, op::Open { file, open, access, flags, proof: None }, opens).unwrap();
    export.on_writers(Duration::ZERO, Box::new(|_| ()));
    let (lease, _) = export.lease_for_reading(&opens.find(open).unwrap()).unwrap();
    let lock = op::SetLock {
        open,
        owner: LockOwner(1),
        family: op::LockFamily::Flock,
        kind: op::LockKind::Exclusive,
        range: op::LockRange::ALL,
        wait: false,
        taking: op::Taking::default(),
    };
    export.call(&caller, lock, opens).unwrap();
    let beside = std::fs::File::open(dir.path().join("a")).unwrap();
    beside.try_lock().unwrap_err();
    export.call(&caller, op::Release { open }, opens).unwrap();
    beside.try_lock().unwrap();
    drop(lease);
}

#[test]
fn what_was_looked_up_to_be_kept_can_be_opened_when_it_is_gone() {
    let Lab { dir, export, opens } = &lab();
    let caller = Caller::root();
    let parent = export.root().unwrap().file;
    let path = dir.path().join("a");
    let open = |file: &FileId| {
        let (file, access, flags) = (file.clone(), Access::Read, OpenFlags::empty());
        let open = op::Open { file, open: OpenId::FIRST, access, flags, proof: None };
        export.call(&caller, open, opens)
    };
    std::fs::write(&path, "kept").unwrap();
    let look = Lookup { parent, name: name("a"), keep: true };
    let kept = export.call(&caller, look, opens).unwrap().file;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(open(&kept).unwrap().entry.attr.nlink, 0);
    let read = Read { open: OpenId::FIRST, offset: 0, size: 10, pages: false };
    assert_eq!(&export.call(&caller, read, opens).unwrap().data[..], b"kept");
    opens.forget(OpenId::FIRST);
    // And not for ever.
    let begin = crate::clock::now();
    loop {
        export.release_idle(Duration::from_secs(60));
        match open(&kept) {
            Err(errno) => break assert_eq!(errno, Errno::Stale),
            Ok(_) => opens.forget(OpenId::FIRST),
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "it is kept for ever");
        std::thread::yield_now();
    }
}

/// Makes a file, open as `OpenId::FIRST`, as this caller.
fn made_by(lab: &Lab, caller: &Caller, parent: FileId, file: &str) -> OpenFile {
    let (access, flags, open) = (Access::ReadWrite, OpenFlags::empty(), OpenId::FIRST);
    let create = Create { parent, name: name(file), open, mode: 0o644, access, flags };
    lab.export.call(caller, create, &lab.opens).unwrap();
    lab.opens.find(open).unwrap()
}

fn permit(path: &Path, bits: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(bits);
    std::fs::set_permissions(path, mode).unwrap();
}

#[test]
fn what_is_kept_apart_is_beside_the_file_and_belongs_to_who_had_it_open() {
    let lab = lab();
    permit(lab.dir.path(), 0o777);
    let user = Caller::user(1001, 1002, &[]);
    let open = made_by(&lab, &user, lab.export.root().unwrap().file, "a");
    std::fs::write(lab.dir.path().join("a.mfs-conflict-n1-1"), "older").unwrap();
    let copy = open.write_apart("n1", None, 8, b"there").unwrap();
    assert_eq!(copy, lab.dir.path().join("a.mfs-conflict-n1-2"));
    assert_eq!(open.write_apart("n1", Some(&copy), 1, b"here").unwrap(), copy);
    assert_eq!(std::fs::read(&copy).unwrap(), b"\0here\0\0\0there");
    let stat = std::fs::metadata(&copy).unwrap();
    let stat = (stat.uid(), stat.gid(), stat.mode() & 0o7777);
    assert_eq!(stat, (1001, 1002, 0o600));
    assert_eq!(std::fs::read(lab.dir.path().join("a")).unwrap(), b"");
    std::fs::remove_file(&copy).unwrap();
    let again = open.write_apart("n1", Some(&copy), 0, b"x").unwrap();
    assert_eq!(std::fs::read(again).unwrap(), b"x", "one that was removed is made anew");
}

#[test]
fn what_is_kept_apart_of_a_removed_file_is_where_it_was() {
    let lab = lab();
    let open = made_by(&lab, &Caller::root(), lab.export.root().unwrap().file, "a");
    std::fs::remove_file(lab.dir.path().join("a")).unwrap();
    let copy = open.write_apart("n1", None, 0, b"x").unwrap();
    assert_eq!(copy, lab.dir.path().join("a.mfs-conflict-n1-1"));
}

#[test]
fn what_may_not_be_beside_its_file_is_kept_at_the_root() {
    let lab = lab();
    let user = Caller::user(1001, 1002, &[]);
    let parent = MakeDir { parent: lab.export.root().unwrap().file, name: name("d"), mode: 0o777 };
    let parent = lab.export.call(&Caller::root(), parent, &lab.opens).unwrap();
    permit(&lab.dir.path().join("d"), 0o777);
    let open = made_by(&lab, &user, parent.file, "a");
    permit(&lab.dir.path().join("d"), 0o755);
    let copy = open.write_apart("n1", None, 0, b"x").unwrap();
    let lost = lab.dir.path().join(".mfs-conflicts");
    assert_eq!(copy, lost.join("a.mfs-conflict-n1-1"));
    assert_eq!(std::fs::metadata(&copy).unwrap().uid(), 1001);
    assert_eq!(
        std::fs::metadata(lost).unwrap().mode() & 0o7777,
        0o711,
        "its names are root's to see"
    );
    let again = open.write_apart("n1", Some(&copy), 1, b"y").unwrap();
    assert_eq!((std::fs::read(&again).unwrap(), again), (b"xy".to_vec(), copy));
}
