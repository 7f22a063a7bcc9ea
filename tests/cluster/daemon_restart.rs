//! mfsd is killed and started again under load: opens, locks and half-done changes stand it.

use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};

/// Starts a shell line in the node that runs beside the test; it says by files what it has reached.
fn beside(node: Node<'_>, line: &str) -> std::process::Child {
    node.command("sh").args(["-c", line]).spawn().expect("mfs lab exec starts")
}

fn exists(node: Node<'_>, path: &str) -> bool {
    node.try_run(&format!("test -e {path}")).status.success()
}

/// Appends are changes that must not happen twice: each line is there exactly once, in order.
#[test]
fn appends_happen_once() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let mut writer = beside(
        n1,
        "cd /mfs/n2/data && exec python3 -c 'import os
fd = os.open(\"log\", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
n = 0
while not os.path.exists(\"/tmp/stop\"):
    os.write(fd, b\"%d\\n\" % n); n += 1
open(\"/tmp/count\", \"w\").write(str(n))'",
    );
    let lines = || n2.run("wc -l </data/log 2>/dev/null || echo 0").trim().parse::<u64>().unwrap();
    for round in 1..=4 {
        let before = lines();
        eventually("the writer goes on", Duration::from_secs(60), || lines() > before + 50);
        n2.kill_daemon();
        n2.start();
        assert!(writer.try_wait().unwrap().is_none(), "round {round}: the writer ended");
    }
    let before = lines();
    eventually("the writer goes on", Duration::from_secs(60), || lines() > before + 50);
    n1.run("touch /tmp/stop");
    assert!(writer.wait().unwrap().success());
    let count: u64 = n1.run("cat /tmp/count").parse().unwrap();
    let wanted: String = (0..count).map(|n| format!("{n}\n")).collect();
    assert_eq!(n2.run("cat /data/log"), wanted.trim_end());
}

#[test]
fn names_are_made_and_removed_once() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("mkdir /data/d");
    let mut worker = beside(
        n1,
        "cd /mfs/n2/data/d && exec python3 -c 'import os
n = 0
while not os.path.exists(\"/tmp/stop\"):
    os.close(os.open(\"f\", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.mkdir(\"m\"); os.rename(\"f\", \"m/g\"); os.link(\"m/g\", \"h\")
    os.unlink(\"m/g\"); os.unlink(\"h\"); os.rmdir(\"m\")
    n += 1
    open(\"/tmp/rounds\", \"w\").write(str(n))'",
    );
    let rounds =
        || n1.run("cat /tmp/rounds 2>/dev/null || echo 0").trim().parse::<u64>().unwrap_or(0);
    for _ in 0..4 {
        let before = rounds();
        eventually("the worker goes on", Duration::from_secs(60), || rounds() > before + 5);
        n2.kill_daemon();
        n2.start();
    }
    let before = rounds();
    eventually("the worker goes on", Duration::from_secs(60), || rounds() > before + 5);
    n1.run("touch /tmp/stop");
    assert!(worker.wait().unwrap().success(), "an operation was answered wrongly");
    assert_eq!(n2.run("ls -A /data/d"), "");
}

#[test]
fn locks_are_held_on() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("touch /data/f");
    let mut holder = beside(
        n1,
        "exec flock /mfs/n2/data/f sh -c 'touch /tmp/held; while ! test -e /tmp/stop; do sleep 0.05; done'",
    );
    eventually("the lock is held", Duration::from_secs(30), || exists(n1, "/tmp/held"));
    n2.refused("flock -n /data/f true");
    n2.kill_daemon();
    n2.start();
    eventually("the lock is held again", Duration::from_secs(60), || {
        !n2.try_run("flock -n /data/f true").status.success()
    });
    // Held for good, not by chance of the moment.
    assert_eq!(n1.run("flock -n /mfs/n2/data/f true || echo held"), "held");
    n2.refused("flock -n /data/f true");
    n1.run("touch /tmp/stop");
    assert!(holder.wait().unwrap().success());
    eventually("the lock is free", Duration::from_secs(30), || {
        n2.try_run("flock -n /data/f true").status.success()
    });
}

#[test]
fn an_open_file_is_read_on() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("seq 200000 >/data/f");
    let mut reader = beside(
        n1,
        "exec 3</mfs/n2/data/f && head -c 1000 <&3 >/tmp/a && touch /tmp/begun &&
         while ! test -e /tmp/go; do sleep 0.05; done; cat <&3 >/tmp/b && touch /tmp/done",
    );
    eventually("the first bytes are read", Duration::from_secs(30), || exists(n1, "/tmp/begun"));
    n2.kill_daemon();
    n2.start();
    n1.run("touch /tmp/go");
    assert!(reader.wait().unwrap().success());
    assert_eq!(n1.run("cat /tmp/a /tmp/b | cmp - /mfs/n2/data/f && echo same"), "same");
}

/// A restart of the own mfsd does not disturb the mount: it dials the nodes itself.
#[test]
fn the_own_daemon_may_go() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run("exec 3</mfs/n2/etc/hostname; cat /mfs/n2/etc/hostname");
    n1.kill_daemon();
    assert_eq!(n1.run("ls /mfs && cat /mfs/n2/etc/hostname"), "n1\nn2\nn2");
    n1.start();
    assert_eq!(n1.run("cat /mfs/n1/etc/hostname"), "n1");
    eventually("figures are there again", Duration::from_secs(20), || {
        n1.try_run("mfs stats --json").status.success()
    });
}
