//! mfsd is killed, or stopped, and started again under load: opens, locks and half-done changes stand it.

use std::time::Duration;

use mfs_tests::{Cluster, Node, Setup, eventually};

/// Starts a shell line in the node that runs beside the test; it says by files what it has reached.
fn beside(node: Node<'_>, line: &str) -> std::process::Child {
    node.command("sh").args(["-c", line]).spawn().expect("mfs lab exec starts")
}

fn exists(node: Node<'_>, path: &str) -> bool {
    node.try_run(&format!("test -e {path}")).status.success()
}

/// Ends a node's daemon as `systemctl stop` does.
fn stop_daemon(node: Node<'_>) {
    // Inside the node there are its own processes only.
    node.run("pkill -TERM -x mfsd");
    eventually("the daemon has stopped", Duration::from_secs(20), || {
        !node.try_run("pgrep -x mfsd").status.success()
    });
}

/// What a loop of a test does while files beside it do not say otherwise.
fn python(body: &str) -> String {
    let lines: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "import os
n = 0
while not os.path.exists('/tmp/stop'):
{lines}    n += 1
    open('/tmp/rounds', 'w').write(str(n))"
    )
}

/// How the daemons of a test end, one after the other: by a kill at any time, or at the how manieth time that
/// a point is reached, by whatever operation (`mfs::failpoint`).
const ENDS: [Option<&str>; 8] = [
    None,
    Some("applied@40=kill"),
    Some("apply@33=kill"),
    None,
    Some("reply@57=kill"),
    Some("applied@21=kill"),
    Some("replied@48=kill"),
    None,
];

/// Runs the loop on n1 in a directory of n2, while mfsd of n2 is killed and started again and again. The loop
/// notices nothing of it.
fn under_restarts(cluster: &Cluster, body: &str) {
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let mut worker = n1
        .command("sh")
        .args(["-c", "cd /mfs/n2/data/d && exec python3 -c \"$0\"", &python(body)])
        .spawn()
        .expect("mfs lab exec starts");
    let rounds =
        || n1.run("cat /tmp/rounds 2>/dev/null || echo 0").trim().parse::<u64>().unwrap_or(0);
    let mut works_on = |wanted: &str, done: &dyn Fn() -> bool| {
        eventually(wanted, Duration::from_secs(90), || {
            assert!(worker.try_wait().expect("it is a child").is_none(), "the worker ended");
            done()
        });
    };
    for end in ENDS {
        let before = rounds();
        works_on("the worker goes on", &|| rounds() > before + 5);
        n2.kill_daemon();
        if let Some(point) = end {
            n2.start_failing(point);
            works_on(point, &|| !n2.has_daemon());
        }
        n2.start();
    }
    let before = rounds();
    works_on("the worker goes on", &|| rounds() > before + 5);
    n1.run("touch /tmp/stop");
    assert!(worker.wait().expect("it is a child").success(), "an operation was answered wrongly");
}

