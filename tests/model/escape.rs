//! A hostile peer's attempts to reach what it was not shown.

use std::os::unix::fs::symlink;

use mfs::export::{Abilities, Export, ExportSettings, FdBudget};
use mfs::types::op::{Link, MakeDir, RemoveDir, Rename, Unlink};
use mfs::types::{Access, Caller, Errno, FileId, FileName, OpenFlags, RenameFlags, SetAttr};

use crate::lab::{Lab, home, keys, name, needs_root, open_export};
use crate::sys;

const SECRET: &[u8] = b"the key of the node";

/// A tree with a hidden state directory that holds a key.
fn with_state() -> Lab {
    let lab = Lab::with(Abilities::ALL, |mut settings| {
        let state = settings.path.join("state");
        std::fs::create_dir_all(state.join("deep")).expect("mkdir");
        std::fs::write(state.join("key"), SECRET).expect("write");
        std::fs::write(state.join("deep/key"), SECRET).expect("write");
        settings.hidden_dirs.push(state);
        settings.hidden_paths.push(settings.path.join("shadow"));
        settings
    });
    std::fs::write(lab.path("plain"), b"plain").expect("write");
    lab
}

#[test]
fn forged_altered_and_cut_ids_are_stale() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("a"), b"x").unwrap();
    let id = lab.walk("a").unwrap().file;
    for byte in 0..id.as_bytes().len() {
        let mut bytes = id.as_bytes().to_vec();
        bytes[byte] ^= 0x10;
        let altered = FileId::from_bytes(bytes.into()).unwrap();
        assert_eq!(lab.attr(&altered), Err(Errno::Stale));
        let cut = id.as_bytes().slice(..byte);
        if let Some(cut) = FileId::from_bytes(cut) {
            assert_eq!(lab.attr(&cut), Err(Errno::Stale));
        }
    }
    let long = FileId::from_bytes(vec![0xff; FileId::MAX_LEN].into()).unwrap();
    assert_eq!(lab.attr(&long), Err(Errno::Stale));
}

#[test]
fn an_id_outlives_a_restart_but_not_another_key_or_another_configuration() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("a"), b"x").unwrap();
    let id = lab.walk("a").unwrap();
    let settings = ExportSettings::of(lab.dir.path());
    let attr = |export: &Export| {
        let opens = mfs::export::OpenMap::new(export.budget(), 9);
        let get = mfs::types::op::GetAttr { file: id.file.clone(), open: None };
        export.call(&Caller::root(), get, &opens)
    };
    let restarted = open_export(&settings, Abilities::ALL);
    assert_eq!(attr(&restarted).unwrap().ino, id.attr.ino);

    let mut other_keys = keys();
    other_keys.seal[0] ^= 1;
    let other = Export::open(&settings, &other_keys, home(), FdBudget::new(9)).unwrap();
    assert_eq!(attr(&other), Err(Errno::Stale));

    let mut hiding = settings.clone();
    hiding.hidden_paths.push(lab.path("a"));
    assert_eq!(attr(&open_export(&hiding, Abilities::ALL)), Err(Errno::Stale));
}

#[test]
fn no_link_is_followed_and_no_name_leads_up() {
    needs_root();
    let lab = Lab::new();
    symlink("/etc", lab.path("link")).unwrap();
    symlink("..", lab.path("up")).unwrap();
    for link in ["link", "up"] {
        let found = lab.walk(link).unwrap();
        assert_eq!(found.attr.kind, mfs::types::FileKind::Symlink);
        assert_eq!(lab.lookup(&found.file, "passwd"), Err(Errno::NotDir));
        let opened = lab.open(&Caller::root(), &found.file, 1, Access::Read, OpenFlags::empty());
        assert_eq!(opened, Err(Errno::Loop));
        let root = lab.root();
        assert_eq!(
            lab.create(&Caller::root(), &root, link, 2, OpenFlags::empty()),
            Err(Errno::Loop)
        );
    }
    for bad in ["..", ".", "a/b", "/", "a\0"] {
        assert!(FileName::parse(bad.as_bytes().to_vec()).is_err());
    }
}

