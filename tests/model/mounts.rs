//! Mounts below an export: entered, barred, read-only, gone.

use std::path::Path;
use std::time::Duration;

use mfs::export::Abilities;
use mfs::types::op::{CheckAccess, Link, StatFsOf};
use mfs::types::{Access, AccessMode, Caller, Errno, FileKind, OpenFlags, SetAttr};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::lab::{Lab, name, needs_root, open_export};
use crate::sys;

fn mount_new(kind: &str, at: &Path) {
    std::fs::create_dir_all(at).expect("mkdir");
    mount(kind, at, kind, MountFlags::empty(), None).expect("mount");
}

/// Runs a test with all abilities, and without `openat2(2)`, each in a mount namespace of its own.
fn in_own_mounts(test: fn(Lab)) {
    needs_root();
    for openat2 in [true, false] {
        std::thread::spawn(move || {
            sys::own_mounts();
            test(Lab::with(Abilities { openat2, ..Abilities::ALL }, |settings| settings));
        })
        .join()
        .expect("the test passes");
    }
}

#[test]
fn an_ordinary_mount_is_entered_and_its_numbers_are_its_own() {
    in_own_mounts(|lab| {
        for at in ["a", "b"] {
            mount_new("tmpfs", &lab.path(at));
            std::fs::write(lab.path(at).join("file"), at).unwrap();
        }
        let (a, b) = (lab.walk("a/file").unwrap(), lab.walk("b/file").unwrap());
        assert_ne!(a.attr.ino, b.attr.ino, "equal numbers on two file systems");
        assert_ne!(lab.walk("a").unwrap().attr.ino, lab.walk("b").unwrap().attr.ino);
        lab.open(&Caller::root(), &a.file, 1, Access::Read, OpenFlags::empty()).unwrap();
        assert_eq!(&lab.read(1, 0, 9).unwrap()[..], b"a");
        let made = lab.create(
            &Caller::root(),
            &lab.walk("b").unwrap().file,
            "new",
            2,
            OpenFlags::EXCLUSIVE,
        );
        assert!(made.is_ok());
        assert_eq!(lab.names(&lab.root()), ["a", "b"]);
        assert_eq!(lab.names(&lab.walk("b").unwrap().file), ["file", "new"]);

        let link = Link { file: a.file.clone(), parent: lab.root(), name: name("x") };
        assert_eq!(lab.call(&Caller::root(), link), Err(Errno::XDev));

        // After a restart the mount is found again by what the id says of it.
        let settings = mfs::export::ExportSettings::of(lab.dir.path());
        let restarted = Lab {
            export: open_export(&settings, Abilities::ALL),
            opens: mfs::export::OpenMap::new(lab.export.budget(), 10),
            dir: tempfile::tempdir().unwrap(),
        };
        assert_eq!(restarted.attr(&a.file).unwrap().ino, a.attr.ino);
        assert_eq!(restarted.attr(&b.file).unwrap().ino, b.attr.ino);
    });
}

#[test]
fn views_of_the_kernel_are_empty_directories() {
    in_own_mounts(|lab| {
        mount_new("proc", &lab.path("proc"));
        let found = lab.walk("proc").unwrap();
        assert_eq!((found.attr.kind, found.attr.mode), (FileKind::Directory, 0o555));
        assert!(found.attr.ino.get() > 1);
        assert_eq!(lab.attr(&found.file).unwrap(), found.attr);
        let caller = Caller::root();
        assert_eq!(lab.lookup(&found.file, "self"), Err(Errno::NoEnt));
        assert_eq!(lab.names(&found.file), Vec::<String>::new());
        assert_eq!(lab.make_dir(&caller, &found.file, "d"), Err(Errno::RoFs));
        assert_eq!(lab.unlink(&found.file, "d"), Err(Errno::RoFs));
        let created = lab.create(&caller, &found.file, "d", 1, OpenFlags::empty());
        assert_eq!(created, Err(Errno::RoFs));
        let mode = SetAttr { mode: Some(0o777), ..SetAttr::default() };
        assert_eq!(lab.set(&caller, &found.file, mode), Err(Errno::RoFs));
        let opened = lab.open(&caller, &found.file, 1, Access::Write, OpenFlags::empty());
        assert_eq!(opened, Err(Errno::IsDir));
        let check = |mode| lab.call(&caller, CheckAccess { file: found.file.clone(), mode });
        assert_eq!(check(AccessMode::READ | AccessMode::EXECUTE), Ok(()));
        assert_eq!(check(AccessMode::WRITE), Err(Errno::RoFs));
        assert!(lab.call(&caller, StatFsOf { file: found.file.clone() }).is_ok());
        let removed = mfs::types::op::RemoveDir { parent: lab.root(), name: name("proc") };
        assert_eq!(lab.call(&caller, removed), Err(Errno::Busy));
        assert_eq!(lab.names(&lab.root()), ["proc"]);
    });
}

