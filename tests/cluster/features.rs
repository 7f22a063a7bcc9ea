//! Kernel features that are missing: everything works, more slowly, and `mfs nodes -v` says what is off.

use std::time::Duration;

use mfs_tests::{Setup, eventually};

/// What a program does with files, in one line of shell; prints `fine`.
const WORK: &str = "set -e; rm -rf w; mkdir w; cd w; echo one > a; echo two >> a; mv a b; ln b c; \
     ln -s b d; cat c d > e; test $(wc -l < e) = 4; truncate -s 3 e; test \"$(cat e)\" = one; \
     cp /bin/true t; ./t; rm -r ../w; echo fine";

#[test]
fn each_feature_can_be_missing() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    for (without, sentence) in [
        ("file-handles", "a restart of mfsd makes files stale"),
        ("openat2", "recognised only after"),
        ("fanotify", "remember nothing of its files"),
        ("file-leases", "ask each time they open or read"),
        ("passthrough", "reads and writes through mfs-fuse"),
    ] {
        let lends = ["openat2", "fanotify", "file-leases"].contains(&without);
        n1.run(&format!(
            "mkdir -p /etc/mfs && echo 'without = [\"{without}\"]' > /etc/mfs/mfsd.toml"
        ));
        n1.kill_daemon();
        n1.start();
        eventually("mfsd says what is off", Duration::from_secs(20), || {
            n1.try_run("mfs nodes -v").stdout.contains(sentence)
        });
        eventually("the other node reaches it again", Duration::from_secs(40), || {
            n2.try_run("ls /mfs/n1/data").status.success()
        });
        // The mount learns of another daemon a moment later; until then it speaks as before.
        eventually("the own mount follows", Duration::from_secs(20), || {
            let before = passthrough_opens(&n1);
            let works = n1.try_run(
                "cd /mfs/n1/data && rm -rf w && mkdir w && echo > w/a && cat w/a && rm -r w",
            );
            works.status.success() && (lends || passthrough_opens(&n1) == before)
        });
        let before = passthrough_opens(&n1);
        assert_eq!(n1.run(&format!("cd /mfs/n1/data; {WORK}")), "fine", "{without}, at home");
        assert_eq!(n2.run(&format!("cd /mfs/n1/data; {WORK}")), "fine", "{without}, from n2");
        if !lends {
            assert_eq!(passthrough_opens(&n1), before, "{without}");
        }
    }
    n1.run("echo 'without = [\"leases\"]' > /etc/mfs/mfsd.toml");
    let refused = n1.refused("mfsd --check");
    assert!(refused.contains("mfsd.toml:1:") && refused.contains("passthrough"), "{refused}");
}

fn passthrough_opens(node: &mfs_tests::Node<'_>) -> String {
    node.mount_figures()["mfs_mount_passthrough_opens_total"].to_string()
}