#[test]
fn fifos_sockets_and_devices_are_never_opened() {
    needs_root();
    let lab = Lab::new();
    sys::make_fifo(&lab.path("fifo"));
    let _listener = std::os::unix::net::UnixListener::bind(lab.path("socket")).unwrap();
    sys::make_device(&lab.path("null"), 1, 3);
    for special in ["fifo", "socket", "null"] {
        let file = lab.walk(special).unwrap().file;
        let root = lab.root();
        for access in [Access::Read, Access::Write, Access::ReadWrite] {
            for flags in [OpenFlags::empty(), OpenFlags::TRUNCATE, OpenFlags::EXECUTE] {
                let opened = lab.open(&Caller::root(), &file, 1, access, flags);
                assert_eq!(opened, Err(Errno::NxIo), "{special}");
            }
        }
        let created = lab.create(&Caller::root(), &root, special, 1, OpenFlags::TRUNCATE);
        assert_eq!(created, Err(Errno::NxIo), "{special}");
        let size = SetAttr { size: Some(0), ..SetAttr::default() };
        assert_eq!(lab.set(&Caller::root(), &file, size), Err(Errno::Inval), "{special}");
    }
}

#[test]
fn the_state_directory_looks_absent_by_every_way() {
    needs_root();
    let lab = with_state();
    let root = lab.root();
    assert_eq!(lab.names(&root), ["plain"]);
    assert_eq!(lab.walk("state"), Err(Errno::NoEnt));

    // By a hard link made behind the server's back, before and after it looked.
    std::fs::hard_link(lab.path("state/deep/key"), lab.path("linked")).unwrap();
    assert_eq!(lab.walk("linked"), Err(Errno::NoEnt));
    std::fs::write(lab.path("state/new"), SECRET).unwrap();
    std::fs::hard_link(lab.path("state/new"), lab.path("linked-new")).unwrap();
    assert_eq!(lab.walk("linked-new"), Err(Errno::NoEnt));
    assert_eq!(lab.names(&root), ["plain"]);
    let created = lab.create(&Caller::root(), &root, "linked", 1, OpenFlags::empty());
    assert_eq!(created, Err(Errno::Access));
    let elsewhere = lab.make_dir(&Caller::root(), &root, "elsewhere").unwrap().file;
    std::fs::hard_link(lab.path("state/key"), lab.path("elsewhere/linked")).unwrap();
    let created = lab.create(&Caller::root(), &elsewhere, "linked", 1, OpenFlags::empty());
    assert_eq!(created, Err(Errno::NoEnt));
    std::fs::remove_dir_all(lab.path("elsewhere")).unwrap();

    // By a symbolic link: it is not followed, and what it says leads nowhere new.
    symlink("state/key", lab.path("sym")).unwrap();
    assert!(lab.walk("sym").is_ok());
    assert_eq!(lab.walk("sym/x"), Err(Errno::NotDir));
}

#[test]
fn the_state_directory_cannot_be_moved_removed_or_replaced() {
    needs_root();
    let lab = with_state();
    let (root, caller) = (lab.root(), Caller::root());
    let rename = |from: &str, to: &str, flags| {
        lab.call(
            &caller,
            Rename {
                parent: root.clone(),
                name: name(from),
                new_parent: root.clone(),
                new_name: name(to),
                flags,
            },
        )
    };
    for flags in [RenameFlags::empty(), RenameFlags::EXCHANGE, RenameFlags::NOREPLACE] {
        assert_eq!(rename("state", "seen", flags), Err(Errno::NoEnt));
        assert_eq!(rename("plain", "state", flags), Err(Errno::Access));
    }
    let remove = RemoveDir { parent: root.clone(), name: name("state") };
    assert_eq!(lab.call(&caller, remove), Err(Errno::NoEnt));
    let unlink = Unlink { parent: root.clone(), name: name("state") };
    assert_eq!(lab.call(&caller, unlink), Err(Errno::NoEnt));
    let plain = lab.walk("plain").unwrap().file;
    let link = Link { file: plain, parent: root.clone(), name: name("state") };
    assert_eq!(lab.call(&caller, link), Err(Errno::Access));
    let make = MakeDir { parent: root.clone(), name: name("state"), mode: 0o777 };
    assert_eq!(lab.call(&caller, make), Err(Errno::Access));
    for hidden in ["state", "shadow"] {
        let created = lab.create(&caller, &root, hidden, 1, OpenFlags::empty());
        assert_eq!(created, Err(Errno::Access), "there or not");
    }
    assert_eq!(std::fs::read(lab.path("state/key")).unwrap(), SECRET);
}

