//! mount(8), umount(8), findmnt(8), df(1), and a boot without anything.

use std::io::Read;
use std::process::Stdio;
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
    assert!(missing.contains("mkdir -p /no-such-place"), "{missing}");
    for again in ["mount -t mfs mfs /mfs", "mount /mfs"] {
        let twice = n1.refused(again);
        assert!(twice.contains("umount /mfs && mount /mfs"), "{twice}");
    }
    let changed = n1.refused("mount -o remount,ro /mfs");
    assert!(changed.contains("mount it anew"), "{changed}");
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

/// Without mfsd the last known names are shown, and a person at a terminal is told what to do.
#[test]
fn without_mfsd_the_last_known_names_are_shown() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.kill_daemon();
    let terminal = "python3 -c 'import pty; pty.spawn([\"mount\", \"/mfs\"])' </dev/null";
    let said = n1.run(&format!("umount /mfs && {terminal}"));
    assert!(said.contains("mfsd is not running: systemctl start mfsd"), "{said}");
    assert_eq!(n1.run("ls /mfs && df /mfs >/dev/null && stat -c %n /mfs/n2"), "n1\nn2\n/mfs/n2");
    assert!(n1.refused("cat /mfs/n2/etc/hostname").contains("Host is down"));
    n1.start();
    eventually("the mount connects", Duration::from_secs(30), || {
        n1.try_run("cat /mfs/n2/etc/hostname").stdout == "n2\n"
    });
}

/// How the processes of a node have a file open: the flags of open(2) (proc_pid_fdinfo(5)).
const FLAGS: &str = "import os
for process in filter(str.isdigit, os.listdir(\"/proc\")):
    try:
        for fd in os.listdir(f\"/proc/{process}/fd\"):
            if os.readlink(f\"/proc/{process}/fd/{fd}\") == \"/data/f\":
                print(open(f\"/proc/{process}/fdinfo/{fd}\").read().split(\"flags:\")[1].split()[0])
    except OSError: pass";

/// `sync`: a file is open at its home as with O_SYNC, and the kernel does not go past that.
#[test]
fn sync_opens_every_file_for_synchronous_writes() {
    const SYNC: u32 = 0o4_010_000;
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run("mkdir /s && mount -t mfs -o dfsa=1,sync mfs /s");
    for (mount, wanted) in [("/s", true), ("/mfs", false)] {
        for home in cluster.nodes() {
            let name = home.name();
            let line = format!("exec 3>{mount}/{name}/data/f && echo text >&3 && echo open && cat");
            let mut writer = n1.command("sh");
            let writer = writer.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut writer = writer.spawn().expect("mfs lab exec starts");
            writer.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
            let flags = home.run(&format!("python3 -c '{FLAGS}'"));
            drop(writer.stdin.take());
            assert!(writer.wait().unwrap().success());
            let flags = flags.lines().map(|octal| u32::from_str_radix(octal, 8).unwrap());
            let open: Vec<_> = flags.filter(|flags| flags & 3 != 0).collect();
            assert!(!open.is_empty(), "{mount}/{name}");
            let sync = open.iter().all(|flags| flags & SYNC == SYNC);
            assert_eq!(sync, wanted, "{mount}/{name}: {open:?}");
        }
    }
    let passed = |mount: &str| {
        let figures: serde_json::Value =
            serde_json::from_str(&n1.run("mfs stats --json")).expect("JSON");
        let mounts = figures["mounts"].as_array().expect("mounts").clone();
        let found = mounts.into_iter().find(|m| m["mountpoint"] == mount);
        found.expect("its figures")["metrics"]["mfs_mount_passthrough_opens_total"].clone()
    };
    assert_eq!((passed("/s"), passed("/mfs")), (0.into(), 1.into()));
    n1.run("umount /s");
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
