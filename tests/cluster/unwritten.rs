//! A node that goes away with data that programs have stored through mappings and nobody has written: when it
//! is back it writes it, unless others have changed the file meanwhile; then it is in a conflict copy, and the
//! programs are told.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use mfs_tests::{Cluster, Node, Setup, eventually};

const LONG: Duration = Duration::from_secs(60);

/// Opens a file twice and stores into two pages of it. When it is told to, prints what fsync(2) says, by turns
/// through both, then what close(2) says: 0 or the error.
const STORER: &str = "
import mmap, os, sys, time
def said(call, *words):
    try: call(*words)
    except OSError as error: return error.errno
    return 0
first, second, third = [os.open(sys.argv[1], os.O_RDWR) for _ in range(3)]
there = mmap.mmap(first, 0)
there[10:14], there[9000:9004] = b'mine', b'also'
print('stored', flush=True)
while not os.path.exists('/tmp/go'): time.sleep(0.02)
fsyncs = [said(os.fsync, fd) for fd in (first, first, second, second)]
print(fsyncs, [said(os.close, fd) for fd in (first, second, third)])";

/// A program of n1 that has stored into /data/f of n3.
struct Storer {
    child: Child,
    said: BufReader<ChildStdout>,
}

// === impl Storer ===

impl Storer {
    /// Makes the file, of three pages of dots, and has it stored into.
    fn start(cluster: &Cluster) -> Self {
        cluster.node(3).run("mkdir -p /data && printf '%12288s' | tr ' ' . >/data/f");
        let mut command = cluster.node(1).command("python3");
        let command = command.args(["-c", STORER, "/mfs/n3/data/f"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("mfs lab exec starts");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        assert_eq!(line, "stored\n");
        Self { child, said }
    }

    /// What it was told by its calls.
    fn end(mut self, n1: Node<'_>) -> String {
        n1.run("touch /tmp/go");
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("text");
        assert!(self.child.wait().expect("it is a child").success());
        rest
    }
}

/// EIO for each open once: for two by fsync(2), for the third by close(2).
const TOLD: &str = "[5, 0, 5, 0] [0, 0, 5]\n";

const NOT_TOLD: &str = "[0, 0, 0, 0] [0, 0, 0]\n";

fn bytes(node: Node<'_>, file: &str, offset: usize, length: usize) -> String {
    let skip = offset + 1;
    node.run(&format!("tail -c +{skip} {file} | head -c {length} | tr '\\0' 0"))
}

/// The file has what others have written, and the copy what was stored.
fn both_are_kept(n3: Node<'_>, others: &str) {
    let copy = "/data/f.mfs-conflict-n1-1";
    eventually("what was stored is in a conflict copy", LONG, || {
        n3.try_run(&format!("grep -q also {copy}")).status.success()
    });
    assert_eq!(bytes(n3, "/data/f", 0, 14), others);
    assert_eq!(bytes(n3, "/data/f", 9000, 4), "....");
    assert_eq!(bytes(n3, copy, 10, 4), "mine");
    assert_eq!(bytes(n3, copy, 5000, 4), "0000", "a hole where nothing was stored");
    assert_eq!(bytes(n3, copy, 9000, 4), "also");
    assert_eq!(n3.run("ls /data | grep -c conflict; stat -c '%a %u' /data/*conflict*"), "1\n600 0");
}

#[test]
fn what_was_stored_is_kept_apart_if_another_node_has_written_meanwhile() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n1.stop();
    // Returns when n1's lease is over.
    n2.run("printf theirs | dd of=/mfs/n3/data/f conv=notrunc status=none");
    n1.start();
    both_are_kept(n3, "theirs........");
    assert_eq!(storer.end(n1), TOLD);
    assert_eq!(n3.daemon_figures()["mfs_server_conflict_copies_total"], 1);
    assert_eq!(n1.run("head -c 6 /mfs/n3/data/f"), "theirs");
}

#[test]
fn what_was_stored_is_written_if_nobody_has_changed_the_file_meanwhile() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n1.stop();
    // Returns when n1's lease is over; of what was stored nobody knows yet.
    assert_eq!(n2.run("head -c 14 /mfs/n3/data/f && chmod 640 /mfs/n3/data/f"), "..............");
    n1.start();
    eventually("what was stored is written", LONG, || {
        n3.try_run("grep -q mine /data/f && grep -q also /data/f").status.success()
    });
    assert_eq!(storer.end(n1), NOT_TOLD);
    assert_eq!(n3.run("ls /data"), "f");
    assert_eq!(bytes(n2, "/mfs/n3/data/f", 8998, 8), "..also..");
}

