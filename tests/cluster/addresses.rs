//! Addresses that change while the cluster runs, and clusters without IPv4.

use std::time::Duration;

use mfs_tests::{Cluster, Node, Setup, eventually};
use serde_json::Value;

/// How a node sees another: its line in `mfs nodes --json`.
fn seen(by: Node<'_>, name: &str) -> Value {
    let all: Value =
        serde_json::from_str(&by.run("mfs nodes --json")).expect("mfs nodes --json prints JSON");
    let nodes = all["nodes"].as_array().expect("an array of nodes");
    nodes.iter().find(|node| node["name"] == name).cloned().unwrap_or_default()
}

/// The processes of mfs that run in a node.
fn processes(node: Node<'_>) -> String {
    node.run("ps -e -o pid=,comm= | awk '$2 == \"mfsd\" || $2 ~ /^mount.mfs|^mfs-fuse/' | sort -n")
}

/// Waits until every node reads from every other.
fn all_read_all(cluster: &Cluster) {
    for (reader, read) in cluster.nodes().flat_map(|a| cluster.nodes().map(move |b| (a, b))) {
        let (path, name) = (format!("/mfs/{}/etc/hostname", read.name()), read.name());
        let what = format!("{} reads {path}", reader.name());
        eventually(&what, Duration::from_secs(90), || {
            reader.try_run(&format!("timeout 60 cat {path}")).stdout.trim_end() == name
        });
    }
}

/// Whether a node is seen alive, at this address and no other.
fn alive_at(by: Node<'_>, name: &str, address: &str) -> bool {
    let node = seen(by, name);
    node["state"] == "alive" && node["addresses"] == serde_json::json!([address])
}

#[test]
fn a_node_that_moves_is_found_at_its_new_address() {
    let cluster = Setup::nodes(3).up();
    let (n1, n2, n3) = (cluster.node(1), cluster.node(2), cluster.node(3));
    n2.run("seq 100000 >/data/f");
    let before: Vec<_> = cluster.nodes().map(processes).collect();
    assert!(before.iter().all(|found| found.lines().count() == 2), "{before:?}");
    // A file that is open all the time, read before the move and after it.
    let mut reader = n1
        .command("sh")
        .args([
            "-c",
            "exec 3</mfs/n2/data/f && head -c 1000 <&3 >/tmp/a && touch /tmp/begun &&
             while ! test -e /tmp/go; do sleep 0.05; done; cat <&3 >/tmp/b",
        ])
        .spawn()
        .expect("mfs lab exec starts");
    eventually("the first bytes are read", Duration::from_secs(30), || {
        n1.try_run("test -e /tmp/begun").status.success()
    });
    for (old, new) in [("10.61.0.2", "10.61.7.7"), ("10.61.7.7", "10.61.0.99")] {
        n2.run(&format!(
            "ip addr del {old}/16 dev eth0 && ip addr add {new}/16 dev eth0 &&
             ip route replace 224.0.0.0/4 dev eth0"
        ));
        for other in [n1, n3] {
            let what = format!("{} finds n2 at {new}", other.name());
            eventually(&what, Duration::from_secs(90), || {
                alive_at(other, "n2", &format!("{new}:7230"))
            });
        }
        all_read_all(&cluster);
        // What was read before is read again without asking n2, as long as the lease lasts; this is not.
        eventually("n3 writes to n2", Duration::from_secs(90), || {
            let told = "/mfs/n2/data/told";
            let line = format!("echo {new} >{told} && test $(cat {told}) = {new}");
            n3.try_run(&line).status.success()
        });
    }
    n1.run("touch /tmp/go");
    assert!(reader.wait().expect("it was started").success(), "the open file is read on");
    assert_eq!(n1.run("cat /tmp/a /tmp/b | cmp - /mfs/n2/data/f && echo same"), "same");
    let after: Vec<_> = cluster.nodes().map(processes).collect();
    assert_eq!(before, after, "nothing was started again");
}

/// Nodes without a cluster, mounted, with these addresses instead of their own.
fn with_addresses(addresses: &[&[&str]]) -> Cluster {
    let count = u32::try_from(addresses.len()).expect("a few nodes");
    let cluster = Setup::nodes(count).bare().up();
    for (node, addresses) in cluster.nodes().zip(addresses) {
        node.run("ip addr flush dev eth0 scope global");
        for address in *addresses {
            let flags = if address.contains(':') { "nodad" } else { "" };
            node.run(&format!("ip addr add {address} dev eth0 {flags}"));
        }
        node.run("mkdir -p /mfs && mount /mfs");
    }
    cluster
}

