//! `mfs why` and `mfs locks` name who holds what and what is waited for, to whom it concerns.

use std::process::Child;
use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};
use serde_json::Value;

/// Somebody who is not root.
const AS_USER: &str = "setpriv --reuid=bin --regid=bin --clear-groups";

const LONG: Duration = Duration::from_secs(60);

fn beside(node: Node<'_>, line: &str) -> Child {
    node.command("sh").args(["-c", line]).spawn().expect("mfs lab exec starts")
}

fn json(node: Node<'_>, line: &str) -> Value {
    serde_json::from_str(&node.run(line)).expect("JSON")
}

/// The entries of a list that a node's mount has.
fn of<'a>(list: &'a Value, node: &str) -> Vec<&'a Value> {
    let entries = list.as_array().expect("a list");
    entries.iter().filter(|entry| entry["node"] == node).collect()
}

/// A lock, in the order of these words.
fn line_of(lock: &Value) -> String {
    assert!(lock["pid"].as_u64().expect("a number") > 0 && lock["age_ms"].is_u64(), "{lock}");
    let text = |key: &str| lock[key].to_string().replace('"', "");
    ["path", "node", "waits", "family", "kind", "start", "end"].map(text).join(" ")
}

#[test]
fn a_recall_that_is_not_answered_is_named() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    n3.run("touch /data/f");
    assert!(n3.run("mfs why /data/f").contains("Nobody holds anything"));
    n2.run("exec 3</mfs/n3/data/f && stat /mfs/n3/data/f");
    eventually("n2 may remember the attributes", LONG, || {
        n2.run("stat /mfs/n3/data/f");
        !of(&json(n1, "mfs why /mfs/n3/data/f --json")["leases"], "n2").is_empty()
    });
    n2.stop();
    let mut change = beside(n1, "exec chmod 600 /mfs/n3/data/f");
    // From the node that waits, and from the home of the file by its own path.
    for (node, path) in [(n1, "/mfs/n3/data/f"), (n3, "/data/f")] {
        eventually("the recall is named", LONG, || {
            let held = json(node, &format!("mfs why {path} --json"));
            let asked = of(&held["leases"], "n2").iter().any(|lease| {
                // Held before it was asked back.
                lease["asked_ms"].is_u64() && lease["age_ms"].as_u64() >= lease["asked_ms"].as_u64()
            });
            let waits = of(&held["changes"], "n1");
            asked
                && waits.iter().any(|c| c["operation"] == "SetAttributes" && c["waits_ms"].is_u64())
        });
    }
    let text = n1.run("mfs why /mfs/n3/data/f");
    assert!(text.contains("Waiting for n2 to give back its leases (attributes, handle)"), "{text}");
    n2.start();
    assert!(change.wait().unwrap().success());
    let after = json(n1, "mfs why /mfs/n3/data/f --json");
    assert_eq!(after["changes"], Value::Array(vec![]), "{after}");
}

#[test]
fn locks_are_listed_with_who_holds_and_who_waits() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    n2.run("touch /data/f /data/g && mkdir -m 700 /data/secret && touch /data/secret/s");
    let lock = |file: &str, range: &str, mark: &str| {
        format!(
            "exec python3 -c '
import fcntl, os, time
f = open(\"/mfs/n2/data/{file}\", \"r+\")
fcntl.lockf(f, fcntl.LOCK_EX, {range})
open(\"/tmp/{mark}\", \"w\").close()
while not os.path.exists(\"/tmp/go\"): time.sleep(0.05)'"
        )
    };
    let mut holders = [
        beside(n1, &lock("f", "5, 10", "f")),
        beside(n1, &lock("secret/s", "1, 0", "s")),
        beside(
            n1,
            "exec flock -s /mfs/n2/data/g sh -c 'touch /tmp/g; while ! test -e /tmp/go; do sleep 0.05; done'",
        ),
    ];
    eventually("n1 has its locks", LONG, || n1.try_run("cd /tmp && ls f s g").status.success());
    let mut waiter = beside(n3, &lock("f", "2, 10", "f"));
    eventually("n3 waits", LONG, || {
        json(n1, "mfs locks --node n2 --json")["locks"].as_array().unwrap().len() == 4
    });
    for (node, line) in [(n1, "mfs locks --node n2 --json"), (n2, "mfs locks --json")] {
        let listed = json(node, line);
        assert_eq!(listed["node"], "n2");
        let mut lines: Vec<_> = listed["locks"].as_array().unwrap().iter().map(line_of).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "/data/f n1 false fcntl exclusive 10 14",
                "/data/f n3 true fcntl exclusive 10 11",
                "/data/g n1 false flock shared 0 null",
                "/data/secret/s n1 false fcntl exclusive 0 0",
            ]
        );
    }
    let why = json(n3, "mfs why /mfs/n2/data/f --json");
    assert_eq!(of(&why["locks"], "n3")[0]["waits"], true, "{why}");
    assert_eq!(of(&why["opens"], "n1")[0]["writes"], true, "{why}");
    assert_eq!(why["locks"].as_array().unwrap().len(), 2, "those of this file alone: {why}");

    // Whoever may not search the way learns nothing, by whatever means he asks.
    for (node, line) in [(n2, "mfs locks --json"), (n1, "mfs locks --node n2 --json")] {
        let seen = json(node, &format!("{AS_USER} {line}"));
        let paths: Vec<_> =
            seen["locks"].as_array().unwrap().iter().map(|lock| lock["path"].clone()).collect();
        assert_eq!(paths.len(), 3, "{seen}");
        assert!(!paths.contains(&"/data/secret/s".into()), "{seen}");
    }
    n1.refused(&format!("{AS_USER} mfs why /mfs/n2/data/secret/s"));
    // In a view of his own he finds the way; mfsd does not take his word for it.
    let disguised = format!(
        "unshare --mount sh -c 'mount -t tmpfs none /data/secret && touch /data/secret/s &&
         chmod 755 /data/secret && exec {AS_USER} mfs why /data/secret/s'"
    );
    let refused = n2.refused(&disguised);
    assert!(refused.contains("Permission denied"), "{refused}");
    assert!(n2.run(&disguised.replace(AS_USER, "")).contains("fcntl exclusive"));

    n1.run("touch /tmp/go");
    n3.run("touch /tmp/go");
    assert!(waiter.wait().unwrap().success());
    for holder in &mut holders {
        assert!(holder.wait().unwrap().success());
    }
    eventually("no lock is left", LONG, || n2.run("mfs locks").contains("holds no locks"));
}
