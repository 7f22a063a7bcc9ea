//! Jobs that move while they run: they say and end what they would have without.

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use mfs_tests::{Cluster, Node, Setup, eventually};
use serde_json::Value;

use super::text;

const LONG: Duration = Duration::from_secs(60);

/// A job of n1 that moves.
struct Moving<'a> {
    n1: Node<'a>,
    command: Child,
    id: String,
}

/// The jobs that a node knows of.
fn jobs(node: Node<'_>) -> Vec<Value> {
    let shown: Value = serde_json::from_str(&node.run("mfs ps --json")).expect("it prints JSON");
    shown["jobs"].as_array().expect("a list").clone()
}

// === impl Moving ===

impl<'a> Moving<'a> {
    /// Begins a line of shell as a job on n2, and waits until it has written `ready`.
    fn begin(cluster: &'a Cluster, line: &str) -> Self {
        Self::begin_as(cluster, "", line)
    }

    /// The same for whom `before` makes of root.
    fn begin_as(cluster: &'a Cluster, before: &str, line: &str) -> Self {
        let n1 = cluster.node(1);
        n1.run(&format!("cat >/data/job.sh <<'EOF'\n{line}\nEOF"));
        let mut command = n1.command("sh");
        command
            .args(["-c", &format!("cd /data && exec {before} mfs run -n n2 -- sh /data/job.sh")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let command = command.spawn().expect("it starts");
        let runs = || jobs(n1).iter().any(|job| job["pid"] != 0);
        eventually("the job runs", LONG, runs);
        eventually("it is ready", LONG, || n1.try_run("test -e /data/ready").status.success());
        let id = jobs(n1)[0]["id"].as_str().expect("it has one").to_owned();
        Self { n1, command, id }
    }

    fn migrate(&self, to: &str) {
        let said = self.n1.run(&format!("timeout 120 mfs migrate {} {to}", self.id));
        assert!(said.contains(&format!("runs on node {to} now")), "{said}");
        assert_eq!(jobs(self.n1)[0]["node"], *to);
    }

    /// Ten moves over three nodes, its home among them.
    fn moves_ten_times(&self) {
        for to in ["n3", "n1", "n2", "n1", "n3", "n2", "n3", "n1", "n2", "n3"] {
            self.migrate(to);
        }
        assert_eq!(jobs(self.n1)[0]["migrations"], 10);
    }

    /// Lets it come to its end.
    fn end(self) -> Output {
        self.n1.run("echo >/data/enough");
        self.command.wait_with_output().expect("it was started")
    }
}

#[test]
fn ten_moves_change_nothing_of_a_computation() {
    let cluster = Setup::nodes(3).up();
    // Children, a pipe between them, a here-document, a trap, and who waits for whom.
    let line = "
        trap 'echo caught' USR1
        echo 'scale=300; 4*a(1)' | bc -l | (read first; cat >/data/pi; echo $first >>/data/pi) &
        child=$!
        cat <<END >/data/text
        here $child
END
        echo >/data/ready
        n=0
        while ! test -e /data/enough; do n=$((n+1)); echo $n >>/data/count; sleep 0.05; done
        kill -USR1 $$
        wait $child; echo $?
        (exit 5); echo $?
        exit 42";
    let job = Moving::begin(&cluster, line);
    job.moves_ten_times();
    let output = job.end();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), "caught\n0\n5");
    assert_eq!(output.status.code(), Some(42));
    // Nothing was done twice, and nothing left out.
    let n1 = cluster.node(1);
    n1.run("seq $(tail -n 1 /data/count) | cmp - /data/count");
    let here = "echo 'scale=300; 4*a(1)' | bc -l | (read first; cat; echo $first) | cmp - /data/pi";
    n1.run(here);
}

/// Threads, descriptors of all kinds that CRIU carries, and memory that is looked at again.
const PROGRAM: &str = r#"
import ctypes, hashlib, mmap, os, select, signal, socket, sys, tempfile, threading, time
libc = ctypes.CDLL(None)
class Time(ctypes.Structure): _fields_ = [("s", ctypes.c_long), ("n", ctypes.c_long)]
class Timer(ctypes.Structure): _fields_ = [("interval", Time), ("value", Time)]
timer = libc.timerfd_create(1, 0)
libc.timerfd_settime(timer, 0, ctypes.byref(Timer(Time(0, 20000000), Time(0, 20000000))), None)
nameless = tempfile.TemporaryFile(dir="/data"); nameless.write(b"x" * 5000); nameless.flush()
removed = open("/data/removed", "w+"); removed.write("kept"); removed.flush(); os.unlink("/data/removed")
events = os.eventfd(0)
poll = select.epoll(); poll.register(timer, select.EPOLLIN); poll.register(events, select.EPOLLIN)
here, there = socket.socketpair()
serves = socket.socket(); serves.bind(("127.0.0.1", 0))
mapped = open("/data/mapped", "w+b"); mapped.truncate(8192); shared = mmap.mmap(mapped.fileno(), 8192)
memory = bytearray(os.urandom(4096)) * 1024; digest = hashlib.sha256(memory).digest()
ticks, rings, stop = 0, 0, False
def ring():
    while not stop: os.eventfd_write(events, 1); time.sleep(0.02)