/// The token of the line that `mfs init` prints, and the host.
fn invitation(said: &str) -> String {
    let line = said.lines().map(str::trim).find_map(|line| line.strip_prefix("mfs join "));
    line.unwrap_or_else(|| panic!("no `mfs join TOKEN`: {said}")).to_owned()
}

#[test]
fn nodes_with_ipv6_alone_are_a_cluster() {
    // The last one ends in the same 16 bits as the first: it cannot have the number that they give.
    let cluster = with_addresses(&[&["fd61::1/32"], &["fd61::2/32"], &["fd61:0:7::1/32"]]);
    let (n1, n2, n3) = (cluster.node(1), cluster.node(2), cluster.node(3));
    for node in cluster.nodes() {
        assert_eq!(node.run("ip -4 addr show dev eth0"), "", "an IPv4 address is left");
    }
    let line = invitation(&n1.run("mfs init --trust-root --uses 2"));
    assert!(line.ends_with(" fd61::1"), "{line}");
    // By the line as it is printed, and by what is heard on the network.
    n2.run(&format!("mfs join {line}"));
    n3.run(&format!("mfs join {}", line.trim_end_matches(" fd61::1")));
    for node in cluster.nodes() {
        eventually("the others appear", Duration::from_secs(60), || {
            node.run("ls /mfs") == "n1\nn2\nn3"
        });
    }
    all_read_all(&cluster);
    for node in cluster.nodes() {
        let numbers = ["n1", "n2", "n3"].map(|name| seen(node, name)["number"].clone());
        assert_eq!(serde_json::json!(numbers), serde_json::json!([1, 2, 3]), "{}", node.name());
        eventually("all are alive", Duration::from_secs(60), || {
            alive_at(node, "n1", "[fd61::1]:7230")
                && alive_at(node, "n2", "[fd61::2]:7230")
                && alive_at(node, "n3", "[fd61:0:7::1]:7230")
        });
    }
    n3.run("seq 300000 >/mfs/n1/data/f");
    assert_eq!(n2.run("cp /mfs/n1/data/f /mfs/n3/data/g && cmp /mfs/n1/data/f /mfs/n3/data/g"), "");
    assert_eq!(n3.run("tail -n 1 /data/g && ls /mfs/3/data"), "300000\ng");
}

/// Who has only IPv4 and who has only IPv6 hear of each other through one that has both, but no connection
/// joins them. The list of nodes says so.
#[test]
fn nodes_without_a_family_in_common_are_told_so() {
    let cluster =
        with_addresses(&[&["10.61.0.1/16"], &["10.61.0.2/16", "fd61::2/32"], &["fd61::3/32"]]);
    let (n1, n2, n3) = (cluster.node(1), cluster.node(2), cluster.node(3));
    let line = invitation(&n2.run("mfs init --trust-root --uses 2"));
    let token = line.split(' ').next().expect("a token");
    n1.run(&format!("mfs join {token} 10.61.0.2"));
    n3.run(&format!("mfs join {token} fd61::2"));
    eventually("n1 and n3 hear of each other", Duration::from_secs(90), || {
        alive_at(n1, "n3", "[fd61::3]:7230") && alive_at(n3, "n1", "10.61.0.1:7230")
    });
    for other in [n1, n3] {
        assert_eq!(n2.run(&format!("cat /mfs/{}/etc/hostname", other.name())), other.name());
        assert_eq!(other.run("cat /mfs/n2/etc/hostname && ls /mfs"), "n2\nn1\nn2\nn3");
    }
    for (from, to) in [(n1, "n3"), (n3, "n1")] {
        let refused = from.refused(&format!("timeout 120 cat /mfs/{to}/etc/hostname"));
        assert!(refused.contains("Host is down"), "{refused}");
        let listed = from.run("mfs nodes");
        assert!(listed.contains(&format!("{to} cannot be reached from here")), "{listed}");
    }
    assert!(!n2.run("mfs nodes").contains("cannot be reached"), "n2 reaches both");
}
