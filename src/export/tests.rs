//! What an export must do and refuse, tried on real directories.

use super::*;
use crate::types::op::{self, Create, GetAttr, Lookup, MakeDir, Read, ReadDir, Write};
use crate::types::{Access, FileName, OpenFlags, OpenId};

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
    let write =
        Write { open: OpenId::FIRST, offset: 0, data: (&b"hello"[..]).into(), pages: false };
    assert_eq!(export.call(&caller, write, opens).unwrap().size, 5);
    let read = Read { open: OpenId::FIRST, offset: 1, size: 100, pages: false };
    assert_eq!(&export.call(&caller, read, opens).unwrap().data[..], b"ello");
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"hello");

    let look = Lookup { parent: root.file.clone(), name: name("a") };
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
    assert_eq!(seen(1), LocalUse::Unknown);
    let writer = beside(true);
    assert_eq!(seen(1), LocalUse::Writes);
    drop((reader, writer));
}
