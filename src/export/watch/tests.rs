//! Local changes on a file system of their own, so that nobody else's are among them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::marks::Marks;
use super::*;
use crate::export::mounts::FsKey;
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
    /// What is exported below it.
    place: PathBuf,
}

/// Some files matter, or none.
struct Wanted(Vec<InodeNo>);

impl Interest for Wanted {
    fn in_file(&self, ino: InodeNo) -> bool {
        self.0.contains(&ino)
    }

    fn in_anything(&self) -> bool {
        !self.0.is_empty()
    }
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
        lab.remember(&[&lab.root()]);
        lab
    }

    fn of(dir: tempfile::TempDir, abilities: Abilities) -> Self {
        let place = dir.path().to_path_buf();
        Self::at(dir, place, abilities)
    }

    fn at(dir: tempfile::TempDir, place: PathBuf, abilities: Abilities) -> Self {
        let settings = ExportSettings::of(&place);
        let keys = ExportKeys { seal: [1; 32], inode_numbers: [2; 32] };
        let (home, budget) = (NodeId::from_digest([3; 32]), FdBudget::new(100));
        let export = Export::open_with(&settings, &keys, home, budget, abilities).unwrap();
        let (wake, woken) = mpsc::channel();
        export.on_local_changes(Box::new(move || {
            let _ = wake.send(());
        }));
        let opens = OpenMap::new(export.budget(), 50);
        Self { export, opens, woken, dir, place }
    }

    /// Has these files watched, from now on.
    fn remember(&self, files: &[&Entry]) {
        let watched = self.watch(files);
        for entry in files {
            assert!(watched.covers(entry.attr.ino));
        }
    }

    fn watch(&self, files: &[&Entry]) -> Watched {
        let files: Vec<_> =
            files.iter().map(|entry| (&entry.file, Some(entry.attr.kind))).collect();
        self.export.watch(&files)
    }

    fn watcher(&self) -> &Arc<Watcher> {
        self.export.tree.watch.0.get().unwrap()
    }

    fn shell(&self, work: &str) {
        let done = Command::new("sh").arg("-ec").arg(work).current_dir(&self.place).status();
        assert!(done.unwrap().success(), "{work}");
    }

    fn root(&self) -> Entry {
        self.export.root().unwrap()
    }

    fn find(&self, path: &str) -> Entry {
        path.split('/').fold(self.root(), |parent, component| {
            let lookup = Lookup { parent: parent.file, name: name(component), keep: false };
            self.export.call(&Caller::root(), lookup, &self.opens).unwrap()
        })
    }

    /// What another process's work, a line of shell in the root, is noticed as.
    fn changed_by(&self, work: &str) -> Vec<(u64, bool)> {
        self.export.local_changes();
        self.shell(work);
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
        for place in [&self.place, self.dir.path()] {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
}

#[test]
fn each_kind_of_local_change_is_noticed_with_the_numbers_of_its_files() {
    let lab = Lab::new();
    lab.shell("mkdir d e; echo > d/a; echo > d/b; ln -s a d/l; mkdir d/sub; mkfifo d/p");
    let (root, d, e) = (lab.root(), lab.find("d"), lab.find("e"));
    let (a, b, l, sub) = (lab.find("d/a"), lab.find("d/b"), lab.find("d/l"), lab.find("d/sub"));
    let p = lab.find("d/p");
    lab.remember(&[&root, &d, &e, &a, &b, &l, &sub, &p]);
    let cases: &[(&str, &[(&Entry, bool)])] = &[
        ("echo more >> d/a", &[(&a, false)]),
        ("truncate -s 0 d/a", &[(&a, false)]),
        ("fallocate -l 10 d/a", &[(&a, false)]),
        ("exec 3<>d/p; echo x >&3", &[(&p, false)]),
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
    lab.shell("truncate -s 4096 a");
    let a = lab.find("a");
    lab.remember(&[&a]);
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
fn who_opens_and_closes_a_watched_file_is_noticed() {
    let lab = Lab::new();
    lab.shell("echo text > file");
    let file = lab.find("file");
    lab.remember(&[&file]);
    lab.export.local_changes();
    lab.shell("cat file > /dev/null");
    let LocalChanges { others, used, .. } = lab.export.local_changes();
    assert!(others.is_empty(), "it is no change: {others:?}");
    let [used] = used[..] else { panic!("{used:?}") };
    assert!(used.ino == file.attr.ino && used.opened && used.closed, "{used:?}");
    drop(std::fs::File::open(lab.place.join("file")).unwrap());
    assert_eq!(lab.export.local_changes().used, [], "this process itself");
}

#[test]
fn nothing_is_noticed_before_it_matters_and_only_where_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    mount_at(dir.path());
    let lab = Lab::of(dir, Abilities::probe());
    assert!(lab.export.is_watchable());
    assert_eq!(lab.changed_by("echo > a"), []);
    let (root, a) = (lab.root(), lab.find("a"));
    lab.remember(&[&root, &a]);
    assert_eq!(lab.changed_by("echo > a"), wanted(&[(&a, false)]));
    assert_eq!(lab.export.number_of(&a.file), Some(a.attr.ino));
    assert_eq!(lab.export.number_of_name(&root.file, &name("a")), Some(a.attr.ino));
    assert_eq!(lab.export.number_of_name(&root.file, &name("b")), None);

    let without = Abilities { fanotify: false, ..Abilities::probe() };
    let lab = Lab::of(tempfile::tempdir().unwrap(), without);
    assert!(!lab.export.is_watchable());
    let mut root = lab.root();
    let watched = lab.watch(&[&root]);
    assert!(!watched.covers(root.attr.ino) && !lab.export.watch_found(&watched, &mut root));
}

#[test]
fn who_writes_to_what_nobody_remembers_is_not_reported() {
    let lab = Lab::new();
    lab.shell("echo > a; echo > b");
    let (a, b) = (lab.find("a"), lab.find("b"));
    lab.remember(&[&a]);
    assert_eq!(
        lab.changed_by("echo more | tee -a a b > /dev/null; truncate -s 9 b"),
        wanted(&[(&a, false)])
    );
    assert_eq!(
        lab.changed_by("chmod 600 b"),
        wanted(&[(&b, false)]),
        "that costs nobody who writes"
    );
}

#[test]
fn what_was_seen_before_it_was_watched_is_read_anew() {
    let lab = Lab::new();
    lab.shell("echo > a");
    let began = lab.watch(&[&lab.root()]);
    let (mut a, mut dir) = (lab.find("a"), lab.root());
    // Nobody notices it.
    assert_eq!(lab.changed_by("truncate -s 99 a"), []);
    assert!(lab.export.watch_found(&began, &mut a));
    assert_eq!(a.attr.size, 99);
    assert_eq!(lab.changed_by("truncate -s 100 a"), wanted(&[(&a, false)]));
    // Once more: it was watched after this reading had begun, and may have been looked at before.
    assert!(lab.export.watch_found(&began, &mut a));
    assert_eq!(a.attr.size, 100);
    let later = lab.watch(&[]);
    a.attr.size = 1;
    dir.attr.size = 1;
    assert!(lab.export.watch_found(&later, &mut a) && lab.export.watch_found(&later, &mut dir));
    assert_eq!((a.attr.size, dir.attr.size), (1, 1), "whatever was changed since was noticed");
    drop((began, later));
    lab.shell("rm a");
    assert_eq!(lab.export.watch_less(&Wanted(vec![dir.attr.ino]), Duration::ZERO), 0);
    assert!(!lab.export.watch_found(&lab.watch(&[]), &mut a), "it is gone");
}

#[test]
fn what_nobody_wants_to_hear_of_any_more_is_not_watched() {
    let lab = Lab::new();
    lab.shell("echo > a; echo > b");
    let (a, b) = (lab.find("a"), lab.find("b"));
    let long = Duration::from_secs(3600);
    let reading = lab.watch(&[&a]);
    lab.remember(&[&b]);
    let only_b = Wanted(vec![b.attr.ino]);
    assert_eq!(lab.export.watch_less(&only_b, long), 2, "a is being read");
    drop(reading);
    assert_eq!(lab.export.watch_less(&only_b, long), 1);
    assert_eq!(lab.changed_by("echo more | tee -a a b > /dev/null"), wanted(&[(&b, false)]));
    assert_eq!(lab.changed_by("chmod 600 a"), wanted(&[(&a, false)]));
    let nothing = Wanted(vec![]);
    assert_eq!(lab.export.watch_less(&nothing, long), 0);
    assert_eq!(lab.changed_by("chmod 644 a"), wanted(&[(&a, false)]), "not yet");
    let reading = lab.watch(&[]);
    lab.export.watch_less(&nothing, Duration::ZERO);
    assert_eq!(lab.changed_by("chmod 600 a"), wanted(&[(&a, false)]), "somebody reads");
    drop(reading);
    lab.export.watch_less(&nothing, Duration::ZERO);
    // The thread takes the marks away: its answer to another request comes after that.
    let other = Lab::new();
    let fs = FsKey(0);
    let door = std::fs::File::open(other.dir.path()).unwrap();
    assert!(lab.watcher().mark_file_system(fs, door.as_fd()).is_some());
    assert_eq!(lab.changed_by("chmod 644 a; echo more | tee -a a b > /dev/null; mkdir c"), []);
    lab.remember(&[&lab.root(), &a]);
    assert_eq!(lab.changed_by("echo more >> a; chmod 600 b").len(), 2, "it begins anew");
}

#[test]
fn a_file_for_which_there_is_no_mark_is_not_covered() {
    let lab = Lab::new();
    lab.shell("echo > a; echo > b");
    *lab.watcher().marks().lock() = Marks::new(1);
    let (root, a, mut b) = (lab.root(), lab.find("a"), lab.find("b"));
    let watched = lab.watch(&[&root, &a, &b]);
    assert!(watched.covers(root.attr.ino) && watched.covers(a.attr.ino));
    assert!(!watched.covers(b.attr.ino) && !lab.export.watch_found(&watched, &mut b));
}

#[test]
fn an_overlay_is_watched_if_its_handles_last_and_name_it() {
    let base = Lab::new();
    for (options, fits) in [("index=on,nfs_export=on,uuid=on", true), ("index=on,uuid=on", false)] {
        base.shell("rm -rf l u w m; mkdir l u w m; mkdir l/d; echo low > l/d/a");
        let (dir, mountpoint) = (base.dir.path().display(), base.dir.path().join("m"));
        let options = format!("lowerdir={dir}/l,upperdir={dir}/u,workdir={dir}/w,{options}");
        let options = std::ffi::CString::new(options).unwrap();
        let mounted = mount("o", &mountpoint, "overlay", MountFlags::empty(), options.as_c_str());
        if mounted == Err(rustix::io::Errno::INVAL) {
            return; // before Linux 6.6 an overlay has no id of its own
        }
        mounted.unwrap();
        let lab = Lab::at(tempfile::tempdir().unwrap(), mountpoint, Abilities::probe());
        let (root, d, a) = (lab.root(), lab.find("d"), lab.find("d/a"));
        let watched = lab.watch(&[&root, &d, &a]);
        for entry in [&root, &d, &a] {
            assert_eq!(watched.covers(entry.attr.ino), fits);
        }
        if fits {
            assert_eq!(lab.changed_by("echo more >> d/a"), wanted(&[(&a, false)]), "copied up");
            assert_eq!(lab.changed_by("chmod 600 d/a"), wanted(&[(&a, false)]));
            assert_eq!(lab.changed_by("ln d/a b"), wanted(&[(&root, true), (&a, false)]));
            assert_eq!(lab.changed_by("echo > d/new"), wanted(&[(&d, true)]));
            assert_eq!(lab.changed_by("truncate -s 0 b"), wanted(&[(&a, false)]));
        }
    }
}

#[test]
fn a_mount_below_the_tree_changes_anything_and_is_watched_anew() {
    let lab = Lab::new();
    lab.changed_by("mkdir m");
    let place = lab.dir.path().join("m");
    mount_at(&place);
    assert!(lab.export.local_changes().anything);
    let (root, inner) = (lab.root(), lab.find("m"));
    assert_eq!(lab.watcher().marks().lock().len(), 0, "nothing is any more");
    lab.remember(&[&root, &inner]);
    assert_eq!(lab.changed_by("mkdir m/x; echo > m/a"), wanted(&[(&inner, true)]));
    let a = lab.find("m/a");
    lab.remember(&[&a]);
    assert_eq!(lab.changed_by("echo > m/a"), wanted(&[(&a, false)]));
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
