//! Jobs that go on without who started them, and what is told of jobs that have ended.

use std::time::Duration;

use mfs_tests::{Setup, eventually};
use serde_json::Value;

use super::{shell, text};

const LONG: Duration = Duration::from_secs(60);

const AS_USER: &str = "setpriv --reuid 1000 --regid 1000 --clear-groups";

#[test]
fn a_detached_job_goes_on_and_writes_its_file() {
    let cluster = Setup::nodes(3).up();
    let (n1, n3) = (cluster.node(1), cluster.node(3));
    n1.run("mkdir -p /data && chmod 777 /data");
    // The terminal is gone as soon as the command is.
    let line = format!(
        "cd /data && {AS_USER} setsid --wait mfs run --detach -n n2 -- \
         sh -c \"echo begun; id -u >&2; cat; until test -e stop; do sleep 0.1; done; exit 7\""
    );
    let id =
        n1.run(&format!("script -qec '{line}' /dev/null </dev/null | tail -n 1 | tr -d \"\\r\""));
    assert_eq!(id, "n1.1");
    eventually("it has written", LONG, || n1.run("cat /data/mfs-n1.1.out") == "begun\n1000");
    assert_eq!(n1.run("stat -c '%u %a' /data/mfs-n1.1.out"), "1000 600");
    assert!(n3.run("mfs ps").contains("n1.1"));
    // Whoever waits, anywhere, hears of the end; and whoever asks later, too.
    let mut waiting = n3.command("mfs").args(["wait", "n1.1"]).spawn().expect("it starts");
    n1.run("touch /data/stop");
    assert_eq!(waiting.wait().expect("it was started").code(), Some(7));
    let later = shell(n1, "mfs wait n1.1; echo $?; mfs wait n1.1 n1.9; echo $?", b"");
    assert_eq!(text(&later.stdout), "7\n127");
    assert!(text(&later.stderr).contains("there is no job n1.9"), "{later:?}");
}

#[test]
fn a_detached_job_that_cannot_begin_is_no_job() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    for (line, status, sentence) in [
        ("mfs run --detach -n n2 -- no-such-program", 127, "not found"),
        (
            "mfs run --detach --output /no/such -n n2 -- true",
            126,
            "the job cannot write to /no/such",
        ),
        ("mfs run --output /tmp/o -- true", 2, "--detach"),
    ] {
        let output = shell(n1, line, b"");
        assert_eq!(output.status.code(), Some(status), "{line}");
        assert!(text(&output.stderr).contains(sentence), "{line}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    let added = "cd /tmp && for n in 1 2; do mfs wait $(mfs run --detach --output both -n n2 -- echo $n); done; cat both";
    assert_eq!(n1.run(added), "1\n2");
}

#[test]
fn jobs_tell_what_they_use_and_how_they_ended() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let listed = |all: &str| -> Vec<Value> {
        let shown: Value =
            serde_json::from_str(&n2.run(&format!("mfs ps --json {all}"))).expect("JSON");
        shown["jobs"].as_array().expect("a list").clone()
    };
    n1.run("cd /tmp && mfs run --detach --cpu --stay -n n2 -- sh -c 'while :; do :; done'");
    eventually("it has used a processor", LONG, || {
        listed("")[0]["cpu_ms"].as_u64().is_some_and(|used| used > 0)
    });
    let job = &listed("")[0];
    assert!(job["memory_bytes"].as_u64().expect("a number") > 100_000, "{job}");
    let said = ["node", "kind", "cannot_move"].map(|key| job[key].to_string());
    assert_eq!(said, ["\"n2\"", "\"cpu\"", "\"--stay\""], "{job}");
    // A connection stays where it was made.
    n1.run(
        "cd /tmp && mfs run --detach -n n2 -- python3 -c 'import socket, time; s = socket.create_server((\"127.0.0.1\", 0)); \
         c = socket.create_connection(s.getsockname()); time.sleep(1000)'",
    );
    eventually("it is seen to be tied", LONG, || {
        listed("").iter().any(|job| job["cannot_move"] == "TCP")
    });
    let lines = n1.run("mfs ps");
    assert!(lines.lines().all(|line| line.chars().count() <= 80), "{lines}");
    n1.run("mfs kill n1.1 n1.2; mfs wait n1.1 n1.2 || true");
    assert!(listed("").is_empty());
    let ended = &listed("--all")[0];
    assert_eq!((&ended["state"], &ended["exit_status"]), (&"ended".into(), &143.into()), "{ended}");
    assert!(n1.run("mfs ps --all").contains("exit 143"));
}

#[test]
fn a_job_is_begun_where_its_files_are() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    n1.run("mkdir -p /mfs/n3/data && ln -s /mfs/n3/data /near");
    for (line, node) in [
        ("mfs run --near /mfs/n3/data -- readlink /mfs/here", "n3"),
        ("mfs run --near /near -- readlink /mfs/here", "n3"),
        ("mfs run --near /mfs/here/etc -- readlink /mfs/here", "n1"),
        ("mfs run --near /etc/hostname -- readlink /mfs/here", "n1"),
        ("cd /mfs/n3/data && mfs run --io -- readlink /mfs/here", "n3"),
        ("cd /mfs/n3/data && mfs run --io -n n2 -- readlink /mfs/here", "n2"),
    ] {
        assert_eq!(n1.run(line), node, "{line}");
    }
    assert!(n1.refused("mfs run --near /no/such -- true").contains("/no/such"));
    assert!(n1.refused("mfs run --cpu --io -- true").contains("cannot be used with"));
}