threads = [threading.Thread(target=ring) for _ in range(3)]
[thread.start() for thread in threads]
clock = time.monotonic(); backwards = 0
open("/data/ready", "w").close()
while not os.path.exists("/data/enough"):
    for fd, _ in poll.poll():
        if fd == timer: ticks += int.from_bytes(os.read(timer, 8), "little"); here.send(b"t"); there.recv(9)
        else: rings += os.eventfd_read(events)
    shared[ticks % 8192] = 7
    backwards += time.monotonic() < clock; clock = time.monotonic()
before = ticks
while ticks < before + 5: ticks += int.from_bytes(os.read(timer, 8), "little")
stop = True
[thread.join() for thread in threads]
nameless.seek(0); removed.seek(0); shared.flush()
assert nameless.read() == b"x" * 5000 and removed.read() == "kept"
assert hashlib.sha256(memory).digest() == digest and rings > 0 and backwards == 0
assert open("/data/mapped", "rb").read().count(7) > 0
print("fine"); sys.exit(9)
"#;

#[test]
fn threads_timers_and_files_without_names_move_along() {
    let cluster = Setup::nodes(3).up();
    cluster.node(1).run(&format!("cat >/data/program.py <<'EOF'\n{PROGRAM}\nEOF"));
    let job = Moving::begin(&cluster, "exec python3 /data/program.py");
    job.moves_ten_times();
    let output = job.end();
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("fine".to_owned(), Some(9)),
        "{output:?}"
    );
}

#[test]
fn an_ordinary_users_job_moves_and_gains_nothing() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    n1.run("chmod 1777 /data");
    let user = "setpriv --reuid 1000 --regid 1000 --groups 1000,44";
    let line = "
        umask 027; echo >/data/ready
        while ! test -e /data/enough; do sleep 0.05; done
        id -u; id -G; umask; grep CapEff /proc/self/status /proc/1/status
        awk '{print $1, $2, $4}' /proc/mounts | grep -c nosuid
        echo x >/data/mine; stat -c %u:%a /data/mine; cat /etc/shadow; pwd";
    let job = Moving::begin_as(&cluster, user, line);
    job.migrate("n3");
    job.migrate("n1");
    job.migrate("n2");
    let output = job.end();
    let none = "CapEff:\t0000000000000000";
    let expected = format!(
        "1000\n1000 44\n0027\n/proc/self/status:{none}\n/proc/1/status:{none}\n7\n1000:640\n/data"
    );
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Permission denied"));
}

#[test]
fn input_output_and_signals_follow_a_job() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    // What lies in the pipe when it moves, and what comes after, arrive once and in order.
    let line = "rm -f /data/ready; (seq 1 20000; sleep 6; seq 20001 30000) | mfs run -n n2 -- sh -c \
                'echo >/data/ready; sleep 3; sha256sum; sleep 1; exit 6' >/data/sum; echo $? >>/data/sum";
    let mut command = n1.command("sh").args(["-c", line]).spawn().expect("it starts");
    eventually("it is ready", LONG, || n1.try_run("test -e /data/ready").status.success());
    let id = jobs(n1)[0]["id"].as_str().expect("it has one").to_owned();
    for to in ["n3", "n1", "n2"] {
        n1.run(&format!("timeout 60 mfs migrate {id} {to}"));
    }
    assert!(command.wait().expect("it was started").success());
    n1.run("(seq 1 30000 | sha256sum; echo 6) | cmp - /data/sum");
    // A signal that is sent after a move.
    let line = "trap 'echo caught; exit 5' TERM; echo >/data/ready; while :; do sleep 0.05; done";
    n1.run("rm /data/ready");
    let job = Moving::begin(&cluster, line);
    job.migrate("n3");
    n1.run(&format!("mfs kill {}", job.id));
    let output = job.command.wait_with_output().expect("it was started");
    assert_eq!((text(&output.stdout), output.status.code()), ("caught".to_owned(), Some(5)));
}

