//! mfsd is killed, and a mount is frozen, at named points of the code (`mfs::failpoint`).

use std::process::{Child, Stdio};
use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

/// Waits for a restarting mfsd however long it takes: what a program is told then is not decided by a time.
const PATIENT: &str = "dfsa=1,hard";

/// An operation of n1 on a file of n2.
struct Case {
    /// By its name in the protocol.
    operation: &'static str,
    /// Brings the directory /data/d into the state before it.
    before: &'static str,
    /// Python that does it, in that directory.
    body: &'static str,
    /// Shell that is true of the directory when it was done exactly once.
    once: &'static str,
    /// And when it was not done at all.
    never: &'static str,
}

/// What must not be done twice.
const ONCE_ONLY: [Case; 12] = [
    Case {
        operation: "Rename",
        before: "echo new >a; echo old >b",
        body: "os.rename('a', 'b')",
        once: "test ! -e a && test $(cat b) = new",
        never: "test $(cat a) = new && test $(cat b) = old",
    },
    Case {
        operation: "Unlink",
        before: "touch a",
        body: "os.unlink('a')",
        once: "test ! -e a",
        never: "test -e a",
    },
    Case {
        operation: "Create",
        before: "true",
        body: "os.open('a', os.O_CREAT | os.O_EXCL | os.O_WRONLY)",
        once: "test -e a",
        never: "test ! -e a",
    },
    Case {
        operation: "Write",
        before: "echo one >a",
        body: "os.write(os.open('a', os.O_WRONLY | os.O_APPEND), b'two\\n')",
        once: "test \"$(cat a)\" = \"$(printf 'one\\ntwo')\"",
        never: "test \"$(cat a)\" = one",
    },
    Case {
        operation: "Write",
        before: "echo one >a",
        body: "os.write(os.open('a', os.O_WRONLY | os.O_APPEND), b'0123456789abcdef' * 65536)",
        once: "test $(stat -c %s a) = 1048580 && test $(tail -c +5 a | grep -o 0123456789abcdef | wc -l) = 65536",
        never: "test \"$(cat a)\" = one",
    },
    Case {
        operation: "Create",
        before: "true",
        body: "f = os.open('a', os.O_CREAT | os.O_WRONLY, 0o400); os.write(f, b'x'); os.close(f)",
        once: "test \"$(cat a)\" = x",
        never: "test ! -e a",
    },
    Case {
        operation: "MakeDir",
        before: "true",
        body: "os.mkdir('a')",
        once: "test -d a",
        never: "test ! -e a",
    },
    Case {
        operation: "MakeNode",
        before: "true",
        body: "os.mkfifo('a')",
        once: "test -p a",
        never: "test ! -e a",
    },
    Case {
        operation: "MakeSymlink",
        before: "true",
        body: "os.symlink('there', 'a')",
        once: "test \"$(readlink a)\" = there",
        never: "test ! -L a",
    },
    Case {
        operation: "Link",
        before: "touch b",
        body: "os.link('b', 'a')",
        once: "test $(stat -c %h b) = 2 && test a -ef b",
        never: "test $(stat -c %h b) = 1",
    },
    Case {
        operation: "RemoveDir",
        before: "mkdir a",
        body: "os.rmdir('a')",
        once: "test ! -e a",
        never: "test -d a",
    },
    Case {
        operation: "SetAttributes",
        before: "echo one >a",
        body: "os.truncate('a', 2)",
        once: "test \"$(cat a)\" = on",
        never: "test \"$(cat a)\" = one",
    },
];

/// What comes to the same however often it is done.
const REPEATABLE: [Case; 2] = [
    Case {
        operation: "Write",
        before: "echo one >a",
        body: "os.pwrite(os.open('a', os.O_WRONLY), b'two', 1)",
        once: "test $(cat a) = otwo",
        never: "test $(cat a) = one",
    },
    Case {
        operation: "SetAttributes",
        before: "touch a && chmod 600 a",
        body: "os.chmod('a', 0o640)",
        once: "test $(stat -c %a a) = 640",
        never: "test $(stat -c %a a) = 600",
    },
];

/// Waits until the mfsd of a node is gone.
fn gone(node: Node<'_>) {
    eventually("mfsd is killed at its fail point", LONG, || !node.has_daemon());
}

