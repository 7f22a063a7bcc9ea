//! Locks of jobs that move: nobody else has them at any moment, and the job has them afterwards.

use std::process::{Child, Stdio};
use std::time::Duration;

use mfs_tests::{Cluster, Node, Setup, eventually};

const LONG: Duration = Duration::from_secs(60);

/// Takes a lock of each kind on files in the working directory, and gives them back when it is told so. The file
/// with the lock of ranges is mapped, too: whoever restores it opens and closes it again.
const HOLDER: &str = r"
import fcntl, mmap, os, struct, time
def ofd(file, kind, start, length):
    fcntl.fcntl(file, 37, struct.pack('hhqqi4x', kind, 0, start, length, 0))
ranges, whole, described, shared = [open(name, 'r+b') for name in ('ranges', 'whole', 'described', 'shared')]
mapped = mmap.mmap(ranges.fileno(), 4096)
fcntl.lockf(ranges, fcntl.LOCK_EX, 10, 5)
fcntl.lockf(ranges, fcntl.LOCK_SH, 10, 50)
fcntl.flock(whole, fcntl.LOCK_EX)
ofd(described, fcntl.F_WRLCK, 100, 0)
again = open('described', 'r+b')
fcntl.flock(shared, fcntl.LOCK_SH)
open('held', 'w').close()
while not os.path.exists('give'): time.sleep(0.02)
assert mapped[0] == 120
fcntl.lockf(ranges, fcntl.LOCK_UN)
fcntl.flock(whole, fcntl.LOCK_UN)
ofd(described, fcntl.F_UNLCK, 0, 0)
fcntl.flock(shared, fcntl.LOCK_UN)
open('given', 'w').close()
while not os.path.exists('end'): time.sleep(0.02)
";

/// Tries without pause to take what stands in the way of the holder's, and fails if it gets some before the holder is
/// told to give it back.
const RIVAL: &str = r"
import errno, fcntl, os, struct, sys
os.chdir(sys.argv[1])
names = ('ranges', 'ranges', 'whole', 'described', 'shared')
files = [open(name, 'r+b') for name in names]
def record(kind, start, length): return struct.pack('hhqqi4x', kind, 0, start, length, 0)
def take(number, file):
    if number == 0: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 7)
    if number == 1: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 55)
    if number in (2, 4): fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if number == 3: fcntl.fcntl(file, 37, record(fcntl.F_WRLCK, 4000, 1))
left, attempts = set(range(5)), 0
while left:
    for number in sorted(left):
        attempts += 1
        try: take(number, files[number])
        except OSError as error: assert error.errno in (errno.EAGAIN, errno.EACCES), error
        else:
            assert os.path.exists('give'), names[number] + ' was to be had'
            left.remove(number)
            if number in (0, 1): fcntl.lockf(files[number], fcntl.LOCK_UN)
            if number in (2, 4): fcntl.flock(files[number], fcntl.LOCK_UN)
            if number == 3: fcntl.fcntl(files[number], 37, record(fcntl.F_UNLCK, 0, 0))
print(attempts, 'attempts')
";

/// A job of n1 that holds locks on files of one node.
struct Held {
    cluster: Cluster,
    home: u32,
    job: Child,
}

// === impl Held ===

impl Held {
    fn begin(home: u32) -> Self {
        let cluster = Setup::nodes(3).up();
        let node = cluster.node(home);
        node.run(
            "mkdir -p /data && cd /data && for name in ranges whole described shared; do \
             head -c 4096 /dev/zero | tr '\\0' x >$name; done",
        );
        for (name, program) in [("holder", HOLDER), ("rival", RIVAL)] {
            let path = node.path(&format!("/data/{name}.py"));
            std::fs::write(path, program).expect("the node has a disk");
        }
        let line = format!("cd /mfs/n{home}/data && exec mfs run -n n1 -- python3 holder.py");
        let job = cluster.node(1).command("sh").args(["-c", &line]).spawn();
        let held = Self { cluster, home, job: job.expect("mfs lab exec starts") };
        eventually("the job has its locks", LONG, || held.has("held"));
        held
    }

    fn node(&self, number: u32) -> Node<'_> {
        self.cluster.node(number)
    }

    fn has(&self, name: &str) -> bool {
        self.node(self.home).path(&format!("/data/{name}")).exists()
    }

    fn tell(&self, name: &str) {
        self.node(self.home).run(&format!("touch /data/{name}"));
    }

    fn rival(&self, number: u32, place: &str) -> Child {
        let mut command = self.node(number).command("python3");
        command.args([&format!("{place}/rival.py"), place]);
        command.stdout(Stdio::piped()).spawn().expect("mfs lab exec starts")
    }

    /// What is locked at the home of the files by a node's processes.
    fn locks_of(&self, node: &str) -> usize {
        let shown = self.node(self.home).run("mfs locks");
        shown.lines().filter(|line| line.trim_start().starts_with(node)).count()
    }
}

/// Of fcntl: two ranges; flock, exclusive and shared; OFD.
const LOCKS: usize = 5;