#[test]
fn what_cannot_move_goes_on_undisturbed() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    let line = "
        exec 3<>/dev/tcp/127.0.0.1/7099 || exit 9
        echo >/data/ready
        while ! test -e /data/enough; do sleep 0.05; done
        echo hello >&3; read answer <&3; echo $answer";
    // Somebody outside the job, whom it speaks with.
    let echo = "import socket\ns = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', 7099)); s.listen()\n\
                c, _ = s.accept(); c.send(c.recv(99))";
    let mut server =
        cluster.node(2).command("python3").args(["-c", echo]).spawn().expect("it starts");
    eventually("it listens", LONG, || {
        cluster.node(2).try_run("grep -q ':1BBB' /proc/net/tcp").status.success()
    });
    let job = Moving::begin(&cluster, &format!("exec bash -c '{line}'"));
    let refused = n1.refused(&format!("timeout 60 mfs migrate {} n3", job.id));
    assert!(refused.contains("a connection to 127.0.0.1:7099"), "{refused}");
    assert!(refused.contains("runs on where it was"), "{refused}");
    let nobody =
        n1.try_run(&format!("setpriv --reuid 1000 --clear-groups mfs migrate {} n3", job.id));
    assert!(nobody.stderr.contains("another user's"), "{}", nobody.stderr);
    let ended = n1.try_run("mfs migrate n1.77 n3");
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    n1.refused(&format!("mfs migrate {} n7", job.id));
    let output = job.end();
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("hello".to_owned(), Some(0)),
        "{output:?}"
    );
    server.wait().expect("it was started");
}

#[test]
fn a_target_that_fails_or_goes_away_leaves_the_job_where_it_was() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    let line = "echo >/data/ready; while ! test -e /data/enough; do sleep 0.05; done; exit 3";
    let job = Moving::begin(&cluster, line);
    cluster.node(3).run("umount -l /mfs");
    let refused = n1.refused(&format!("timeout 60 mfs migrate {} n3", job.id));
    assert!(refused.contains("not mounted on this node"), "{refused}");
    cluster.node(3).kill();
    let refused = n1.refused(&format!("timeout 60 mfs migrate {} n3", job.id));
    assert!(refused.contains("n3"), "{refused}");
    job.migrate("n1");
    assert_eq!(job.end().status.code(), Some(3));
    // And nothing of any image is left.
    for node in [1, 2] {
        let left = cluster.node(node).try_run("ls /var/lib/mfs/images").stdout;
        assert_eq!(left.trim(), "", "n{node}");
    }
}

#[test]
fn guests_are_expelled_and_own_jobs_brought_home() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2] = [1, 2].map(|number| cluster.node(number));
    let line = "for n in 1 2 3; do mfs run -n n2 -- sleep 1000 & done; wait";
    let mut many = n1.command("sh").args(["-c", line]).spawn().expect("it starts");
    eventually("all run", LONG, || jobs(n1).iter().filter(|job| job["pid"] != 0).count() == 3);
    let own = n2.command("mfs").args(["run", "-n", "n2", "--", "sleep", "1000"]).spawn();
    let mut own = own.expect("it starts");
    eventually("it runs", LONG, || jobs(n1).len() == 4);
    let refused = n2.refused("setpriv --reuid 1000 --clear-groups mfs expel");
    assert!(refused.contains("only root"), "{refused}");
    let said = n2.run("timeout 120 mfs expel");
    assert_eq!(said.lines().filter(|line| line.contains("runs on node")).count(), 3, "{said}");
    let on_n2 = || -> Vec<_> { jobs(n1).into_iter().filter(|job| job["node"] == "n2").collect() };
    assert_eq!((on_n2().len(), on_n2()[0]["home"].clone()), (1, "n2".into()));
    assert!(n2.run("mfs expel").contains("No job of another node runs here"));
    n1.run("timeout 60 mfs migrate n1.1 n3");
    // Who is not root brings what is theirs: nothing, here.
    let none = n1.run("setpriv --reuid 1000 --clear-groups mfs bring");
    assert!(none.contains("No job of this node runs elsewhere"), "{none}");
    n1.run("timeout 120 mfs bring");
    assert!(jobs(n1).iter().all(|job| job["node"] == job["home"]));
    n1.run("mfs kill -s KILL n1.1 n1.2 n1.3 n2.1");
    assert!(many.wait().is_ok() && own.wait().is_ok());
}

#[test]
fn private_files_move_along_where_nobodys_root_is_trusted() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    n1.run("mkdir -p /etc/mfs && printf '[peer.n2]\\ntrust_root = false\\n[peer.n3]\\ntrust_root = false\\n' \
            >/etc/mfs/mfsd.toml && chmod 600 /etc/mfs/mfsd.toml");
    n1.kill_daemon();
    n1.start();
    n1.run("chmod 1777 /data && mkdir -m 700 /data/private && chown 1000:1000 /data/private");
    let refused = cluster.node(2).refused("ls /mfs/n1/data/private");
    assert!(refused.contains("Permission denied"), "{refused}");
    let user = "setpriv --reuid 1000 --regid 1000 --clear-groups";
    let line = "
        cd /data/private; umask 077; exec 5<>open 6>>log; rm -f gone; exec 7<>gone; echo kept >&7; rm gone
        echo >/data/ready
        while ! test -e /data/enough; do echo x >&6; sleep 0.05; done
        echo written >&5; pwd; stat -c %u:%a open; cat open; cat /dev/fd/7";
    let job = Moving::begin_as(&cluster, user, line);
    job.migrate("n3");
    job.migrate("n1");
    job.migrate("n2");
    let output = job.end();
    let expected = "/data/private\n1000:600\nwritten\nkept";
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
}
