//! How busy nodes are, as others see it, and how they lend themselves.

use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};
use serde_json::Value;

use super::{shell, text};

const LONG: Duration = Duration::from_secs(60);

/// The load of a node, as another sees it; null if it knows nothing.
fn load(by: Node<'_>, of: &str) -> Value {
    let shown: Value = serde_json::from_str(&by.run("mfs nodes --json")).expect("it prints JSON");
    let nodes = shown["nodes"].as_array().expect("a list");
    nodes.iter().find(|node| node["name"] == of).expect("it is a member")["load"].clone()
}

fn has_flag(by: Node<'_>, of: &str, flag: &str) -> bool {
    load(by, of)["flags"].as_array().is_some_and(|flags| flags.iter().any(|one| one == flag))
}

#[test]
fn nodes_tell_each_other_how_busy_they_are_and_what_they_have() {
    let cluster = Setup::nodes(3).cpus("0.5").up();
    let [n1, n2] = [1, 2].map(|number| cluster.node(number));
    for of in ["n1", "n2", "n3"] {
        let whole = || {
            let load = load(n1, of);
            load["processors_milli"] == 500 && load["memory_total"].as_u64() > Some(1 << 20)
        };
        eventually(&format!("n1 knows {of}"), LONG, whole);
    }
    // Whoever is given more of the machine says so.
    n2.run("echo 25000 >/sys/fs/cgroup/cpu.cfs_quota_us 2>/dev/null || echo '25000 100000' >/sys/fs/cgroup/cpu.max");
    eventually("n1 knows the new quota of n2", LONG, || load(n1, "n2")["processors_milli"] == 250);
    let line = "for n in 1 2 3; do sh -c 'until [ -e /tmp/stop ]; do :; done' & done; wait";
    let mut busy = n2.command("sh").args(["-c", line]).spawn().expect("it starts");
    let running = || load(n1, "n2")["running_milli"].as_u64() > Some(2_000);
    eventually("n1 sees that n2 is busy", LONG, running);
    assert!(n1.run("mfs nodes").contains("/0.25"), "{}", n1.run("mfs nodes"));
    // A busy node is sent nothing while another is free.
    let place = n1.run("mfs run -- sh -c 'cat /proc/sys/kernel/hostname >/dev/null; sleep 1' & sleep 0.8; mfs ps --json; wait");
    let jobs: Value = serde_json::from_str(&place).expect("it prints JSON");
    assert_ne!(jobs["jobs"][0]["node"], "n2", "{jobs}");
    n2.run("touch /tmp/stop");
    busy.wait().expect("it was started");
}

#[test]
fn a_blocked_node_runs_its_own_jobs_only_and_says_so() {
    let cluster = Setup::nodes(2).up();
    let [n1, n2] = [1, 2].map(|number| cluster.node(number));
    assert!(n2.run("mfs block").contains("takes no jobs of other nodes"));
    let refused = text(&shell(n1, "mfs run -n n2 -- true", b"").stderr);
    assert!(refused.contains("node n2 is blocked"), "{refused}");
    n2.run("mfs run -n n2 -- true");
    n2.run("mfs run -n n1 -- true");
    eventually("n1 knows", LONG, || has_flag(n1, "n2", "blocked"));
    // Twelve at once are more than n1 has processors for, and yet n2 gets none of them.
    n1.run("for n in 1 2 3 4 5 6 7 8 9 10 11 12; do mfs run -- true & done; wait");
    assert_eq!(n2.daemon_figures()["mfs_jobs_refused_total"], 1);
    // It is kept over a restart of the daemon.
    n2.kill_daemon();
    n2.start();
    let refused = text(&shell(n1, "mfs run -n n2 -- true", b"").stderr);
    assert!(refused.contains("node n2 is blocked"), "{refused}");
    n2.run("mfs unblock");
    n1.run("mfs run -n n2 -- true");
}

#[test]
fn a_node_that_lends_itself_when_idle_takes_no_guests_before_it_is() {
    let cluster = Setup::nodes(2).up();
    let [n1, n2] = [1, 2].map(|number| cluster.node(number));
    let line = "until [ -e /tmp/stop ]; do :; done";
    let mut busy = n2.command("sh").args(["-c", line]).spawn().expect("it starts");
    n2.run("mfs block --when-busy");
    eventually("n1 knows", LONG, || {
        ["when-idle", "blocked", "guests-go"].iter().all(|flag| has_flag(n1, "n2", flag))
    });
    let refused = text(&shell(n1, "mfs run -n n2 -- true", b"").stderr);
    assert!(refused.contains("node n2 lends itself only while it is idle"), "{refused}");
    n2.run("touch /tmp/stop");
    busy.wait().expect("it was started");
}

#[test]
fn a_node_is_taken_for_as_fast_as_its_root_says() {
    let cluster = Setup::nodes(2).up();
    let [n1, n2] = [1, 2].map(|number| cluster.node(number));
    let said = n1.run("mfs node set n2 speed=5000000 quiet=no");
    assert!(said.contains("speed 5000000: 500.00 of the yardstick"), "{said}");
    eventually("n1 knows", LONG, || load(n1, "n2")["speed"] == 5_000_000);
    // So much faster that the home is no match.
    let job = n1.run("mfs run -- sleep 2 & sleep 1; mfs ps --json; wait");
    let jobs: Value = serde_json::from_str(&job).expect("it prints JSON");
    assert_eq!(jobs["jobs"][0]["node"], "n2", "{jobs}");
    let said = n2.run("mfs node set n2 speed=auto");
    assert!(said.contains("is measured with speed"), "{said}");
    n2.run("mfs stay && mfs node set n2 quiet=yes");
    assert!(has_flag(n2, "n2", "stay") && has_flag(n2, "n2", "quiet"));
    eventually("n1 hears nothing of it any more", LONG, || load(n1, "n2").is_null());
    for line in ["mfs block", "mfs stay n1", "mfs node set n2 speed=1"] {
        let line = format!("setpriv --reuid 1000 --regid 1000 --clear-groups {line}");
        let refused = n2.refused(&line);
        assert!(refused.contains("only root may do this"), "{line}: {refused}");
    }
}
