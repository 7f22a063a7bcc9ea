//! Where a job runs, how it ends, and who may end it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};
use serde_json::Value;

use super::{shell, text};

const LONG: Duration = Duration::from_secs(60);

/// The jobs that a node knows of.
fn jobs(node: Node<'_>) -> Vec<Value> {
    let shown: Value = serde_json::from_str(&node.run("mfs ps --json")).expect("it prints JSON");
    shown["jobs"].as_array().expect("a list").clone()
}

#[test]
fn streams_and_status_are_those_of_the_program() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    let input: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for node in ["n1", "n2"] {
        let line = format!("mfs run -n {node} -- sh -c 'cat; echo complaint >&2; exit 7'");
        let output = shell(n1, &line, &input);
        assert_eq!(output.status.code(), Some(7));
        assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
        assert_eq!(output.stderr, b"complaint\n");
        for (program, status) in [
            ("true", 0),
            ("false", 1),
            ("sh -c \"kill -9 \\$\\$\"", 137),
            ("no-such-command", 127),
            ("/etc/passwd", 126),
        ] {
            let output = shell(n1, &format!("mfs run -n {node} -- {program}"), b"");
            assert_eq!(output.status.code(), Some(status), "{program}: {}", text(&output.stderr));
        }
    }
    assert_eq!(n1.run("mfs run -n n2 -- seq 200000 | mfs run -n n1 -- tail -n 1"), "200000");
    assert_eq!(text(&shell(n1, "mfs run -n n2 -- yes | head -n 2", b"").stdout), "y\ny");
}

#[test]
fn what_cannot_be_run_is_said() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    let said = |line: &str| text(&shell(n1, line, b"").stderr);
    let unknown = said("mfs run -n n9 -- true");
    assert!(unknown.contains("there is no node \"n9\""), "{unknown}");
    let missing = said("mfs run -n n2 -- no-such-command");
    assert!(missing.contains("no-such-command: not found"), "{missing}");
    cluster.node(2).run("umount -l /mfs");
    let unmounted = said("mfs run -n n2 -- true");
    assert!(unmounted.contains("the cluster is not mounted on this node"), "{unmounted}");
    let none = said("mfs kill n1.1 n7.1 17");
    for part in ["no job n1.1", "no node n7", "\"17\" is no job"] {
        assert!(none.contains(part), "{none}");
    }
}

#[test]
fn jobs_are_listed_everywhere_and_ended_by_who_may() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    let mut job = n1.command("setpriv");
    job.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "sh", "-c"]);
    job.arg("cd /tmp && exec mfs run -n n2 -- sh -c 'sleep 1000 & sleep 1000'");
    let mut job = job.spawn().expect("it starts");
    eventually("n3 sees the job", LONG, || jobs(n3).iter().any(|job| job["pid"] != 0));
    let shown = &jobs(n3)[0];
    let part = |key: &str| shown[key].to_string().replace('"', "");
    let parts = ["id", "home", "node", "uid", "state"].map(part);
    assert_eq!(parts, ["n1.1", "n1", "n2", "1000", "running"], "{shown}");
    assert_eq!(shown["command"][0], "sh");
    assert!(n1.run("mfs ps").contains("n1.1"));
    let other = "setpriv --reuid 1001 --regid 1001 --clear-groups mfs kill n1.1";
    for node in [n1, n2] {
        let refused = node.refused(other);
        assert!(refused.contains("is another user's"), "{refused}");
    }
    n2.run("mfs kill -s KILL n1.1");
    // Whoever started it sees that it was killed, not a status that says so.
    assert_eq!(job.wait().expect("it was started").signal(), Some(9));
    eventually("no job is left", LONG, || jobs(n3).is_empty());
    // What it has left running is ended with it.
    n2.run("test -z \"$(pgrep -x sleep)\"");
}

#[test]
fn a_job_ends_with_who_started_it_and_with_the_node_that_runs_it() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let start = || n1.command("mfs").args(["run", "-n", "n2", "--", "sleep", "1000"]).spawn();
    let runs = || n2.try_run("pgrep -x sleep").status.success();
    let mut job = start().expect("it starts");
    eventually("it runs", LONG, runs);
    n1.run("kill -KILL $(pgrep -x mfs)");
    job.wait().expect("it was started");
    eventually("it is ended", LONG, || !runs());
    let mut job = start().expect("it starts");
    eventually("it runs", LONG, runs);
    n2.kill();
    assert_eq!(job.wait().expect("it was started").code(), Some(137));
}

#[test]
fn a_job_ends_with_the_daemon_of_either_node() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let runs = || n2.try_run("pgrep -x sleep").status.success();
    let keepers = || n2.try_run("pgrep -x mfs-init").status.success();
    for (of, status) in [(n2, 137), (n1, 1)] {
        // One with a command, and one without.
        let mut job = n1.command("mfs");
        let line =
            ["run", "-n", "n2", "--", "sh", "-c", "trap '' HUP TERM; sleep 1000 & wait; wait"];
        let mut job = job.args(line).spawn().expect("it starts");
        n1.run("cd /tmp && mfs run --detach -n n2 -- sleep 1000");
        eventually("both run", LONG, || n2.try_run("pgrep -x sleep | wc -l").stdout == "2\n");
        of.kill_daemon();
        assert_eq!(job.wait().expect("it was started").code(), Some(status), "{}", of.name());
        eventually("nothing is left", LONG, || !runs() && !keepers());
        of.start();
        let shown = || n1.try_run("mfs ps --json").stdout;
        eventually("nothing is listed", LONG, || shown().contains("\"jobs\": []"));
    }
}

#[test]
fn signals_reach_the_program() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    let line = "mfs run -n n2 -- sh -c 'trap \"echo caught; exit 5\" TERM; echo ready; while :; do sleep 0.1; done' >/tmp/out & \
                until grep -q ready /tmp/out; do sleep 0.05; done; kill -TERM $!; wait $!; echo $?; cat /tmp/out";
    assert_eq!(n1.run(line), "5\nready\ncaught");
}

#[test]
fn the_node_with_room_is_chosen() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    // More at once than the processors of one node can take.
    let line = "for n in 1 2 3 4 5 6 7 8 9; do mfs run -- sh -c 'while :; do :; done' & done; wait";
    let mut many = n1.command("sh").args(["-c", line]).spawn().expect("it starts");
    eventually("all run", LONG, || jobs(n1).iter().filter(|job| job["pid"] != 0).count() == 9);
    let nodes: std::collections::BTreeSet<_> =
        jobs(n1).iter().map(|job| job["node"].to_string()).collect();
    assert!(nodes.len() > 1, "all run on {nodes:?}");
    n1.run("mfs kill -s KILL $(mfs ps --json | grep -o 'n1\\.[0-9]*')");
    many.wait().expect("it was started");
}
