//! A node vanishes: at once for those who use it, never for those who use others.

use std::time::Duration;

use mfs_tests::{Setup, eventually};

#[test]
fn a_dead_node_is_listed_and_refuses_at_once() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    assert_eq!(n1.run("cat /mfs/n3/etc/hostname"), "n3");
    cluster.node(3).kill();
    eventually("entering n3 says that its host is down", Duration::from_secs(60), || {
        n1.try_run("cat /mfs/n3/etc/hostname").stderr.contains("Host is down")
    });
    assert_eq!(
        n1.run("ls /mfs && cat /mfs/n2/etc/hostname && stat -c %n /mfs/n3"),
        "n1\nn2\nn3\nn2\n/mfs/n3"
    );
    n1.run("df /mfs");
    eventually("n1 knows that n3 is dead", Duration::from_secs(60), || {
        n1.run("mfs nodes --json").contains("\"dead\"")
    });
    cluster.node(3).start();
    eventually("n3 is back", Duration::from_secs(60), || {
        n1.try_run("cat /mfs/n3/etc/hostname").stdout == "n3\n"
    });
}

#[test]
fn a_partition_heals() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run("echo before >/mfs/n2/data/f");
    cluster.node(2).partition();
    eventually("n2 is out of reach", Duration::from_secs(60), || {
        n1.try_run("cat /mfs/n2/data/f").stderr.contains("Host is down")
    });
    assert_eq!(n1.run("cat /mfs/n1/etc/hostname"), "n1");
    assert_eq!(cluster.node(2).run("cat /mfs/n2/data/f"), "before");
    cluster.node(2).heal();
    assert_eq!(n1.run("cat /mfs/n2/data/f"), "before");
    n1.run("echo after >/mfs/n2/data/f");
    assert_eq!(cluster.node(2).run("cat /data/f"), "after");
}
