//! Who acts: each operation with the caller's rights, and a thread that is itself again afterwards.

use mfs::export::Abilities;
use mfs::types::op::{CheckAccess, MakeDir, MakeNode, SetXattr};
use mfs::types::{
    Access, AccessMode, Caller, Capabilities, Errno, FileKind, OpenFlags, SetAttr, SetXattrMode,
    XattrName,
};
use rustix::thread::CapabilitySet;

use crate::lab::{Lab, name, needs_root, user};
use crate::sys;

pub(crate) fn mode(bits: u16) -> SetAttr {
    SetAttr { mode: Some(bits), ..SetAttr::default() }
}

#[test]
fn a_thread_is_itself_again_after_success_and_failure() {
    needs_root();
    let lab = Lab::new();
    lab.attr(&lab.root()).unwrap();
    lab.make_dir(&user(0), &lab.root(), "first").unwrap(); // from here on it has its own umask
    let before = sys::identity();
    let mut caller = Caller::user(1001, 1002, &[5, 6, 7]);
    caller.umask = 0o077;
    assert_eq!(lab.make_dir(&caller, &lab.root(), "d"), Err(Errno::Access));
    assert_eq!(sys::identity(), before);
    for (uid, gid, groups) in [(u32::MAX, 1, vec![]), (1, u32::MAX, vec![]), (1, 1, vec![u32::MAX])]
    {
        let impossible = Caller::user(uid, gid, &groups);
        assert_eq!(lab.make_dir(&impossible, &lab.root(), "d"), Err(Errno::Inval));
        assert_eq!(sys::identity(), before);
    }
    let many = Caller::user(1, 1, &vec![9; Caller::MAX_GROUPS + 1]);
    assert_eq!(lab.make_dir(&many, &lab.root(), "d"), Err(Errno::Inval));
    assert_eq!(sys::identity(), before);
}