/// Does it, with n2's mfsd killed at that point of it and started again. The error that the caller was told,
/// 0 for none.
fn killed_at(point: &str, case: &Case, n1: Node<'_>, n2: Node<'_>) -> String {
    n2.kill_daemon();
    n2.run(&format!("rm -rf /data/d && mkdir /data/d && cd /data/d && {}", case.before));
    n2.start_failing(&format!("{point}:{}=kill", case.operation));
    let program = format!(
        "import os\nos.chdir('/mfs/n2/data/d')\ntry: {}\nexcept OSError as e: print(e.errno)\nelse: print(0)",
        case.body
    );
    let mut command = n1.command("python3");
    let worker = command.args(["-c", &program]).stdout(Stdio::piped()).spawn();
    let worker: Child = worker.expect("mfs lab exec starts");
    gone(n2);
    n2.start();
    let told = worker.wait_with_output().expect("it is a child");
    assert!(told.status.success(), "{point} of {}", case.operation);
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

/// Nothing is done twice and nothing is left out, and the program notices nothing: the next mfsd knows, or finds
/// out, what became of it.
#[test]
fn what_must_be_done_once_is_not_done_twice() {
    let cluster = Setup::nodes(2).mounted(PATIENT).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let holds = |line: &str| n2.try_run(&format!("cd /data/d && {line}")).status.success();
    for case in &ONCE_ONLY {
        let operation = case.operation;
        for point in ["apply", "applied", "reply", "replied"] {
            let told = killed_at(point, case, n1, n2);
            let left = || n2.run("cd /data/d && ls -li && head -c 100 * || true");
            assert_eq!(told, "0", "{point} of {operation}: {}", left());
            assert!(holds(case.once), "{point} of {operation}: {}", left());
            assert!(!holds(case.never), "{point} of {operation}: {}", left());
        }
    }
}

/// What may be repeated is, and the program notices nothing.
#[test]
fn what_may_be_repeated_is_done() {
    let cluster = Setup::nodes(2).mounted(PATIENT).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    for case in &REPEATABLE {
        for point in ["apply", "applied", "reply", "replied"] {
            let told = killed_at(point, case, n1, n2);
            assert_eq!(told, "0", "{point} of {}", case.operation);
            assert!(n2.try_run(&format!("cd /data/d && {}", case.once)).status.success());
            assert!(!n2.try_run(&format!("cd /data/d && {}", case.never)).status.success());
        }
    }
}

/// Killed before or after it has written down who may hold leases, mfsd grants and recalls as it should.
#[test]
fn a_kill_around_the_journal_of_leases_is_survived() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("echo one >/data/f && chmod 600 /data/f");
    for (point, mode) in [("journal", "640"), ("journaled", "644")] {
        n1.run("stat /mfs/n2/data/f");
        n2.kill_daemon();
        // The mounts greet the new one, and it writes them down.
        n2.start_failing(&format!("{point}=kill"));
        gone(n2);
        n2.start();
        n1.run(&format!("chmod {mode} /mfs/n2/data/f"));
        assert_eq!(n1.run("stat -c %a /mfs/n2/data/f"), mode);
        assert_eq!(n2.run("stat -c %a /data/f /mfs/n2/data/f"), format!("{mode}\n{mode}"));
    }
}

/// A mount that stands still between a recall and its acknowledgement: the change is made when its leases are
/// over, and when it goes on it shows nothing old.
#[test]
fn a_mount_frozen_between_recall_and_acknowledgement_shows_nothing_old() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    n3.run("touch /data/f && chmod 600 /data/f");
    n1.run("umount /mfs && MFS_FAIL=recalled=stop mount /mfs");
    let leases_of_n1 = || {
        let held: Value = serde_json::from_str(&n3.run("mfs why /data/f --json")).unwrap();
        let leases = held["leases"].as_array().unwrap().clone();
        leases.into_iter().find(|lease| lease["node"] == "n1")
    };
    eventually("n1 may remember the attributes", LONG, || {
        n1.run("stat /mfs/n3/data/f");
        leases_of_n1().is_some()
    });
    let mut change = n2.command("chmod").args(["640", "/mfs/n3/data/f"]).spawn().unwrap();
    eventually("n1 is asked and stands still", LONG, || {
        n1.try_run("grep -q '^State:.T' /proc/$(pgrep -x -o mount.mfs)/status").status.success()
    });
    assert!(change.wait().unwrap().success());
    assert_eq!(n3.run("stat -c %a /data/f"), "640");
    n1.run("pkill -CONT -x mount.mfs");
    assert_eq!(n1.run("stat -c %a /mfs/n3/data/f"), "640");
}