#[test]
fn a_file_that_is_moved_into_the_state_directory_is_gone_for_those_who_knew_it() {
    needs_root();
    let lab = with_state();
    let known = lab.walk("plain").unwrap().file;
    assert!(lab.attr(&known).is_ok());
    std::fs::rename(lab.path("plain"), lab.path("state/plain")).unwrap();
    let begun = mfs::clock::now();
    while lab.attr(&known) != Err(Errno::NoEnt) {
        assert!(begun.elapsed().as_secs() < 20, "still served");
    }
}

#[test]
fn a_hidden_path_is_hidden_while_it_is_replaced() {
    needs_root();
    let lab = with_state();
    let root = lab.root();
    for text in [&b"one"[..], b"two"] {
        std::fs::write(lab.path("fresh"), text).unwrap();
        std::fs::rename(lab.path("fresh"), lab.path("shadow")).unwrap();
        assert_eq!(lab.walk("shadow"), Err(Errno::NoEnt));
        assert_eq!(lab.names(&root), ["plain"]);
        std::fs::hard_link(lab.path("shadow"), lab.path("other")).unwrap();
        assert_eq!(lab.walk("other"), Err(Errno::NoEnt));
        std::fs::remove_file(lab.path("other")).unwrap();
    }
    let unlink = lab.unlink(&root, "shadow");
    assert_eq!(unlink, Err(Errno::NoEnt));
}

#[test]
fn a_number_reused_after_a_hidden_file_is_not_hidden() {
    needs_root();
    let lab = with_state();
    let (root, caller) = (lab.root(), Caller::root());
    for round in 0..50 {
        let secret = lab.path("state/passing");
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::hard_link(&secret, lab.path("look")).unwrap();
        assert_eq!(lab.walk("look"), Err(Errno::NoEnt));
        std::fs::remove_file(lab.path("look")).unwrap();
        std::fs::remove_file(&secret).unwrap();
        let child = format!("f{round}");
        lab.create(&caller, &root, &child, 1, OpenFlags::EXCLUSIVE).unwrap();
        assert!(lab.walk(&child).is_ok());
    }
}

#[test]
fn the_number_of_descriptors_is_bounded() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("a"), b"x").unwrap();
    let file = lab.walk("a").unwrap().file;
    let opened = (1..)
        .map(|id| lab.open(&Caller::root(), &file, id, Access::Read, OpenFlags::empty()))
        .take_while(Result::is_ok)
        .count();
    assert_eq!(opened, 500, "what one session may hold");
    assert_eq!(
        lab.open(&Caller::root(), &file, 9999, Access::Read, OpenFlags::empty()),
        Err(Errno::MFile)
    );
    lab.release(1);
    assert!(lab.open(&Caller::root(), &file, 9999, Access::Read, OpenFlags::empty()).is_ok());
}

