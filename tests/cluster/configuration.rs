//! `/etc/mfs/mfsd.toml` on a real node: what the keys of an export do, and what does not fit the machine.

use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};

/// Starts the node's mfsd anew with this configuration; mounts hear of it a moment later.
fn configure(node: Node<'_>, text: &str) {
    node.run(&format!("mkdir -p /etc/mfs && echo '{text}' >/etc/mfs/mfsd.toml"));
    node.kill_daemon();
    node.start();
}

/// Waits until a line succeeds in a node and prints this.
fn prints(node: Node<'_>, line: &str, expected: &str) {
    eventually(&format!("{}: {line}: {expected}", node.name()), Duration::from_secs(60), || {
        let ran = node.try_run(line);
        ran.status.success() && ran.stdout.trim_end() == expected
    });
}

/// Waits until a line is refused in a node with this reason.
fn refuses(node: Node<'_>, line: &str, reason: &str) {
    eventually(&format!("{}: {line}: {reason}", node.name()), Duration::from_secs(60), || {
        let ran = node.try_run(line);
        !ran.status.success() && ran.stderr.contains(reason)
    });
}

#[test]
fn an_export_is_as_it_is_configured() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    n1.run("cd /data && mkdir -m 777 open && mkdir secret && echo text >secret/s");
    n1.run("cd /data && echo text >key && chmod 600 key");
    let export = |more: &str| format!("[export]\npath = \"/data\"\n{more}\n");

    configure(n1, &export("hidden = [\"/data/secret\"]"));
    for node in [n1, n2] {
        prints(node, "ls /mfs/n1 && cat /mfs/n1/key", "key\nopen\ntext");
        refuses(node, "cat /mfs/n1/secret/s", "No such file");
    }
    configure(n1, &export("read_only = true"));
    for node in [n1, n2] {
        refuses(node, "touch /mfs/n1/open/f", "Read-only file system");
        prints(node, "cat /mfs/n1/secret/s", "text");
    }
    // The laboratory's cluster trusts the root of every node.
    configure(n1, &format!("trust_root = false\n{}[peer.n3]\ntrust_root = true", export("")));
    refuses(n2, "cat /mfs/n1/key", "Permission denied");
    let whose = "f=/mfs/n1/open/$(hostname)-$$ && echo >$f && stat -c %u $f";
    prints(n2, whose, "65534");
    prints(n3, &format!("cat /mfs/n1/key && {whose}"), "text\n0");
    configure(n1, &export("squash = \"all\""));
    refuses(n3, "cat /mfs/n1/key", "Permission denied");
    let somebody = "setpriv --reuid=4242 --regid=4242 --clear-groups";
    prints(n3, &format!("{somebody} sh -c '{whose}'"), "65534");
    configure(n1, &format!("trust_root = false\n{}", export("squash = \"none\"")));
    prints(n2, &format!("cat /mfs/n1/key && {whose}"), "text\n0");
}

/// What only the machine can find wrong is said by `--check`, and by mfsd when it starts, with file, line and
/// what to do.
#[test]
fn a_configuration_that_does_not_fit_the_machine_is_named_by_its_line() {
    let cluster = Setup::nodes(1).up();
    let n1 = cluster.node(1);
    let fine = "beacon = true\nlisten = [\n\"10.61.0.1\"]\ninterface = \"eth0\"\n[export]\npath = \"/data\"\n";
    n1.run(&format!("mkdir -p /etc/mfs && echo '{fine}' >/etc/mfs/mfsd.toml"));
    n1.run("mfsd --check");
    n1.kill_daemon();
    for (right, wrong, place, remedy) in [
        ("10.61.0.1", "10.61.0.77", ":3: ", "`ip address` shows those"),
        ("eth0", "wg0", ":4: ", "`ip link` shows those"),
        ("/data", "/no-such", ":6: ", "cannot serve /no-such"),
        ("/data", "/etc/passwd", ":6: ", "is not a directory"),
    ] {
        let text = fine.replace(right, wrong);
        n1.run(&format!("echo '{text}' >/etc/mfs/mfsd.toml"));
        for command in ["mfsd --check", "timeout 20 mfsd"] {
            let refused = n1.refused(command);
            let told = refused.contains(&format!("/etc/mfs/mfsd.toml{place}"));
            assert!(told && refused.contains(remedy), "{command}: {refused}");
        }
    }
}
