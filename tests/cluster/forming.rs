//! Forming a cluster: founding, joining, leaving, removing, and who is not let in.

use std::time::Duration;

use mfs_tests::{Cluster, Node, Setup, eventually};
use serde_json::Value;

/// Two nodes without a cluster, but with the mount.
fn two_strangers() -> Cluster {
    let cluster = Setup::nodes(2).bare().up();
    for node in cluster.nodes() {
        node.run("mkdir -p /mfs && mount /mfs");
    }
    cluster
}

/// The token of the line that `mfs init` or `mfs token create` prints.
fn token_of(said: &str) -> String {
    let word = said.split_whitespace().skip_while(|word| *word != "join").nth(1);
    word.unwrap_or_else(|| panic!("no `mfs join TOKEN`: {said}")).to_owned()
}

fn sees(node: Node<'_>, names: &str) {
    eventually(&format!("{} sees {names}", node.name()), Duration::from_secs(40), || {
        node.run("ls /mfs").replace('\n', " ") == names
    });
}

fn nodes(node: Node<'_>) -> Value {
    serde_json::from_str(&node.run("mfs nodes --json")).expect("mfs nodes --json prints JSON")
}

#[test]
fn the_printed_line_lets_a_node_join() {
    let cluster = two_strangers();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let said = n1.run("mfs init");
    n2.run(&format!("mfs join {} 10.61.0.1", token_of(&said)));
    sees(n1, "n1 n2");
    sees(n2, "n1 n2");
    assert_eq!(n1.run("cat /mfs/n2/etc/hostname"), "n2");
    // On a busy machine a node may be suspected for a moment.
    eventually("both are alive", Duration::from_secs(60), || {
        nodes(n1).to_string().matches("\"alive\"").count() == 2
    });
}

#[test]
fn the_beacon_finds_the_cluster() {
    let cluster = two_strangers();
    let said = cluster.node(1).run("mfs init");
    cluster.node(2).run(&format!("mfs join {}", token_of(&said)));
    sees(cluster.node(1), "n1 n2");
}