#[test]
fn a_mount_that_is_read_only_stays_so_though_its_file_system_is_writable_elsewhere() {
    in_own_mounts(|lab| {
        std::fs::create_dir_all(lab.path("rw")).unwrap();
        std::fs::create_dir_all(lab.path("ro")).unwrap();
        std::fs::write(lab.path("rw/f"), b"text").unwrap();
        mount_bind(lab.path("rw"), lab.path("ro")).unwrap();
        mount_remount(lab.path("ro"), MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        let (rw, ro) = (lab.walk("rw/f").unwrap(), lab.walk("ro/f").unwrap());
        assert_eq!(rw.attr.ino, ro.attr.ino, "one file");
        let open = |file| lab.open(&Caller::root(), file, 1, Access::Write, OpenFlags::empty());
        assert_eq!(open(&ro.file).err(), Some(Errno::RoFs));
        let mode = SetAttr { mode: Some(0), ..SetAttr::default() };
        assert_eq!(lab.set(&Caller::root(), &ro.file, mode), Err(Errno::RoFs));
        assert!(open(&rw.file).is_ok());
    });
}

#[test]
fn the_state_directory_is_hidden_behind_a_bind_mount() {
    needs_root();
    std::thread::spawn(|| {
        sys::own_mounts();
        let lab = Lab::with(Abilities::ALL, |mut settings| {
            let state = settings.path.join("state");
            std::fs::create_dir(&state).unwrap();
            std::fs::write(state.join("key"), b"secret").unwrap();
            settings.hidden_dirs.push(state);
            settings
        });
        std::fs::create_dir(lab.path("whole")).unwrap();
        std::fs::write(lab.path("one"), b"").unwrap();
        mount_bind(lab.path("state"), lab.path("whole")).unwrap();
        mount_bind(lab.path("state/key"), lab.path("one")).unwrap();
        assert_eq!(lab.walk("whole"), Err(Errno::NoEnt));
        assert_eq!(lab.walk("one"), Err(Errno::NoEnt));
        assert_eq!(lab.names(&lab.root()), Vec::<String>::new());

        // The directory around it, mounted elsewhere: what was hidden in it is hidden there too.
        std::fs::create_dir(lab.path("around")).unwrap();
        mount_bind(lab.dir.path(), lab.path("around")).unwrap();
        assert_eq!(lab.walk("around/state"), Err(Errno::NoEnt));
        assert_eq!(lab.walk("around/whole").map(|_| ()), Ok(()), "what lies below the mount");
        assert_eq!(lab.names(&lab.walk("around/whole").unwrap().file), Vec::<String>::new());
    })
    .join()
    .unwrap();
}

#[test]
fn a_mount_that_nothing_uses_can_be_unmounted() {
    in_own_mounts(|lab| {
        mount_new("tmpfs", &lab.path("m"));
        std::fs::write(lab.path("m/f"), b"x").unwrap();
        let id = lab.walk("m/f").unwrap().file;
        assert!(unmount(lab.path("m"), UnmountFlags::empty()).is_err(), "in use a moment ago");
        lab.export.release_idle(Duration::from_secs(3600));
        assert!(unmount(lab.path("m"), UnmountFlags::empty()).is_err(), "not idle for long");
        lab.export.release_idle(Duration::ZERO);
        unmount(lab.path("m"), UnmountFlags::empty()).unwrap();
        assert_eq!(lab.attr(&id), Err(Errno::Stale));
        // Another file system in its place is another.
        mount_new("tmpfs", &lab.path("m"));
        std::fs::write(lab.path("m/f"), b"y").unwrap();
        assert_eq!(lab.attr(&id), Err(Errno::Stale));
        assert!(lab.walk("m/f").is_ok());
    });
}

#[test]
fn an_export_of_a_view_of_the_kernel_is_refused() {
    needs_root();
    use mfs::export::{Export, ExportError, ExportSettings, FdBudget};
    let open = |path: &str| {
        let settings = ExportSettings::of(path);
        Export::open(&settings, &crate::lab::keys(), crate::lab::home(), FdBudget::new(9))
    };
    assert!(matches!(open("/proc"), Err(ExportError::NotServed { .. })));
    assert!(matches!(open("/etc/passwd"), Err(ExportError::NotADirectory { .. })));
    assert!(matches!(open("/nowhere"), Err(ExportError::Root { .. })));
}