#[test]
fn a_failure_half_way_undoes_exactly_what_was_done() {
    needs_root();
    // May change groups and the group, but not the user: the failure comes at the third step.
    for missing in [CapabilitySet::SETUID, CapabilitySet::SETGID] {
        let lab = Lab::new();
        std::thread::spawn(move || {
            let mut sets = rustix::thread::capabilities(None).unwrap();
            sets.effective &= !missing;
            sets.permitted &= !missing;
            rustix::thread::set_capabilities(None, sets).unwrap();
            lab.make_dir(&Caller::root(), &lab.root(), "first").unwrap();
            let before = sys::identity();
            let caller = Caller::user(1001, 1002, &[5, 6]);
            assert_eq!(lab.make_dir(&caller, &lab.root(), "d"), Err(Errno::Perm));
            assert_eq!(sys::identity(), before);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn files_belong_to_the_caller_and_have_its_umask() {
    needs_root();
    let lab = Lab::new();
    let root = lab.root();
    lab.set(&Caller::root(), &root, mode(0o777)).unwrap();
    let mut caller = Caller::user(1001, 1002, &[]);
    for umask in [0, 0o022, 0o077, 0o777] {
        caller.umask = umask;
        let made = lab.make_dir(&caller, &root, &format!("d{umask}")).unwrap().attr;
        assert_eq!((made.uid, made.gid), (1001, 1002));
        assert_eq!(u32::from(made.mode), 0o777 & !umask);
        let name = format!("f{umask}");
        let made = lab.create(&caller, &root, &name, 1, OpenFlags::EXCLUSIVE).unwrap().attr;
        assert_eq!(u32::from(made.mode), 0o666 & !umask);
    }
}

#[test]
fn a_default_acl_takes_the_place_of_the_umask() {
    needs_root();
    let lab = Lab::new();
    let (root, caller) = (lab.root(), Caller { umask: 0o077, ..Caller::root() });
    let directory = lab.make_dir(&Caller::root(), &root, "d").unwrap().file;
    // Version 2; user::rwx, user:1001:rwx, group::r-x, mask::rwx, other::---
    let mut acl = vec![2, 0, 0, 0];
    for (tag, perm, id) in [
        (0x01_u16, 7_u16, u32::MAX),
        (0x02, 7, 1001),
        (0x04, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&perm.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let set = |name: &str| {
        lab.call(
            &Caller::root(),
            SetXattr {
                file: directory.clone(),
                name: XattrName::parse(name.as_bytes().to_vec()).unwrap(),
                value: acl.clone().into(),
                mode: SetXattrMode::Any,
            },
        )
    };
    assert_eq!(set("system.posix_acl_default"), Ok(()));
    assert_eq!(set("system.posix_acl_access"), Ok(()));
    let made = lab.create(&caller, &directory, "f", 1, OpenFlags::EXCLUSIVE).unwrap();
    assert_eq!(made.attr.mode, 0o660, "the ACL decides, not the umask of 077");
    let check = |uid| {
        let file = made.file.clone();
        lab.call(&user(uid), CheckAccess { file, mode: AccessMode::READ | AccessMode::WRITE })
    };
    assert_eq!(check(1001), Ok(()));
    assert_eq!(check(1002), Err(Errno::Access));
}

#[test]
fn rights_are_those_of_user_group_and_groups() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("f"), b"x").unwrap();
    let file = lab.walk("f").unwrap().file;
    let owner = SetAttr { uid: Some(1001), gid: Some(2001), ..mode(0o640) };
    lab.set(&Caller::root(), &file, owner).unwrap();
    let flags = OpenFlags::empty();
    for (caller, reads, writes) in [
        (Caller::user(1001, 1, &[]), true, true),
        (Caller::user(1002, 2001, &[]), true, false),
        (Caller::user(1002, 1, &[5, 2001]), true, false),
        (Caller::user(1002, 1, &[5]), false, false),
        (Caller::root(), true, true),
        // Root of a container, without capabilities, is nobody in particular.
        (Caller { capabilities: Capabilities::empty(), ..Caller::root() }, false, false),
    ] {
        let read = lab.open(&caller, &file, 1, Access::Read, flags);
        let write = lab.open(&caller, &file, 2, Access::Write, flags);
        assert_eq!((read.is_ok(), write.is_ok()), (reads, writes), "{caller:?}");
        lab.release(1);
        lab.release(2);
    }
}

#[test]
fn a_caller_has_exactly_the_capabilities_it_says_and_may_have() {
    needs_root();
    let lab = Lab::new();
    let root = lab.root();
    let device = MakeNode {
        parent: root.clone(),
        name: name("null"),
        kind: FileKind::CharDevice,
        mode: 0o666,
        device: (1, 3),
    };
    let without = Capabilities::all() - Capabilities::MKNOD;
    let caller = Caller { capabilities: without, ..Caller::root() };
    assert_eq!(lab.call(&caller, device.clone()), Err(Errno::Perm));
    assert!(lab.call(&Caller::root(), device).is_ok());

    // What a user claims is worth nothing: only root's capabilities are believed.
    let claiming = Caller { capabilities: Capabilities::all(), ..user(1001) };
    assert!(lab.export.vouch(claiming, true).capabilities.is_empty());
}

#[test]
fn root_is_squashed_unless_it_is_trusted() {
    needs_root();
    use mfs::export::Squash;
    let lab = |squash| {
        Lab::with(Abilities::ALL, |mut settings| {
            settings.squash = squash;
            settings
        })
    };
    let root = Caller { groups: [0, 5][..].into(), ..Caller::root() };
    let of_group_root = Caller::user(1001, 0, &[0, 7]);
    for (squash, trusted, stays_root) in [
        (Squash::UntrustedRoot, true, true),
        (Squash::UntrustedRoot, false, false),
        (Squash::Root, true, false),
        (Squash::All, true, false),
    ] {
        let export = lab(squash).export;
        let vouched = export.vouch(root.clone(), trusted);
        assert_eq!(vouched.uid == 0, stays_root, "{squash:?}");
        assert_eq!(vouched.capabilities.is_empty(), !stays_root);
        assert_eq!(vouched.groups.contains(&0) || vouched.gid == 0, stays_root);
        let user = export.vouch(of_group_root.clone(), trusted);
        assert_eq!(user.uid == 1001, squash != Squash::All);
        assert_eq!(user.groups.contains(&0) || user.gid == 0, stays_root, "{squash:?}");
    }
}

#[test]
fn a_program_can_be_executed_without_being_readable() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("f"), b"#!/bin/true\n").unwrap();
    let file = lab.walk("f").unwrap().file;
    let open = |bits, flags| {
        lab.set(&Caller::root(), &file, mode(bits)).unwrap();
        let opened = lab.open(&user(1001), &file, 1, Access::Read, flags).map(|_| ());
        lab.release(1);
        opened
    };
    assert_eq!(open(0o711, OpenFlags::empty()), Err(Errno::Access));
    assert_eq!(open(0o711, OpenFlags::EXECUTE), Ok(()));
    assert_eq!(open(0o744, OpenFlags::EXECUTE), Err(Errno::Access));
}

#[test]
fn what_a_user_writes_loses_its_set_id_bits() {
    needs_root();
    let lab = Lab::new();
    let root = lab.root();
    lab.set(&Caller::root(), &root, mode(0o777)).unwrap();
    let caller = user(1001);
    let made = lab.create(&caller, &root, "f", 1, OpenFlags::EXCLUSIVE).unwrap();
    let bits = |caller: &Caller, id: Option<u64>| {
        let get =
            mfs::types::op::GetAttr { file: made.file.clone(), open: id.map(crate::lab::open_id) };
        lab.call(caller, get).unwrap().mode
    };
    lab.set(&caller, &made.file, mode(0o6777)).unwrap();
    assert_eq!(bits(&caller, None), 0o6777);
    lab.write(1, 0, b"text").unwrap();
    assert_eq!(bits(&caller, Some(1)), 0o777, "by writing");
    lab.set(&caller, &made.file, mode(0o6777)).unwrap();
    lab.set(&caller, &made.file, SetAttr { size: Some(1), ..SetAttr::default() }).unwrap();
    assert_eq!(bits(&caller, None), 0o777, "by truncating");
    lab.set(&caller, &made.file, mode(0o6777)).unwrap();
    let owner = SetAttr { gid: Some(1001), ..SetAttr::default() };
    lab.set(&caller, &made.file, owner).unwrap();
    assert_eq!(bits(&caller, None), 0o777, "by changing the group");
}

#[test]
fn a_directory_that_may_not_be_searched_is_closed_to_its_reader() {
    needs_root();
    let lab = Lab::new();
    let root = lab.root();
    let directory = lab.make_dir(&Caller::root(), &root, "d").unwrap().file;
    let make = MakeDir { parent: directory.clone(), name: name("inner"), mode: 0o755 };
    lab.call(&Caller::root(), make).unwrap();
    lab.set(&Caller::root(), &directory, mode(0o744)).unwrap();
    let caller = user(1001);
    let lookup =
        mfs::types::op::Lookup { parent: directory.clone(), name: name("inner"), keep: false };
    assert_eq!(lab.call(&caller, lookup), Err(Errno::Access));
    lab.open(&caller, &directory, 1, Access::Read, OpenFlags::empty()).unwrap();
    let list = mfs::types::op::ReadDir {
        open: crate::lab::open_id(1),
        cookie: 0,
        limit: 10,
        attributes: true,
    };
    let listing = lab.call(&caller, list).unwrap();
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.entries[0].kind, FileKind::Directory);
    assert!(listing.entries[0].entry.is_none(), "names, but no attributes");
}