/// Appends, small and large, must not happen twice, and none is left out or torn: each line is there as often as
/// it was written, in order.
#[test]
fn appends_happen_once() {
    let cluster = Setup::nodes(2).up();
    cluster.node(2).run("mkdir /data/d");
    let append = "if n == 0: fd = os.open('log', os.O_CREAT | os.O_WRONLY | os.O_APPEND)\n\
                  data = b'%07d\\n' % n * (1 if n % 8 else 100000)\n\
                  assert os.write(fd, data) == len(data)";
    under_restarts(&cluster, append);
    let count: u64 = cluster.node(1).run("cat /tmp/rounds").parse().unwrap();
    let found = cluster.node(2).run("uniq -c /data/d/log | awk '{print $1, $2}'");
    let wanted = (0..count).map(|n| format!("{} {n:07}", if n % 8 == 0 { 100_000 } else { 1 }));
    assert_eq!(found.lines().collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}

#[test]
fn names_are_made_and_removed_once() {
    let cluster = Setup::nodes(2).up();
    cluster.node(2).run("mkdir /data/d");
    let body = "os.close(os.open('f', os.O_CREAT | os.O_EXCL | os.O_WRONLY))\n\
                os.mkdir('m'); os.rename('f', 'm/g'); os.link('m/g', 'h'); os.symlink('h', 's')\n\
                os.rename('h', 'i'); os.unlink('s'); os.mkfifo('s'); os.unlink('s')\n\
                os.unlink('m/g'); os.truncate('i', n); os.unlink('i'); os.rmdir('m')";
    under_restarts(&cluster, body);
    assert_eq!(cluster.node(2).run("ls /data/d"), "");
}

#[test]
fn locks_are_held_on() {
    locks_over(|n2| n2.kill_daemon());
    locks_over(stop_daemon);
}

fn locks_over(end: impl Fn(Node<'_>)) {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("touch /data/f");
    let mut holder = beside(
        n1,
        "exec flock /mfs/n2/data/f sh -c 'touch /tmp/held; while ! test -e /tmp/stop; do sleep 0.05; done'",
    );
    eventually("the lock is held", Duration::from_secs(30), || exists(n1, "/tmp/held"));
    // By looking: who tries the lock has it for a moment, and that moment may be the one in which it is taken.
    let held = "grep \"FLOCK .*:$(stat -c %i /data/f) \" /proc/locks";
    n2.run(held);
    end(n2);
    n2.refused(held);
    n2.start();
    eventually("the lock is held again", Duration::from_secs(60), || {
        n2.try_run(held).status.success()
    });
    assert_eq!(n1.run("flock -n /mfs/n2/data/f true || echo held"), "held");
    n2.refused("flock -n /data/f true");
    n1.run("touch /tmp/stop");
    assert!(holder.wait().expect("it is a child").success());
    eventually("the lock is free", Duration::from_secs(30), || {
        n2.try_run("flock -n /data/f true").status.success()
    });
}

#[test]
fn an_open_file_is_read_on() {
    reading_over(|n2| n2.kill_daemon());
    reading_over(stop_daemon);
}

fn reading_over(end: impl Fn(Node<'_>)) {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("seq 200000 >/data/f");
    let mut reader = beside(
        n1,
        "exec 3</mfs/n2/data/f && head -c 1000 <&3 >/tmp/a && touch /tmp/begun &&
         while ! test -e /tmp/go; do sleep 0.05; done; cat <&3 >/tmp/b && touch /tmp/done",
    );
    eventually("the first bytes are read", Duration::from_secs(30), || exists(n1, "/tmp/begun"));
    end(n2);
    n2.start();
    n1.run("touch /tmp/go");
    assert!(reader.wait().expect("it is a child").success());
    assert_eq!(n1.run("cat /tmp/a /tmp/b | cmp - /mfs/n2/data/f && echo same"), "same");
}

/// Permissions are decided when a file is opened, not when it is taken again: a program that made its
/// file read-only (or gave it away) while it writes it goes on. Another that asks now is refused.
#[test]
fn a_file_made_read_only_is_written_on() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("mkdir -m 0777 /data/d && touch /data/d/foreign && chmod 0666 /data/d/foreign");
    let write = |mode: &str, name: &str| {
        format!(
            "import os, time
fd = os.open('/mfs/n2/data/d/{name}', os.O_CREAT | os.O_WRONLY, {mode})
os.write(fd, b'before ')
open('/tmp/{name}.open', 'w').close()
while not os.path.exists('/tmp/go'): time.sleep(0.05)
os.write(fd, b'after')
os.fsync(fd)
os.close(fd)
try:
    os.open('/mfs/n2/data/d/{name}', os.O_WRONLY)
    raise SystemExit('opened anew')
except PermissionError: pass"
        )
    };
    let begin = |user: &str, mode: &str, name: &str| {
        let privileges = [&format!("--reuid={user}"), "--regid=bin", "--clear-groups"];
        let program = write(mode, name);
        n1.command("setpriv").args(privileges).args(["python3", "-c", &program]).spawn()
    };
    let names = ["made", "changed", "foreign"];
    let mut writers = [
        begin("bin", "0o444", names[0]).expect("mfs lab exec starts"),
        begin("bin", "0o644", names[1]).expect("mfs lab exec starts"),
        begin("daemon", "0", names[2]).expect("mfs lab exec starts"),
    ];
    for name in names {
        let open = format!("/tmp/{name}.open");
        eventually("it is open", Duration::from_secs(30), || exists(n1, &open));
    }
    n2.run("cd /data/d && chmod 0444 changed && chown root changed foreign && chmod 0600 foreign");
    n2.kill_daemon();
    n2.start();
    n1.run("touch /tmp/go");
    for (writer, name) in writers.iter_mut().zip(names) {
        assert!(writer.wait().unwrap().success(), "the writer of {name} failed");
        assert_eq!(n2.run(&format!("cat /data/d/{name}")), "before after");
    }
}

/// What was opened without asking is opened at the next daemon as it was, though a local process has forbidden it
/// while there was none that could have told of it.
#[test]
fn what_was_opened_unasked_is_read_on_though_it_is_forbidden_meanwhile() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("echo text >/data/f && chmod 0644 /data/f");
    let program = "import os, time
def read():
    with open('/mfs/n2/data/f') as file: return file.read()
for _ in range(50): read()
open('/tmp/read', 'w').close()
while not os.path.exists('/tmp/unasked'): time.sleep(0.05)
kept = os.open('/mfs/n2/data/f', os.O_RDONLY)
open('/tmp/kept', 'w').close()
while not os.path.exists('/tmp/go'): time.sleep(0.05)
assert os.read(kept, 100) == b'text\\n'
try: read()
except PermissionError: pass
else: raise SystemExit('opened anew')";
    let privileges = ["--reuid=daemon", "--regid=daemon", "--clear-groups"];
    let reader = n1.command("setpriv").args(privileges).args(["python3", "-c", program]).spawn();
    let mut reader = reader.expect("mfs lab exec starts");
    let opens = || {
        let sent = &n1.mount_figures()["mfs_client_requests_sent_total"];
        sent["Open"].as_u64().unwrap_or(0)
    };
    eventually("it is read often", Duration::from_secs(30), || exists(n1, "/tmp/read"));
    let before = opens();
    n1.run("touch /tmp/unasked && until [ -e /tmp/kept ]; do sleep 0.01; done");
    assert_eq!(opens(), before, "its home knows of the open");
    n2.kill_daemon();
    n2.run("chmod 0600 /data/f");
    n2.start();
    n1.run("touch /tmp/go");
    assert!(reader.wait().expect("it is a child").success());
}

/// A restart of the own mfsd does not disturb the mount: it dials the nodes itself.
#[test]
fn the_own_daemon_may_go() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    let ends: [fn(Node<'_>); 2] = [|node| node.kill_daemon(), stop_daemon];
    for end in ends {
        n1.run("rm -f /tmp/go /tmp/begun; seq 200000 >/mfs/n2/data/f");
        let mut reader = beside(
            n1,
            "exec 3</mfs/n2/data/f 4>/mfs/n1/data/own && touch /tmp/begun &&
             while ! test -e /tmp/go; do sleep 0.05; done; cat <&3 | cmp - /mfs/n2/data/f && echo on >&4",
        );
        eventually("the files are open", Duration::from_secs(30), || exists(n1, "/tmp/begun"));
        end(n1);
        assert_eq!(n1.run("ls /mfs && cat /mfs/n2/etc/hostname"), "n1\nn2\nn2");
        n1.start();
        assert_eq!(n1.run("cat /mfs/n1/etc/hostname && touch /tmp/go"), "n1");
        assert!(reader.wait().expect("it is a child").success());
        assert_eq!(n1.run("cat /data/own"), "on");
        eventually("figures are there again", Duration::from_secs(20), || {
            n1.try_run("mfs stats --json").status.success()
        });
    }
}

/// What a program stores through a mapping before and after a restart of the home's daemon is seen by others
/// at once, though it is never written back by the program.
#[test]
fn a_mapping_is_stored_into_on() {
    let cluster = Setup::nodes(3).up();
    let (n1, n2, n3) = (cluster.node(1), cluster.node(2), cluster.node(3));
    n2.run("head -c 4096 /dev/zero >/data/f");
    let script = "import mmap, os, time
memory = mmap.mmap(os.open('/mfs/n2/data/f', os.O_RDWR), 4096)
for text in ('one', 'two', 'six'):
    while not os.path.exists('/tmp/store-' + text): time.sleep(0.02)
    memory[:3] = text.encode()
    open('/tmp/stored-' + text, 'w').close()
while not os.path.exists('/tmp/end'): time.sleep(0.02)";
    let mut storing =
        n1.command("python3").args(["-c", script]).spawn().expect("mfs lab exec starts");
    let seen = |text: &str| {
        n1.run(&format!("touch /tmp/store-{text}"));
        eventually("it is stored", Duration::from_secs(60), || {
            exists(n1, &format!("/tmp/stored-{text}"))
        });
        assert_eq!(n3.run("head -c 3 /mfs/n2/data/f"), text);
    };
    seen("one");
    n2.kill_daemon();
    n2.start();
    seen("two");
    stop_daemon(n2);
    n2.start();
    seen("six");
    n1.run("touch /tmp/end");
    assert!(storing.wait().expect("it is a child").success());
    assert_eq!(n2.run("head -c 3 /data/f"), "six");
}

/// What a program has stored through a mapping, and that is not written back when mfsd is killed, is read by
/// all who read through the next one.
#[test]
fn what_was_stored_before_a_restart_is_read_after_it() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    n2.run("head -c 4096 /dev/zero >/data/f; mkdir /mfs0 && mount -t mfs -o dfsa=0 mfs /mfs0");
    let store = "import mmap, os, time
with open('/mfs/n2/data/f', 'r+b') as file: mapped = mmap.mmap(file.fileno(), 4096)
turn = 0
while True:
    while not os.path.exists('/tmp/go'): time.sleep(0.005)
    turn += 1
    mapped[0:4] = b'%04d' % turn
    os.unlink('/tmp/go')";
    let mut worker = n1.command("python3").args(["-c", store]).spawn().expect("it starts");
    for turn in 1..=6 {
        n1.run("touch /tmp/go; while [ -e /tmp/go ]; do sleep 0.01; done");
        n2.kill_daemon();
        let readers = [(n3, "/mfs/n2/data/f"), (n2, "/mfs0/n2/data/f")].map(|(node, file)| {
            let mut reader = node.command("head");
            let reader = reader.args(["-c", "4", file]).stdout(std::process::Stdio::piped());
            reader.spawn().expect("mfs lab exec starts")
        });
        n2.start();
        for reader in readers {
            let read = reader.wait_with_output().expect("it is a child");
            assert_eq!(String::from_utf8_lossy(&read.stdout), format!("{turn:04}"));
        }
    }
    worker.kill().and_then(|()| worker.wait()).expect("it runs");
}
