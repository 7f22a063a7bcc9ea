//! mount(8), umount(8), findmnt(8), df(1), and a boot without anything.

use std::time::Duration;

use mfs_tests::{Setup, eventually};

#[test]
fn the_line_of_fstab_behaves_as_for_any_file_system() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    assert_eq!(
        n1.run("findmnt -no SOURCE,FSTYPE /mfs").split_whitespace().collect::<Vec<_>>(),
        ["mfs", "fuse.mfs"]
    );
    assert!(n1.run("df /mfs | tail -n 1").ends_with("/mfs"));
    assert_eq!(n1.run("umount /mfs && ls -A /mfs"), "");
    // The command returns although its daemon runs on, also when its output is waited for.
    assert_eq!(
        n1.run("out=$(timeout 20 mount /mfs 2>&1) && echo \"[$out]\" && ls /mfs"),
        "[]\nn1\nn2"
    );
    assert_eq!(n1.run("mount -a && mount -a && findmnt -no TARGET -t fuse.mfs"), "/mfs");
    // In / the word `mfs` is also a file's name, and mount(8), as systemd calls it there, takes it for that.
    n1.run("umount /mfs && cd / && mount /mfs && mount -a && cd /root && mount -a");
    assert_eq!(n1.run("findmnt -no SOURCE,TARGET -t fuse.mfs"), "mfs    /mfs");
    n1.run("umount /mfs");
    eventually("the mount's process ends with it", Duration::from_secs(20), || {
        n1.run("pgrep -c 'mfs-fuse|mount.mfs' || true") == "0"
    });
    n1.run("mount -a && cat /mfs/n2/etc/hostname");
}

#[test]
fn what_is_wrong_is_said() {
    let cluster = Setup::nodes(1).up();
    let n1 = cluster.node(1);
    let unknown = n1.refused("mkdir -p /m && mount -t mfs -o dfsa=1,speed=9 mfs /m");
    assert!(unknown.contains("speed") && unknown.contains("timeo"), "{unknown}");
    for option in
        ["dfsa=2", "dfsa=", "timeo=0", "timeo=-1", "timeo=soon", "timeo=99999999999999999999"]
    {
        let refused = n1.refused(&format!("mount -t mfs -o {option} mfs /m"));
        assert!(refused.contains(option.split('=').next().unwrap()), "{option}: {refused}");
    }
    let missing = n1.refused("mount -t mfs mfs /no-such-place");
    assert!(missing.contains("/no-such-place"), "{missing}");
    let twice = n1.refused("mount -t mfs mfs /mfs");
    assert!(twice.contains("/mfs"), "{twice}");
    assert_eq!(n1.run("findmnt -no TARGET -t fuse.mfs"), "/mfs");
}

/// The line as it stands neither fails nor delays a boot: no mfsd, no cluster, no network.
#[test]
fn mounting_needs_no_mfsd() {
    let cluster = Setup::nodes(1).bare().up();
    let n1 = cluster.node(1);
    n1.run("ip link set lo down; mkdir -p /mfs && timeout 20 mount /mfs && ip link set lo up");
    assert_eq!(n1.run("ls -A /mfs"), "");
    assert!(n1.refused("ls /mfs/n1").contains("No such file"));
    n1.run("stat /mfs && df /mfs");
    n1.run("mfs init --name n1");
    eventually("the node appears in the mount", Duration::from_secs(30), || {
        n1.run("ls -A /mfs") == "n1"
    });
    assert_eq!(n1.run("cat /mfs/n1/etc/hostname"), "n1");
}

#[test]
fn read_only_is_read_only() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run("mkdir /ro && mount -t mfs -o ro mfs /ro && cat /ro/n2/etc/hostname");
    let refused = n1.refused("touch /ro/n2/tmp/x");
    assert!(refused.contains("Read-only file system"), "{refused}");
    n1.run("umount /ro");
}
