//! Local changes on a file system of their own, so that nobody else's are among them.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;
use crate::export::{Abilities, ExportKeys, ExportSettings, FdBudget, OpenMap};
use crate::types::op::{Entry, Lookup, MakeDir};
use crate::types::{Caller, NodeId};

/// What ends a wait that would never end.
const LIMIT: Duration = Duration::from_secs(60);

/// An export of a file system in memory, which is watched.
struct Lab {
    export: Export,
    opens: OpenMap,
    woken: mpsc::Receiver<()>,
    dir: tempfile::TempDir,
}

fn name(name: &str) -> FileName {
    FileName::parse(name.as_bytes().to_vec()).unwrap()
}

fn mount_at(place: &Path) {
    mount("watched", place, "tmpfs", MountFlags::empty(), None).unwrap();
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount_at(dir.path());
        let lab = Self::of(dir, Abilities::probe());
        lab.export.watch(&lab.export.root().unwrap().file);
        lab
    }

    fn of(dir: tempfile::TempDir, abilities: Abilities) -> Self {
        let settings = ExportSettings::of(dir.path());
        let keys = ExportKeys { seal: [1; 32], inode_numbers: [2; 32] };
        let (home, budget) = (NodeId::from_digest([3; 32]), FdBudget::new(100));
        let export = Export::open_with(&settings, &keys, home, budget, abilities).unwrap();
        let (wake, woken) = mpsc::channel();
        export.on_local_changes(Box::new(move || {
            let _ = wake.send(());
        }));
        let opens = OpenMap::new(export.budget(), 50);
        Self { export, opens, woken, dir }
    }

    fn root(&self) -> Entry {
        self.export.root().unwrap()
    }

    fn find(&self, path: &str) -> Entry {
        path.split('/').fold(self.root(), |parent, component| {
            let lookup = Lookup { parent: parent.file, name: name(component) };
            self.export.call(&Caller::root(), lookup, &self.opens).unwrap()
        })
    }

    /// What another process's work, a line of shell in the root, is noticed as.
    fn changed_by(&self, work: &str) -> Vec<(u64, bool)> {
        self.export.local_changes();
        let done = Command::new("sh").arg("-ec").arg(work).current_dir(self.dir.path()).status();
        assert!(done.unwrap().success(), "{work}");
        let changes = self.export.local_changes();
        assert!(!changes.anything && changes.own.is_empty(), "{work}: {changes:?}");
        sorted(&changes.others)
    }
}

fn sorted(changes: &[Changed]) -> Vec<(u64, bool)> {
    let mut all: Vec<_> = changes.iter().map(|c| (c.ino.get(), c.names)).collect();
    all.sort_unstable();
    all
}

