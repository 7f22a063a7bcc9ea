//! What a node has of its own, and what it sees of the machine.

use std::fs;
use std::path::Path;

use mfs_tests::Setup;

#[test]
fn every_node_has_names_processes_and_files_of_its_own() {
    let lab = Setup::nodes(2).bare().up();
    for node in lab.nodes() {
        assert_eq!(node.run("hostname"), node.name());
        assert_eq!(node.run("cat /etc/hostname"), node.name());
        assert_eq!(node.run("cat /proc/1/comm"), "mfs-lab-init");
        assert_eq!(node.run("ls /sys/class/net | sort | xargs"), "eth0 lo");
        assert_eq!(node.run("ls /var/lib/mfs-lab"), "");
    }
    let name = format!("{}-was-here", lab.name());
    for dir in ["/", "/root", "/tmp", "/etc", "/data", "/var/lib/mfs", "/run", "/dev/shm"] {
        let path = Path::new(dir).join(&name);
        let path = path.display();
        lab.node(1).run(&format!("echo written >{path} && cat {path}"));
        lab.node(2).refused(&format!("cat {path}"));
        assert!(fs::symlink_metadata(path.to_string()).is_err(), "{path} appears on the machine");
        assert_eq!(fs::read_to_string(lab.node(1).path(&path.to_string())).unwrap(), "written\n");
    }
}

#[test]
fn a_node_is_set_up_as_a_machine_that_mounts_mfs() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    assert_eq!(node.run("cat /etc/fstab"), "mfs /mfs mfs dfsa=1 0 0");
    assert_eq!(node.run("cd /mfs && pwd"), "/mfs");
    assert_eq!(node.run("command -v mfs"), "/usr/local/bin/mfs");
    assert_eq!(node.run("pwd; echo $HOME"), "/root\n/root");
    node.run("mfs --version");
    node.run("test -x /sbin/mount.mfs && command -v mfsd");
    assert_eq!(node.run("stat -f -c %T /"), "overlayfs");
    assert_ne!(node.run("stat -f -c %T /data"), "overlayfs");
    assert_eq!(node.run("stat -c '%a %U' /data /var/lib/mfs"), "755 root\n700 root");
    node.run("command -v git && command -v cc");
    node.run("echo 1 >/dev/null && head -c 1 /dev/zero >/dev/null && test -c /dev/fuse");
}

#[test]
fn other_mount_options_go_into_fstab() {
    let lab = Setup::nodes(1).bare().mounted("dfsa=0,ro").up();
    assert_eq!(lab.node(1).run("cat /etc/fstab"), "mfs /mfs mfs dfsa=0,ro 0 0");
    assert_eq!(lab.describe()["mount_options"], "dfsa=0,ro");
}

#[test]
fn directories_of_the_machine_can_be_renamed_and_files_linked() {
    let lab = Setup::nodes(1).bare().up();
    lab.node(1)
        .run("mv /usr/share /usr/shared && test -d /usr/shared && mv /usr/shared /usr/share");
    lab.node(1).run("ln /etc/passwd /etc/passwd.link && test /etc/passwd -ef /etc/passwd.link");
    lab.node(1).run("mkdir -p /root/a/b && mv /root/a /tmp/a && test -d /tmp/a/b");
}

#[test]
fn nodes_reach_each_other_and_nothing_else() {
    let lab = Setup::nodes(2).bare().up();
    // Nobody listens: that the refusal arrives shows that packets go both ways.
    let refusal = lab.node(1).refused("bash -c 'exec 3<>/dev/tcp/n2/7'");
    assert!(refusal.contains("refused"), "{refusal}");
    assert_eq!(lab.node(1).run("ip -o route show default"), "");
    let addresses = lab.node(2).run("ip -o -4 addr show dev eth0");
    assert!(addresses.contains("10.61.0.2/16"), "{addresses}");
}

#[test]
fn a_quota_of_processors_holds_for_all_that_runs_in_a_node() {
    let lab = Setup::nodes(1).bare().cpus("0.5").up();
    let own = lab.node(1).run("cat /proc/self/cgroup");
    assert!(own.contains(lab.name()), "a command is in its node's group: {own}");
    let first = lab.node(1).run("cat /proc/1/cgroup");
    assert!(first.contains(lab.name()), "the first process is in its node's group: {first}");
    assert_eq!(lab.describe()["cpus"], 0.5);
}

#[test]
fn plaintext_is_set_in_the_nodes_configuration() {
    let lab = Setup::nodes(1).bare().plaintext().up();
    let config = lab.node(1).run("cat /etc/mfs/mfsd.toml");
    assert_eq!(config, "transport = \"plaintext\"\ninterface = \"eth0\"");
    assert_eq!(lab.describe()["transport"], "plaintext");
}
