//! Listings of directories that are large, and that change while they are listed.

use std::collections::{BTreeSet, HashSet};

use mfs::types::{Access, Caller, FileKind, OpenFlags};

use crate::lab::{Lab, needs_root};

/// Lists everything in stretches of `limit`, opening the directory anew for each when told to.
fn list_all(lab: &Lab, limit: u32, reopen: bool, mut between: impl FnMut(usize)) -> Vec<String> {
    let root = lab.root();
    let open = |id| lab.open(&Caller::root(), &root, id, Access::Read, OpenFlags::empty());
    open(1).unwrap();
    let (mut names, mut cookie, mut stretch) = (Vec::new(), 0, 0);
    loop {
        let listing = lab.list(1, cookie, limit).unwrap();
        for entry in &listing.entries {
            names.push(String::from_utf8(entry.name.as_bytes().to_vec()).unwrap());
            cookie = entry.cookie;
            if let Some(found) = &entry.entry {
                assert_eq!((found.attr.ino, found.attr.kind), (entry.ino, entry.kind));
            }
        }
        assert!(listing.entries.len() <= limit as usize);
        if listing.end {
            break;
        }
        between(stretch);
        stretch += 1;
        if reopen {
            lab.release(1);
            open(1).unwrap();
        }
    }
    lab.release(1);
    names
}

#[test]
fn every_name_comes_once_whatever_the_length_of_the_stretches() {
    needs_root();
    let lab = Lab::new();
    let wanted: BTreeSet<String> = (0..2500).map(|i| format!("file-{i:04}")).collect();
    for name in &wanted {
        std::fs::write(lab.path(name), b"").unwrap();
    }
    for (limit, reopen) in [(1, false), (7, false), (1000, true), (4096, false), (97, true)] {
        let names = list_all(&lab, limit, reopen, |_| ());
        assert_eq!(names.len(), wanted.len(), "none twice");
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
}

#[test]
fn names_that_stay_are_listed_once_while_others_come_and_go() {
    needs_root();
    let lab = Lab::new();
    let stay: BTreeSet<String> = (0..1500).map(|i| format!("stay-{i}")).collect();
    for name in &stay {
        std::fs::write(lab.path(name), b"").unwrap();
    }
    for i in 0..1500 {
        std::fs::write(lab.path(&format!("go-{i}")), b"").unwrap();
    }
    let names = list_all(&lab, 50, true, |stretch| {
        for i in (stretch * 20)..(stretch * 20 + 20) {
            let _ = std::fs::remove_file(lab.path(&format!("go-{i}")));
            std::fs::write(lab.path(&format!("come-{i}")), b"").unwrap();
        }
    });
    let unique: HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "none twice");
    let stayed: BTreeSet<_> = names.into_iter().filter(|name| stay.contains(name)).collect();
    assert_eq!(stayed, stay);
}

#[test]
fn a_listing_of_long_names_fits_in_a_message() {
    needs_root();
    let lab = Lab::new();
    for i in 0..4096 {
        std::fs::write(lab.path(&format!("{i:0255}")), b"").unwrap();
    }
    let root = lab.root();
    lab.open(&Caller::root(), &root, 1, Access::Read, OpenFlags::empty()).unwrap();
    let listing = lab.list(1, 0, 4096).unwrap();
    assert!(!listing.end && listing.entries.len() > 1000);
    let bytes: usize = listing.entries.iter().map(|e| e.name.as_bytes().len() + 300).sum();
    assert!(bytes < 2 << 20);
    lab.release(1);
    assert_eq!(list_all(&lab, 4096, false, |_| ()).len(), 4096);
}

#[test]
fn kinds_are_told_without_attributes_too() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("file"), b"").unwrap();
    std::fs::create_dir(lab.path("dir")).unwrap();
    std::os::unix::fs::symlink("x", lab.path("link")).unwrap();
    crate::sys::make_fifo(&lab.path("fifo"));
    let root = lab.root();
    lab.open(&Caller::root(), &root, 1, Access::Read, OpenFlags::empty()).unwrap();
    let list = mfs::types::op::ReadDir {
        open: crate::lab::open_id(1),
        cookie: 0,
        limit: 100,
        attributes: false,
    };
    let listing = lab.call(&Caller::root(), list).unwrap();
    for entry in listing.entries {
        let name = String::from_utf8(entry.name.as_bytes().to_vec()).unwrap();
        let kind = match name.as_str() {
            "file" => FileKind::Regular,
            "dir" => FileKind::Directory,
            "link" => FileKind::Symlink,
            _ => FileKind::Fifo,
        };
        assert_eq!(entry.kind, kind, "{name}");
        assert!(entry.entry.is_none());
        assert_eq!(entry.ino, lab.walk(&name).unwrap().attr.ino);
    }
}