/// Numbers, and whether names in them are changed.
fn wanted(files: &[(&Entry, bool)]) -> Vec<(u64, bool)> {
    let mut all: Vec<_> =
        files.iter().map(|(entry, names)| (entry.attr.ino.get(), *names)).collect();
    all.sort_unstable();
    all
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn each_kind_of_local_change_is_noticed_with_the_numbers_of_its_files() {
    let lab = Lab::new();
    lab.changed_by("mkdir d e; echo > d/a; echo > d/b; ln -s a d/l; mkdir d/sub");
    let (root, d, e) = (lab.root(), lab.find("d"), lab.find("e"));
    let (a, b, l, sub) = (lab.find("d/a"), lab.find("d/b"), lab.find("d/l"), lab.find("d/sub"));
    let cases: &[(&str, &[(&Entry, bool)])] = &[
        ("echo more >> d/a", &[(&a, false)]),
        ("truncate -s 0 d/a", &[(&a, false)]),
        ("fallocate -l 10 d/a", &[(&a, false)]),
        ("chmod 600 d/a", &[(&a, false)]),
        ("chown -h 7:7 d/l", &[(&l, false)]),
        ("touch -m -d @9 d/a", &[(&a, false)]),
        ("chmod 700 d", &[(&d, false)]),
        ("mkdir d/new", &[(&d, true)]),
        ("ln d/a e/a", &[(&e, true), (&a, false)]),
        ("mv d/b e/c", &[(&d, true), (&e, true), (&b, false)]),
        ("mv e/c d/a", &[(&d, true), (&e, true), (&b, false), (&a, false)]),
        ("mv d/sub d/bus", &[(&d, true), (&sub, false)]),
        ("rmdir d/bus", &[(&d, true), (&sub, true)]),
        ("rm d/l", &[(&d, true), (&l, false)]),
        ("mv d e/", &[(&root, true), (&e, true), (&d, false)]),
    ];
    for (work, files) in cases {
        assert_eq!(lab.changed_by(work), wanted(files), "{work}");
    }
    assert_eq!(lab.changed_by("{ ls -lR; cat e/a; } > /dev/null"), [], "reading is no change");
}

#[test]
fn what_is_written_through_a_map_is_noticed_when_the_file_is_closed() {
    let lab = Lab::new();
    lab.changed_by("truncate -s 4096 a");
    let a = lab.find("a");
    let script = "python3 -c 'import mmap; f = open(\"a\", \"r+b\"); m = mmap.mmap(f.fileno(), 0); \
                  m[0:1] = b\"x\"; m.close(); f.close()'";
    assert_eq!(lab.changed_by(script), wanted(&[(&a, false)]));
}

#[test]
fn own_changes_are_told_apart_and_who_waits_is_woken() {
    let lab = Lab::new();
    let make = MakeDir { parent: lab.root().file, name: name("d"), mode: 0o755 };
    lab.export.call(&Caller::root(), make, &lab.opens).unwrap();
    lab.woken.recv_timeout(LIMIT).unwrap();
    let changes = lab.export.local_changes();
    assert_eq!(sorted(&changes.own), wanted(&[(&lab.root(), true)]));
    assert_eq!(changes.others, []);
}

#[test]
fn nothing_is_noticed_before_it_matters_and_only_where_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    mount_at(dir.path());
    let lab = Lab::of(dir, Abilities::probe());
    assert!(lab.export.is_watchable());
    assert_eq!(lab.changed_by("echo > a"), []);
    let (root, a) = (lab.root(), lab.find("a"));
    let watched = lab.export.watch(&root.file);
    assert!(watched.covers(&root.file) && watched.covers(&a.file));
    assert_eq!(lab.changed_by("echo > a"), wanted(&[(&a, false)]));
    assert_eq!(lab.export.number_of(&a.file), Some(a.attr.ino));
    assert_eq!(lab.export.number_of_name(&root.file, &name("a")), Some(a.attr.ino));
    assert_eq!(lab.export.number_of_name(&root.file, &name("b")), None);

    let without = Abilities { fanotify: false, ..Abilities::probe() };
    let lab = Lab::of(tempfile::tempdir().unwrap(), without);
    assert!(!lab.export.is_watchable());
    assert!(!lab.export.watch(&lab.root().file).covers(&lab.root().file));
}

#[test]
fn a_mount_below_the_tree_changes_anything_and_is_watched_anew() {
    let lab = Lab::new();
    lab.changed_by("mkdir m");
    let place = lab.dir.path().join("m");
    mount_at(&place);
    assert!(lab.export.local_changes().anything);
    assert!(!lab.export.watch(&lab.find("m").file).covers(&lab.root().file), "not any more");
    let inner = lab.find("m");
    let watched = lab.export.watch(&lab.root().file);
    assert!(watched.covers(&inner.file) && watched.covers(&lab.root().file));
    assert_eq!(lab.changed_by("mkdir m/x"), wanted(&[(&inner, true)]));
    // Neither the marks nor the thread keep it from being unmounted.
    drop(inner);
    lab.export.release_idle(Duration::ZERO);
    // A process that another test is just starting holds a copy of every descriptor until it runs.
    let begin = crate::clock::now();
    while unmount(&place, UnmountFlags::empty()).is_err() {
        assert!(begin.elapsed() < LIMIT, "something holds it");
        std::thread::yield_now();
    }
    assert!(lab.export.local_changes().anything);
}

#[test]
fn what_does_not_fit_into_the_queue_may_be_anything() {
    let lab = Lab::new();
    let most = std::fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    // Each file is an event of its own.
    let work = format!("import os\nfor i in range({}): os.mknod(str(i))", most + 100);
    let done = Command::new("python3").arg("-c").arg(work).current_dir(lab.dir.path()).status();
    assert!(done.unwrap().success());
    assert!(lab.export.local_changes().anything);
    assert!(!lab.export.local_changes().anything, "it is over");
    lab.changed_by("rm 1");
}