#[test]
fn what_was_stored_is_kept_apart_if_a_local_process_has_written_meanwhile() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n1.stop();
    n3.run("printf local | dd of=/data/f conv=notrunc status=none");
    assert_eq!(n2.run("head -c 14 /mfs/n3/data/f"), "local.........");
    n1.start();
    both_are_kept(n3, "local.........");
    assert_eq!(storer.end(n1), TOLD);
}

#[test]
fn what_was_stored_is_kept_apart_if_others_have_written_while_the_node_was_cut_off() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n1.partition();
    n2.run("printf theirs | dd of=/mfs/n3/data/f conv=notrunc status=none");
    n1.heal();
    both_are_kept(n3, "theirs........");
    assert_eq!(storer.end(n1), TOLD);
}

#[test]
fn what_was_stored_is_written_when_the_node_is_not_cut_off_any_more() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let mut storer = Storer::start(&cluster);
    n1.partition();
    assert_eq!(n2.run("head -c 14 /mfs/n3/data/f"), "..............");
    // Nothing is left of the program, and little of what it had open.
    n1.run("kill -KILL $(pgrep -x -o python3)");
    storer.child.wait().unwrap();
    n1.heal();
    eventually("what was stored is written", LONG, || {
        n3.try_run("grep -q mine /data/f && grep -q also /data/f").status.success()
    });
    assert_eq!(n3.run("ls /data"), "f");
    assert_eq!(bytes(n1, "/mfs/n3/data/f", 8998, 8), "..also..");
}

#[test]
fn a_restart_of_the_homes_mfsd_is_taken_for_no_change() {
    let cluster = Setup::nodes(3).up();
    let [n1, _, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n3.kill_daemon();
    n3.start();
    eventually("what was stored is written", LONG, || {
        n3.try_run("grep -q mine /data/f && grep -q also /data/f").status.success()
    });
    assert_eq!(storer.end(n1), NOT_TOLD);
    assert_eq!(n3.run("ls /data"), "f");
}

/// Size and time of the file are as they were: that somebody has written it, the next daemon knows by notes alone.
#[test]
fn what_was_stored_is_kept_apart_if_others_have_written_before_a_restart_of_the_homes_mfsd() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n1.stop();
    n3.run("touch -r /data/f /tmp/times");
    n2.run("printf theirs | dd of=/mfs/n3/data/f conv=notrunc status=none");
    n3.run("touch -r /tmp/times /data/f");
    n3.kill_daemon();
    n3.start();
    n1.start();
    both_are_kept(n3, "theirs........");
    assert_eq!(storer.end(n1), TOLD);
}

#[test]
fn what_was_stored_into_a_file_that_others_have_removed_is_kept_beside_where_it_was() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    for (by, remove) in [
        (n2, "rm /mfs/n3/data/f"),
        (n3, "rm /data/f"),
        (n2, "echo another >/mfs/n3/data/new && mv /mfs/n3/data/new /mfs/n3/data/f"),
    ] {
        n1.run("rm -f /tmp/go");
        let storer = Storer::start(&cluster);
        n1.stop();
        n2.run("cat /mfs/n3/data/f >/tmp/seen"); // returns when n1's lease is over
        by.run(remove);
        n1.start();
        let copy = "/data/f.mfs-conflict-n1-1";
        eventually("what was stored is in a conflict copy", LONG, || {
            n3.try_run(&format!("grep -q also {copy}")).status.success()
        });
        assert_eq!(bytes(n3, copy, 10, 4), "mine");
        assert_eq!(storer.end(n1), TOLD);
        n3.run("rm -r /data/*");
    }
}

/// Of a file that its own program has removed nobody misses anything, as on one machine.
#[test]
fn what_was_stored_into_a_file_that_its_own_node_has_removed_leaves_nothing() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n1.run("rm /mfs/n3/data/f");
    n1.stop();
    n2.run("cat /mfs/n3/etc/hostname; mkdir /mfs/n3/data/after"); // returns when n1's lease is over
    n1.start();
    assert_eq!(storer.end(n1), NOT_TOLD);
    assert_eq!(n3.run("ls /data"), "after");
}

#[test]
fn what_was_stored_into_a_file_that_was_removed_while_nobody_saw_it_is_told_to_be_lost() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let storer = Storer::start(&cluster);
    n1.stop();
    n2.run("cat /mfs/n3/data/f >/tmp/seen");
    n3.kill_daemon();
    n3.run("rm /data/f");
    n3.start();
    n1.start();
    // ESTALE: the opens are lost, too.
    assert_eq!(storer.end(n1), "[116, 116, 116, 116] [116, 116, 116]\n");
    n3.run("grep -q '/data/f: what n1 had stored in it and not written, if anything, is lost' /run/mfs/mfsd.log");
    assert_eq!(n3.run("ls /data"), "");
}
