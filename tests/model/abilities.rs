//! Everything works where the kernel offers less.

use mfs::export::{Abilities, ExportSettings, OpenMap};
use mfs::types::{Access, Caller, Errno, OpenFlags};

use crate::lab::{Lab, needs_root, open_export};

/// What may be missing.
pub(crate) const LESS: [Abilities; 3] = [
    Abilities { handles: false, ..Abilities::ALL },
    Abilities { openat2: false, ..Abilities::ALL },
    Abilities { handles: false, openat2: false, fanotify: false, leases: false },
];

#[test]
fn this_kernel_has_what_the_tests_rest_on() {
    needs_root();
    assert_eq!(Abilities::probe(), Abilities::ALL);
    assert!(Abilities::probe().missing().is_empty());
    assert_eq!(LESS[2].missing().len(), 4);
}

#[test]
fn files_are_made_found_and_read_without() {
    needs_root();
    for abilities in LESS {
        let lab = Lab::with(abilities, |settings| settings);
        let (root, caller) = (lab.root(), Caller::root());
        let directory = lab.make_dir(&caller, &root, "d").unwrap();
        let made = lab.create(&caller, &directory.file, "f", 1, OpenFlags::EXCLUSIVE).unwrap();
        lab.write(1, 0, b"text").unwrap();
        let found = lab.walk("d/f").unwrap();
        assert_eq!((&found.file, found.attr.ino), (&made.file, made.attr.ino));
        assert_eq!(found.attr.size, 4);
        assert_eq!(lab.names(&directory.file), ["f"]);
        assert_ne!(directory.attr.ino, made.attr.ino);
        std::fs::hard_link(lab.path("d/f"), lab.path("again")).unwrap();
        assert_eq!(lab.walk("again").unwrap().attr.ino, made.attr.ino);
        std::fs::remove_file(lab.path("again")).unwrap();
        std::fs::remove_file(lab.path("d/f")).unwrap();
        assert_eq!(lab.attr(&made.file).unwrap().nlink, 0, "open, though unlinked");
        std::os::unix::fs::symlink("/etc", lab.path("link")).unwrap();
        assert_eq!(lab.walk("link/passwd"), Err(Errno::NotDir));
    }
}

#[test]
fn a_pinned_file_is_stale_after_a_restart_and_after_too_many_others() {
    needs_root();
    let lab = Lab::with(LESS[0], |settings| settings);
    let root = lab.root();
    for i in 0..400 {
        std::fs::write(lab.path(&format!("f{i}")), b"x").unwrap();
    }
    let first = lab.walk("f0").unwrap().file;
    assert_eq!(lab.walk("f0").unwrap().file, first, "the same file, the same id");
    for i in 1..400 {
        lab.walk(&format!("f{i}")).unwrap();
    }
    assert_eq!(lab.attr(&first), Err(Errno::Stale), "a quarter of 1000 are pinned");
    assert!(lab.export.budget().taken() <= 250);
    let last = lab.walk("f399").unwrap();
    assert_eq!(lab.attr(&last.file).unwrap().ino, last.attr.ino);

    let restarted = Lab {
        export: open_export(&ExportSettings::of(lab.dir.path()), LESS[0]),
        opens: OpenMap::new(lab.export.budget(), 10),
        dir: tempfile::tempdir().unwrap(),
    };
    assert_eq!(restarted.attr(&last.file), Err(Errno::Stale));
    assert!(
        lab.attr(&root).is_ok() && restarted.attr(&root).is_ok(),
        "the root is never forgotten"
    );
    assert_eq!(restarted.walk("f399").unwrap().attr.ino, last.attr.ino, "the number stays");
    let open = lab.open(&Caller::root(), &last.file, 1, Access::Read, OpenFlags::empty());
    assert!(open.is_ok());
}