/// Where multicast does not get through, or is not wanted, seeds do what the beacon does.
#[test]
fn a_static_seed_is_enough_without_the_beacon() {
    let cluster = two_strangers();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    for (node, seeds) in [(n1, ""), (n2, r#"seeds = ["10.61.0.77", "10.61.0.1"]"#)] {
        node.run(&format!(
            "mkdir -p /etc/mfs && printf 'beacon = false\n{seeds}\n' >/etc/mfs/mfsd.toml"
        ));
    }
    let token = token_of(&n1.run("mfs init"));
    n2.run(&format!("mfs join {token}"));
    sees(n1, "n1 n2");
    sees(n2, "n1 n2");
    assert_eq!(n2.run("cat /mfs/n1/etc/hostname"), "n1");
    // Both move while neither runs: what each remembers of the other is wrong now, and only n2's seed is right.
    cluster.nodes().for_each(|node| node.kill_daemon());
    for (node, old, new) in [(n1, "10.61.0.1", "10.61.7.1"), (n2, "10.61.0.2", "10.61.7.2")] {
        node.run(&format!("ip addr del {old}/16 dev eth0 && ip addr add {new}/16 dev eth0"));
    }
    n2.run("sed -i 's/10[.]61[.]0[.]1/10.61.7.1/' /etc/mfs/mfsd.toml");
    for node in cluster.nodes() {
        node.run("mfsd --detach </dev/null >>/run/mfs/mfsd.log 2>&1 & sleep 0.1");
    }
    for (reader, name) in [(n1, "n2"), (n2, "n1")] {
        eventually(&format!("{} reads {name}", reader.name()), Duration::from_secs(90), || {
            reader.try_run(&format!("cat /mfs/{name}/etc/hostname")).stdout.trim_end() == name
        });
    }
}

/// What is heard counts when seeds do not answer, and what is wrong with them is said when nothing is heard.
#[test]
fn seeds_that_do_not_answer_are_told_of() {
    let cluster = two_strangers();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n1.run("mkdir -p /etc/mfs && echo 'beacon = false' >/etc/mfs/mfsd.toml");
    n2.run("mkdir -p /etc/mfs && echo 'seeds = [\"10.61.0.77\"]' >/etc/mfs/mfsd.toml");
    let token = token_of(&n1.run("mfs init"));
    let refused = n2.refused(&format!("mfs join {token}"));
    assert!(refused.contains("give its host") && refused.contains("10.61.0.77"), "{refused}");
    n1.run("rm /etc/mfs/mfsd.toml");
    n1.kill_daemon();
    n1.run("mfsd --detach </dev/null >>/run/mfs/mfsd.log 2>&1 & sleep 0.1");
    eventually("n1 is heard and n2 joins", Duration::from_secs(90), || {
        n2.try_run(&format!("mfs join {token}")).status.success()
    });
    sees(n1, "n1 n2");
}

#[test]
fn bad_tokens_are_refused() {
    let cluster = two_strangers();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let token = token_of(&n1.run("mfs init --uses 1"));
    let mut forged = token.clone().into_bytes();
    let at = forged.len() - 5;
    // A token may be typed in either case.
    forged[at] = if forged[at].eq_ignore_ascii_case(&b'a') { b'b' } else { b'a' };
    let forged = String::from_utf8(forged).unwrap();
    for wrong in [forged.as_str(), "x", "''", &"y".repeat(5_000), &token[..token.len() - 1]] {
        let refused = n2.refused(&format!("mfs join {wrong} 10.61.0.1"));
        assert!(!refused.is_empty() && !refused.contains("panicked"), "{wrong}: {refused}");
        assert_eq!(n2.run("ls -A /mfs"), "", "{wrong}");
    }
    n2.run(&format!("mfs join {token} 10.61.0.1"));
    sees(n1, "n1 n2");
    // Used up.
    n2.run("mfs leave");
    n2.refused(&format!("mfs join {token} 10.61.0.1"));
    // Revoked.
    let second = token_of(&n1.run("mfs token create"));
    n1.run(&format!("mfs token revoke {second}"));
    n2.refused(&format!("mfs join {second} 10.61.0.1"));
    // The mount hears a moment later that its node is in no cluster.
    eventually("/mfs is empty", Duration::from_secs(30), || n2.run("ls -A /mfs").is_empty());
}

/// mfsd is killed when the cluster has admitted it and it has written nothing down: the same line, said again, is
/// the same node, and takes no second use of the token.
#[test]
fn a_join_that_is_broken_off_is_said_again() {
    let cluster = two_strangers();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let join = |said: &str| format!("mfs join {} 10.61.0.1", token_of(said));
    let line = join(&n1.run("mfs init"));
    n2.refused(&format!("MFS_FAIL=admitted=kill {line}"));
    assert!(n1.run("mfs nodes").contains("n2"), "it was admitted");
    n2.run(&line);
    sees(n1, "n1 n2");
    sees(n2, "n1 n2");
    assert_eq!(n2.run("ls /var/lib/mfs"), "cluster", "the key of the attempt is gone");
    // Removed before it is said again: the kept key is of no use any more, another one is.
    n2.run("mfs leave");
    n2.kill_daemon();
    let line = join(&n1.run("mfs token create --uses 2"));
    n2.refused(&format!("MFS_FAIL=admitted=kill {line}"));
    n1.run("mfs node remove n2");
    n2.run(&line);
    sees(n1, "n1 n2");
    sees(n2, "n1 n2");
    assert_eq!(n2.run("cat /mfs/n1/etc/hostname"), "n1");
}

#[test]
fn a_join_that_fails_names_host_and_port() {
    let cluster = two_strangers();
    let token = token_of(&cluster.node(1).run("mfs init"));
    let refused = cluster.node(2).refused(&format!("mfs join {token} 10.61.0.77"));
    assert!(refused.contains("10.61.0.77") && refused.contains("7230"), "{refused}");
}

#[test]
fn a_taken_or_bad_name_is_refused_with_one_that_works() {
    let cluster = two_strangers();
    let token = token_of(&cluster.node(1).run("mfs init --uses 5"));
    for bad in ["n1", "here", "home", "12", "a/b", "-x", "''"] {
        let refused = cluster.node(2).refused(&format!("mfs join --name={bad} {token} 10.61.0.1"));
        assert!(refused.contains("--name"), "{bad}: {refused}");
    }
    cluster.node(2).run(&format!("mfs join --name second {token} 10.61.0.1"));
    sees(cluster.node(1), "n1 second");
}

/// Users are the same by number: joining warns of those that differ, and the list of nodes shows them.
#[test]
fn users_that_differ_are_told() {
    let cluster = two_strangers();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n1.run("echo ann:x:54321:54321::/:/bin/sh >>/etc/passwd");
    n2.run("echo bob:x:54321:54321::/:/bin/sh >>/etc/passwd");
    let token = token_of(&n1.run("mfs init"));
    let said = n2.run(&format!("mfs join {token} 10.61.0.1 2>&1"));
    assert!(said.contains("number 54321 is user ann on n1 and user bob on n2"), "{said}");
    let differ = n2.try_run("mfs nodes --check-users");
    assert_eq!(differ.status.code(), Some(1));
    assert!(differ.stdout.contains("number 54321 is user bob on n2 and user ann on n1"));
    n2.run("sed -i s/^bob:/ann:/ /etc/passwd");
    assert!(n2.run("mfs nodes --check-users").contains("the same on 2 nodes"));
}

#[test]
fn a_removed_node_is_out_for_good() {
    let cluster = Setup::nodes(3).up();
    let (n1, n3) = (cluster.node(1), cluster.node(3));
    assert_eq!(n3.run("cat /mfs/n1/etc/hostname"), "n1");
    n1.run("mfs node remove n3");
    sees(n1, "n1 n2");
    sees(cluster.node(2), "n1 n2");
    eventually("n3 is refused by n1 and n2", Duration::from_secs(40), || {
        let one = n3.try_run("timeout 15 cat /mfs/n1/etc/hostname");
        let two = n3.try_run("timeout 15 cat /mfs/n2/etc/hostname");
        !one.status.success() && !two.status.success()
    });
}

#[test]
fn a_node_that_leaves_is_gone() {
    let cluster = Setup::nodes(2).up();
    cluster.node(2).run("mfs leave");
    sees(cluster.node(1), "n1");
    eventually("n2 sees nobody", Duration::from_secs(20), || {
        cluster.node(2).run("ls -A /mfs").is_empty()
    });
}

/// Whoever has no certificate of the cluster gets nothing from its port.
#[test]
fn a_stranger_gets_nothing() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    let before = n1.daemon_figures()["mfs_server_connections_refused_total"].as_i64().unwrap();
    // A socket that speaks no TLS is closed without a word.
    let heard = cluster.node(2).run(
        "timeout 60 python3 -c 'import socket
s = socket.create_connection((\"10.61.0.1\", 7230)); s.sendall(b\"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\" + bytes(64))
data = b\"\"
try:
    while (got := s.recv(100)): data += got
except ConnectionError: pass
print(b\"SETTINGS\" in data, len(data) < 100)'",
    );
    assert_eq!(heard, "False True");
    // It is counted when the connection has been closed.
    eventually("the refusal is counted", Duration::from_secs(60), || {
        n1.daemon_figures()["mfs_server_connections_refused_total"].as_i64() > Some(before)
    });
}
