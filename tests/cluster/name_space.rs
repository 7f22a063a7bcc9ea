//! What stands in /mfs.

use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};

/// Unmounts; a mount that was served is held for a while after its last use.
fn unmounted(node: Node<'_>, place: &str) {
    eventually("the server lets go of the mount", Duration::from_secs(60), || {
        node.try_run(&format!("umount {place}")).status.success()
    });
}

#[test]
fn every_node_has_its_directory() {
    let cluster = Setup::nodes(3).up();
    for node in cluster.nodes() {
        assert_eq!(node.run("ls /mfs"), "n1\nn2\nn3", "{}", node.name());
        for other in cluster.nodes() {
            let name = other.name();
            assert_eq!(node.run(&format!("cat /mfs/{name}/etc/hostname")), name);
        }
    }
}

/// The views of jobs have mounts there.
#[test]
fn what_is_mounted_in_the_root_of_a_node_stays_while_the_node_is_away() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    for point in ["proc", "sys", "dev", "mfs"] {
        n2.run(&format!("mount -t tmpfs mark /mfs/n1/{point} && echo here >/mfs/n1/{point}/mark"));
    }
    n1.kill_daemon();
    eventually("n1 is away", Duration::from_secs(60), || {
        !n2.try_run("timeout 20 ls /mfs/n1/etc").status.success()
    });
    for point in ["proc", "sys", "dev", "mfs"] {
        assert_eq!(n2.run(&format!("cat /mfs/n1/{point}/mark")), "here");
        n2.run(&format!("ls /mfs/n1 >/dev/null; umount /mfs/n1/{point}"));
    }
}

/// Numbers and the entries that depend on the caller are links: resolved, not listed.
#[test]
fn numbers_and_here_are_links_that_are_not_listed() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    assert_eq!(n1.run("readlink /mfs/here"), "n1");
    assert_eq!(cluster.node(2).run("readlink /mfs/here"), "n2");
    for own in ["home", "lastexec", "selected"] {
        assert_eq!(n1.run(&format!("readlink /mfs/{own}")), "n1", "{own}");
    }
    // 10.61.0.2 has the low bits 2.
    assert_eq!(n1.run("readlink /mfs/2 && cat /mfs/2/etc/hostname"), "n2\nn2");
    let missing = n1.refused("ls /mfs/3 /mfs/0 /mfs/65536 /mfs/02 /mfs/nobody");
    assert_eq!(missing.matches("No such file or directory").count(), 5, "{missing}");
    assert_eq!(n1.run("ls -A /mfs"), "n1\nn2");
}

/// `magic`: what is created there is created here, and appears there afterwards.
#[test]
fn magic_creates_here() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run("echo text >/mfs/magic/made-here");
    assert_eq!(n1.run("cat /mfs/magic/made-here"), "text");
    assert_eq!(n1.run("find / -xdev -name made-here -not -path '/mfs/*' | wc -l"), "1");
}

/// Nothing can be made beside the nodes, and nothing of theirs can be taken away.
#[test]
fn the_top_cannot_be_changed() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    for change in [
        "touch /mfs/x",
        "mkdir /mfs/x",
        "rmdir /mfs/n2",
        "mv /mfs/n2 /mfs/n3",
        "ln -s a /mfs/x",
        "rm /mfs/here",
    ] {
        n1.refused(change);
    }
    assert_eq!(n1.run("ls /mfs"), "n1\nn2");
}

/// A tree ends where mfs begins again, however one gets there.
#[test]
fn a_tree_never_contains_the_cluster() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    for tree in ["mfs", "proc", "sys"] {
        assert_eq!(n1.run(&format!("ls -A /mfs/n2/{tree}")), "", "{tree}");
    }
    n1.run("mkdir -p /mfs/n2/tmp/bound");
    cluster.node(2).run("mount --bind /mfs /tmp/bound");
    assert_eq!(n1.run("ls -A /mfs/n2/tmp/bound"), "");
    unmounted(cluster.node(2), "/tmp/bound");
}

/// The keys of a node are never served, by whatever way.
#[test]
fn the_state_directory_is_not_served() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n1.refused("cat /mfs/n2/var/lib/mfs/* /mfs/n2/var/lib/mfs/*/*");
    assert_eq!(n1.run("ls -A /mfs/n2/var/lib/mfs 2>/dev/null || true"), "");
    n2.run("mkdir /tmp/elsewhere && mount --bind /var/lib/mfs /tmp/elsewhere");
    assert_eq!(n1.run("ls -A /mfs/n2/tmp/elsewhere 2>/dev/null || true"), "");
    unmounted(n2, "/tmp/elsewhere");
    // Neither on the own node, by direct access.
    assert_eq!(n1.run("ls -A /mfs/n1/var/lib/mfs 2>/dev/null || true"), "");
}