#[test]
fn sizes_and_offsets_beyond_reason_are_answered_not_obeyed() {
    needs_root();
    let lab = Lab::new();
    let (root, caller) = (lab.root(), Caller::root());
    lab.create(&caller, &root, "a", 1, OpenFlags::empty()).unwrap();
    lab.write(1, 0, b"hello").unwrap();
    assert_eq!(&lab.read(1, 0, u32::MAX).unwrap()[..], b"hello");
    assert_eq!(lab.read(1, u64::MAX, 10), Err(Errno::Inval));
    assert!(lab.write(1, u64::MAX - 2, b"hello").is_err());
    let file = lab.walk("a").unwrap().file;
    let size = |size| SetAttr { size: Some(size), ..SetAttr::default() };
    assert_eq!(lab.set(&caller, &file, size(u64::MAX)), Err(Errno::Inval));
    lab.open(&caller, &root, 2, Access::Read, OpenFlags::empty()).unwrap();
    assert_eq!(lab.list(2, u64::MAX, 0).err(), Some(Errno::Inval));
    assert!(lab.list(2, 0, u32::MAX).is_ok());
    assert!(lab.list(2, i64::MAX as u64, 10).is_ok_and(|l| l.entries.len() <= 1));
    assert_eq!(lab.list(1, 0, 10).err(), Some(Errno::NotDir));
    assert_eq!(lab.read(2, 0, 10), Err(Errno::IsDir));
    assert_eq!(lab.read(3, 0, 10), Err(Errno::BadF));
}

#[test]
fn the_flag_for_execution_opens_nothing_but_programs_for_reading() {
    needs_root();
    let lab = Lab::new();
    let (root, caller) = (lab.root(), crate::lab::user(1001));
    let mode = |bits| SetAttr { mode: Some(bits), ..SetAttr::default() };
    std::fs::write(lab.path("program"), b"text").unwrap();
    let file = lab.walk("program").unwrap().file;
    lab.set(&Caller::root(), &file, mode(0o755)).unwrap();
    let open = |file, access, flags| lab.open(&caller, file, 1, access, flags);
    let flags = OpenFlags::EXECUTE | OpenFlags::TRUNCATE;
    assert_eq!(open(&file, Access::Read, flags), Err(Errno::Access));
    for access in [Access::Write, Access::ReadWrite] {
        assert_eq!(open(&file, access, OpenFlags::EXECUTE), Err(Errno::Access));
    }
    assert!(open(&file, Access::Read, OpenFlags::EXECUTE | OpenFlags::APPEND).is_ok());
    assert_eq!(lab.write(1, 0, b"x"), Err(Errno::BadF));
    assert_eq!(std::fs::read(lab.path("program")).unwrap(), b"text");

    // A directory that may be passed but not listed.
    lab.make_dir(&Caller::root(), &root, "passage").unwrap();
    let directory = lab.walk("passage").unwrap().file;
    lab.set(&Caller::root(), &directory, mode(0o711)).unwrap();
    assert_eq!(open(&directory, Access::Read, OpenFlags::EXECUTE), Err(Errno::Access));
}

#[test]
fn a_read_only_export_changes_nothing() {
    needs_root();
    let lab = Lab::with(Abilities::ALL, |mut settings| {
        settings.read_only = true;
        settings
    });
    std::fs::write(lab.path("a"), b"text").unwrap();
    let (root, caller, file) = (lab.root(), Caller::root(), lab.walk("a").unwrap().file);
    assert_eq!(lab.make_dir(&caller, &root, "d"), Err(Errno::RoFs));
    assert_eq!(lab.unlink(&root, "a"), Err(Errno::RoFs));
    assert_eq!(lab.create(&caller, &root, "b", 1, OpenFlags::empty()), Err(Errno::RoFs));
    assert_eq!(lab.create(&caller, &root, "a", 1, OpenFlags::empty()), Err(Errno::RoFs));
    let mode = SetAttr { mode: Some(0), ..SetAttr::default() };
    assert_eq!(lab.set(&caller, &file, mode), Err(Errno::RoFs));
    for (access, flags) in [
        (Access::Write, OpenFlags::empty()),
        (Access::ReadWrite, OpenFlags::empty()),
        (Access::Read, OpenFlags::TRUNCATE),
    ] {
        assert_eq!(lab.open(&caller, &file, 1, access, flags), Err(Errno::RoFs));
    }
    assert!(lab.open(&caller, &file, 1, Access::Read, OpenFlags::empty()).is_ok());
    assert_eq!(&lab.read(1, 0, 10).unwrap()[..], b"text");
    assert_eq!(lab.names(&root), ["a"]);
}
