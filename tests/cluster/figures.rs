//! `mfs stats` shows what really went over the wire.

use mfs_tests::Setup;
use serde_json::Value;

#[test]
fn operations_are_counted_on_both_sides() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let made = |figures: &Value, metric: &str| figures[metric]["MakeDir"].as_i64().unwrap_or(0);
    let sent = || made(&n1.mount_figures(), "mfs_client_requests_sent_total");
    let received = || made(&n2.daemon_figures(), "mfs_server_requests_received_total");
    let (sent_before, received_before) = (sent(), received());
    n1.run("cd /mfs/n2/data && mkdir a b c && rmdir a");
    assert_eq!(sent() - sent_before, 3);
    assert_eq!(received() - received_before, 3);
    // The same figure of the other node, asked from here.
    let other: Value = serde_json::from_str(&n1.run("mfs stats --node n2 --json")).unwrap();
    assert_eq!(made(&other["daemon"]["metrics"], "mfs_server_requests_received_total"), received());
    assert_eq!(other["daemon"]["node"], "n2");
}

#[test]
fn direct_access_sends_nothing() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run("seq 100000 >/data/f");
    let reads =
        || n1.daemon_figures()["mfs_server_requests_received_total"]["Read"].as_i64().unwrap_or(0);
    let before = reads();
    n1.run("cmp /mfs/n1/data/f /data/f && cat /mfs/n1/data/f >/dev/null");
    assert_eq!(reads(), before, "reads of the own files went to mfsd");
    let figures = n1.mount_figures();
    assert!(
        figures["mfs_mount_direct_operations_total"]["Open"].as_i64().unwrap_or(0) > 0,
        "{figures}"
    );
}

#[test]
fn nothing_is_left_open() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n1.run("cd /mfs/n2/data && mkdir d && for i in 1 2 3 4 5; do seq $i >d/$i; cat d/$i >/dev/null; done && rm -r d");
    mfs_tests::eventually("no open is left", std::time::Duration::from_secs(30), || {
        n2.daemon_figures()["mfs_server_opens"] == 0 && n1.mount_figures()["mfs_mount_opens"] == 0
    });
}

#[test]
fn prometheus_reads_it() {
    let cluster = Setup::nodes(1).up();
    let alive = "# TYPE mfs_members gauge\nmfs_members{state=\"alive\"} 1\n";
    mfs_tests::eventually("the node counts itself", std::time::Duration::from_secs(20), || {
        cluster.node(1).run("mfs stats --prometheus").contains(alive)
    });
    let refused = cluster.node(1).refused("mfs stats --node nobody");
    assert!(refused.contains("nobody"), "{refused}");
}
