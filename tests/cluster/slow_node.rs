//! A node that does not answer delays nobody who asks another.

use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};

/// How long 50 reads of a file of n2 take in a node: open, read 64 KiB, close.
fn times_of_reads(node: Node<'_>) -> String {
    node.run(
        "python3 -c '
import os, time
times = []
for n in range(50):
    begun = time.perf_counter()
    fd = os.open(\"/mfs/n2/data/g\", os.O_RDONLY)
    assert len(os.pread(fd, 65536, n * 50000)) == 65536
    os.close(fd)
    times.append((time.perf_counter() - begun) * 1000)
times.sort()
print(\"median %.1f ms, worst %.1f ms\" % (times[25], times[-1]))'",
    )
}

/// 200 reads wait for a node that is stopped: it holds its connections and answers nothing. A read from another
/// node is answered while all of them still wait.
#[test]
fn pending_reads_do_not_delay_other_nodes() {
    const PENDING: u64 = 200;
    let cluster = Setup::nodes(3).mounted("dfsa=1,timeo=300").up();
    let n1 = cluster.node(1);
    cluster.node(3).run("for i in $(seq 200); do head -c 20000 /dev/urandom >/data/f$i; done");
    cluster.node(2).run("head -c 3000000 /dev/urandom >/data/g");
    let alone = times_of_reads(n1);
    let mut readers = n1
        .command("python3")
        .args([
            "-c",
            "import os, threading, time
files = [os.open('/mfs/n3/data/f%d' % n, os.O_RDONLY) for n in range(1, 201)]
open('/tmp/open', 'w').close()
while not os.path.exists('/tmp/go'): time.sleep(0.02)
threads = [threading.Thread(target=os.pread, args=(fd, 20000, 0)) for fd in files]
for thread in threads: thread.start()
for thread in threads: thread.join()",
        ])
        .spawn()
        .unwrap();
    let there = |path: &str| n1.try_run(&format!("test -e {path}")).status.success();
    eventually("200 files are open", Duration::from_secs(60), || there("/tmp/open"));
    cluster.node(3).stop();
    n1.run("touch /tmp/go");
    let waiting = || n1.mount_figures()["mfs_mount_requests_waiting"].as_u64().unwrap_or(0);
    eventually("200 reads wait", Duration::from_secs(60), || waiting() >= PENDING);
    // Files that nothing has read yet, names that nobody looked up yet, and a change.
    n1.run(
        "cat /mfs/n2/data/g | sha256sum && ls /mfs/n2/etc >/dev/null && echo x >/mfs/n2/data/new",
    );
    assert!(waiting() >= PENDING, "the reads from n3 ended before, so this has shown nothing");
    // For docs/MEMBERSHIP.md; a time of a machine that does other things too decides nothing.
    let beside = times_of_reads(n1);
    println!("50 reads of 64 KiB from n2, alone:                  {alone}");
    if waiting() >= PENDING {
        println!("50 reads of 64 KiB from n2, {PENDING} pending on n3: {beside}");
    } else {
        // Some seconds later the members agree that n3 is dead, and what waits for it ends.
        println!("this machine is too busy to time reads while others are pending");
    }
    assert_eq!(n1.run("cat /mfs/n1/etc/hostname && ls /mfs"), "n1\nn1\nn2\nn3");
    cluster.node(3).start();
    assert!(readers.wait().unwrap().success(), "the reads end when the node goes on");
}

/// With `soft`, the default, an operation on a node that stopped answering ends by itself.
#[test]
fn an_operation_ends_when_its_time_is_over() {
    let cluster = Setup::nodes(2).mounted("dfsa=1,timeo=3").up();
    let n1 = cluster.node(1);
    n1.run("cat /mfs/n2/etc/hostname");
    cluster.node(2).stop();
    for operation in [
        "stat /mfs/n2/tmp/x",
        "cat /mfs/n2/etc/passwd",
        "touch /mfs/n2/tmp/y",
        "mkdir /mfs/n2/tmp/z",
        "ls /mfs/n2/usr",
        "mv /mfs/n2/tmp/a /mfs/n2/tmp/b",
        "ln -s a /mfs/n2/tmp/l",
        "getfattr -d /mfs/n2/opt",
        "df /mfs/n2/srv",
    ] {
        let ran = n1.try_run(&format!("timeout -s KILL 120 {operation}"));
        assert!(!ran.status.success(), "{operation}: {}", ran.stdout);
        let known = ["Connection timed out", "Host is down"];
        assert!(
            known.iter().any(|k| ran.stderr.contains(k)),
            "{operation}: {} {}",
            ran.status,
            ran.stderr
        );
    }
    cluster.node(2).start();
    eventually("n2 goes on", Duration::from_secs(60), || {
        n1.try_run("cat /mfs/n2/etc/hostname").stdout == "n2\n"
    });
}