/// The locks of a job go along with it; at no moment can anybody else have them.
#[test]
fn locks_go_along_and_nobody_gets_them_meanwhile() {
    let mut held = Held::begin(1);
    let rivals = [(1, "/data"), (2, "/mfs/n1/data"), (3, "/mfs/n1/data")];
    let mut rivals: Vec<_> = rivals.map(|(node, place)| held.rival(node, place)).into();
    for target in [2, 3, 1, 3, 2, 1, 2, 3, 2, 1] {
        held.node(1).run(&format!("mfs migrate n1.1 n{target}"));
        let node = format!("n{target}");
        eventually("the old node has no locks", LONG, || {
            (1..=3).all(|other| other == target || held.locks_of(&format!("n{other}")) == 0)
        });
        assert_eq!(held.locks_of(&node), LOCKS, "{}", held.node(1).run("mfs locks"));
        for rival in &mut rivals {
            assert!(rival.try_wait().expect("it is a child").is_none(), "a rival has got a lock");
        }
    }
    held.tell("give");
    eventually("the job has given its locks back", LONG, || held.has("given"));
    for rival in rivals {
        let output = rival.wait_with_output().expect("it ends");
        assert!(output.status.success(), "a rival has got a lock before: {}", output.status);
        assert!(String::from_utf8_lossy(&output.stdout).contains("attempts"));
    }
    held.tell("end");
    assert!(held.job.wait().expect("it is a child").success());
}

/// A move that is undone after the job was restored at the target leaves its locks where they were.
#[test]
fn a_move_that_is_undone_leaves_the_locks() {
    let mut held = Held::begin(1);
    let mut rival = held.rival(3, "/mfs/n1/data");
    // There, restoring fails at the last moment: every process has its locks by then.
    held.node(2).run(
        "criu=$(tr '\\0' '\\n' </proc/$(pgrep -x mfsd)/environ | sed -n 's/^MFS_CRIU=//p'); \
         criu=${criu:-$(command -v criu)}; \
         printf '#!/bin/sh\\n[ \"$CRTOOLS_SCRIPT_ACTION\" != post-restore ]\\n' >/fail; \
         printf '#!/bin/sh\\n[ \"$1\" = restore ] && shift && exec %s.real restore --action-script /fail \"$@\"\\n\
         exec %s.real \"$@\"\\n' $criu $criu >/new && \
         mv $criu $criu.real && mv /new $criu && chmod 755 $criu /fail",
    );
    for _ in 0..3 {
        let said = held.node(1).refused("mfs migrate n1.1 n2");
        assert!(said.contains("runs on where it was"), "{said}");
        eventually("the target has no locks", LONG, || held.locks_of("n2") == 0);
        assert_eq!(held.locks_of("n1"), LOCKS, "{}", held.node(1).run("mfs locks"));
        assert!(rival.try_wait().expect("it is a child").is_none(), "a rival has got a lock");
    }
    // It has only stayed: it can still move.
    held.node(1).run("mfs migrate n1.1 n3");
    assert_eq!(held.locks_of("n3"), LOCKS, "{}", held.node(1).run("mfs locks"));
    held.tell("give");
    assert!(rival.wait().expect("it ends").success(), "a rival has got a lock before");
    held.tell("end");
    assert!(held.job.wait().expect("it is a child").success());
}

/// The end of a job that has moved frees its locks.
#[test]
fn the_end_of_a_job_frees_its_locks() {
    let mut held = Held::begin(1);
    held.node(1).run("mfs migrate n1.1 n2");
    assert_eq!(held.locks_of("n2"), LOCKS);
    held.node(1).run("mfs kill -s KILL n1.1");
    let ended = held.job.wait().expect("it is a child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
    eventually("nothing is locked", LONG, || (1..=3).all(|n| held.locks_of(&format!("n{n}")) == 0));
}

/// After a restart of the files' home the locks are taken again, and go along as before.
#[test]
fn a_restart_of_the_files_home_changes_nothing() {
    let mut held = Held::begin(3);
    for target in ["n2", "n1", "n2"] {
        held.node(3).kill_daemon();
        held.node(3).start();
        eventually("the locks are there again", LONG, || {
            (1..=3).map(|node| held.locks_of(&format!("n{node}"))).sum::<usize>() == LOCKS
        });
        held.node(1).run(&format!("mfs migrate n1.1 {target}"));
        assert_eq!(held.locks_of(target), LOCKS, "{}", held.node(3).run("mfs locks"));
    }
    held.tell("give");
    eventually("the job has given its locks back", LONG, || held.has("given"));
    held.tell("end");
    assert!(held.job.wait().expect("it is a child").success());
}

/// A shell has flock(1) take its locks, which has ended when the job moves.
#[test]
fn locks_that_a_child_has_taken_go_along() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n1.run("mkdir -p /data && cd /data && touch whole shared");
    let line = "cd /data && exec mfs run -n n1 -- sh -c 'exec 8<whole 9<shared; flock 8; flock -s 9; \
                touch held; until [ -e give ]; do sleep 0.05; done'";
    let mut job = n1.command("sh").args(["-c", line]).spawn().expect("mfs lab exec starts");
    eventually("it has its locks", LONG, || n1.path("/data/held").exists());
    let free = |node: Node<'_>, name: &str, how: &str| {
        node.try_run(&format!("flock {how} -n /mfs/n1/data/{name} true")).status.success()
    };
    for target in ["n2", "n1", "n2"] {
        n1.run(&format!("mfs migrate n1.1 {target}"));
        for node in [n1, n2] {
            assert!(!free(node, "whole", "-s"), "{}", n1.run("mfs locks"));
            assert!(!free(node, "shared", "-x"), "{}", n1.run("mfs locks"));
            assert!(free(node, "shared", "-s"));
        }
    }
    n1.run("touch /data/give");
    assert!(job.wait().expect("it is a child").success());
    eventually("they are free", LONG, || free(n2, "whole", "-x") && free(n1, "shared", "-x"));
}
