//! `start` and `heal` return when what they undo is undone: the next line of a script may rely on it.

use std::process::{Command, Output};
use std::time::Duration;

use mfs_tests::{Cluster, Node, Setup, binary, eventually};

/// `mfs lab COMMAND --name THIS NODE`, which may fail.
fn lab(cluster: &Cluster, command: &str, node: Node<'_>) -> Output {
    let mut lab = Command::new(binary("mfs"));
    lab.args(["lab", command, "--name", cluster.name(), &node.name()]).output().expect("mfs starts")
}

/// That it failed, and what it said at the end.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

fn is_out_of_reach(from: Node<'_>, node: Node<'_>) -> bool {
    let read = format!("cat /mfs/{}/etc/hostname", node.name());
    from.try_run(&read).stderr.contains("Host is down")
}

fn see_each_other(one: Node<'_>, other: Node<'_>) {
    for (from, node) in [(one, other), (other, one)] {
        let read = format!("cat /mfs/{}/etc/hostname", node.name());
        assert_eq!(from.run(&read), node.name(), "from {}", from.name());
    }
}

#[test]
fn healed_nodes_see_each_other_and_wait_for_no_others() {
    let cluster = Setup::nodes(5).up();
    let (n1, n2, n3, n4, n5) =
        (cluster.node(1), cluster.node(2), cluster.node(3), cluster.node(4), cluster.node(5));
    // What `heal` is not to wait for: a node that is off, one that hangs, one that is no member any more.
    n5.kill();
    n1.run("mfs node remove n4");
    eventually("n2 knows that n4 is out", Duration::from_secs(60), || {
        !n2.run("ls /mfs").contains("n4")
    });
    n2.partition();
    for (from, node) in [(n1, n2), (n2, n1)] {
        eventually("the partition is noticed", Duration::from_secs(60), || {
            is_out_of_reach(from, node)
        });
    }
    n3.stop();
    n2.heal();
    see_each_other(n1, n2);
    n3.start();
    n4.partition();
    n4.heal();
}

#[test]
fn a_node_that_is_hidden_behind_its_link_is_told_of() {
    let cluster = Setup::nodes(2).up();
    let n2 = cluster.node(2);
    n2.partition();
    eventually("the partition is noticed", Duration::from_secs(60), || {
        is_out_of_reach(cluster.node(1), n2)
    });
    n2.run("ip link set eth0 down");
    let said = complaint(&lab(&cluster, "heal", n2));
    assert!(said.contains("the link of n2 is mended, but"), "{said}");
    assert!(said.contains("on n1") && said.contains("/mfs/n2"), "{said}");
    assert_eq!(cluster.describe()["nodes"][1]["state"], "up");
}

/// However the old daemon ends and however far it has come with that.
#[test]
fn a_daemon_that_still_ends_is_not_taken_for_one_that_runs() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    for signal in ["TERM", "KILL", "TERM", "INT", "KILL", "TERM"] {
        let before = n2.run("pgrep -x mfsd");
        n2.run(&format!("kill -s {signal} {before}"));
        n2.start();
        let after = n2.run("pgrep -x mfsd");
        assert_ne!(after, before, "after SIG{signal}");
        n2.run("mfs nodes");
        see_each_other(n1, n2);
    }
    n2.start();
}

#[test]
fn why_a_daemon_does_not_start_is_told() {
    let cluster = Setup::nodes(1).up();
    let n1 = cluster.node(1);
    n1.kill_daemon();
    n1.run("mkdir -p /etc/mfs && echo 'nmae = \"x\"' >/etc/mfs/mfsd.toml");
    let said = complaint(&lab(&cluster, "start", n1));
    assert!(said.contains("mfsd on n1 ended") && said.contains("nmae"), "{said}");
    n1.run("rm /etc/mfs/mfsd.toml");
    n1.start();
    n1.run("mfs nodes");
}
