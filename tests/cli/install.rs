//! What a fresh machine sees first: the checks before a build, `make install` and `make uninstall`, and an
//! installed `mfs` that finds the other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mfs_tests::{Setup, eventually};

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs a line of shell in a mount namespace of its own.
fn apart(line: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-ec", line]).stdin(Stdio::null());
    command.output().expect("unshare starts")
}

/// A machine without /dev/fuse is told so, and what to do; nothing of its own making takes the device's place.
#[test]
fn a_missing_device_is_named_with_its_remedy() {
    // A stand-in for modprobe: what it loaded here would be loaded for the whole machine.
    let line = format!(
        "mount -t tmpfs none /mnt && cp -a /dev/null /dev/zero /dev/full /dev/urandom /dev/tty /mnt && \
         ln -s /proc/self/fd /mnt/fd && mount --move /mnt /dev && \
         mkdir /dev/bin && ln -s /bin/true /dev/bin/modprobe && export PATH=/dev/bin:$PATH && \
         result=0; {} demo || result=$?; ! test -e /dev/fuse && exit $result",
        project("scripts/preflight").display()
    );
    let output = apart(&line);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("MISSING  /dev/fuse") && said.contains("remedy: modprobe fuse"),
        "{said}"
    );
    assert!(said.ends_with("1 missing; nothing was started.\n"), "{said}");
}

/// updatedb is told to leave out the cluster, once, and no longer when mfs is gone.
#[test]
fn updatedb_skips_the_cluster() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("updatedb.conf");
    let before = "PRUNE_BIND_MOUNTS=\"yes\"\nPRUNEFS=\"NFS afs fuse.sshfs\"\n";
    fs::write(&file, before).unwrap();
    let script = project("scripts/installed");
    let call = |word: &str| {
        // With an empty /run: this is not the place to change the machine's own services.
        let (script, file) = (script.display(), file.display());
        let output = apart(&format!("mount -t tmpfs none /run && {script} {word} {file}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(file.to_string()).unwrap()
    };
    assert!(call("add").contains("PRUNEFS=\"fuse.mfs NFS afs fuse.sshfs\""));
    assert_eq!(call("add").matches("fuse.mfs").count(), 1);
    assert_eq!(call("remove"), before);
}

/// `mfs` in `bin` starts the `mfsd` in the `sbin` beside it, also for a root whose PATH has neither.
#[test]
fn an_installed_mfs_finds_the_daemon() {
    let lab = Setup::nodes(1).bare().up();
    let said = lab.node(1).run("PATH=/usr/bin:/bin /usr/local/bin/mfs init");
    assert!(said.contains("This machine is node n1"), "{said}");
}

/// The README's lines for three machines, as they stand there, make three nodes a cluster that sees itself.
#[test]
fn the_readmes_lines_make_three_machines_a_cluster() {
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let (_, part) = readme.split_once("## Three machines").unwrap();
    let (part, _) = part.split_once("A firewall").unwrap();
    let lines: Vec<_> = part
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(|line| line.split(" #").next().unwrap_or_default().trim().replace("sudo ", ""))
        .collect();
    let [build, init, join, mounting @ ..] = &lines[..] else { panic!("{lines:?}") };
    assert!(build.starts_with("make") && init.starts_with("mfs init"), "{lines:?}");
    assert_eq!(join, "mfs join TOKEN HOST");
    let lab = Setup::nodes(3).bare().up();
    let said = lab.node(1).run(init);
    let printed = said.lines().map(str::trim).find(|line| line.starts_with("mfs join ")).unwrap();
    for other in [2, 3] {
        lab.node(other).run(printed);
    }
    for node in lab.nodes() {
        // A laboratory's node has the line already.
        node.run(":>/etc/fstab");
        let (look, before) = mounting.split_last().unwrap();
        node.run(&before.join(" && "));
        let sees_all = || node.run(look) == "n1\nn2\nn3";
        eventually("every machine sees all three", Duration::from_secs(30), sees_all);
    }
}

/// A daemon that systemd cannot start says why, not systemd.
#[test]
fn a_daemon_that_ends_at_once_is_quoted_from_the_journal() {
    let stand_in = |name: &str, body: &str| {
        format!(
            "printf '#!/bin/sh\\n%s\\n' '{body}' >/run/bin/{name} && chmod +x /run/bin/{name} && "
        )
    };
    for (journal, expected) in [
        (
            "case \"$*\" in --sync) ;; \
             *--since=@[0-9]*_SYSTEMD_UNIT=mfsd.service) echo stopping; echo mfsd: port 7230 is taken;; *) exit 1;; esac",
            "mfsd was started by systemd and ended: mfsd: port 7230 is taken",
        ),
        ("true", "systemctl enable --now mfsd.service failed: Job for mfsd.service failed."),
    ] {
        let line = format!(
            "mount -t tmpfs none /run && mkdir -p /run/systemd/system /run/bin && {}{}PATH=/run/bin:$PATH {} init",
            stand_in("systemctl", "echo Job for mfsd.service failed. >&2; exit 1"),
            stand_in("journalctl", journal),
            mfs_tests::binary("mfs").display(),
        );
        let output = apart(&line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{said}");
    }
}

/// Writes the manual pages and completions that `make` writes.
fn generate(pages: &Path) {
    for what in ["man", "completions"] {
        let mut command = Command::new(mfs_tests::binary("mfs"));
        let status =
            command.args(["generate", what]).arg(pages.join(what)).status().expect("mfs starts");
        assert!(status.success());
    }
}

/// `make` for what was built and generated, as words of a shell.
fn make(pages: &Path) -> String {
    let built = mfs_tests::binary("mfs");
    format!(
        "make -s -C {} BUILT={} GENERATED={}",
        project("").display(),
        built.parent().expect("a file lies in a directory").display(),
        pages.display()
    )
}

/// Without systemd `make uninstall` ends the daemon that `mfs init` started; with it, systemd reads its units
/// again when the unit is gone, not before.
#[test]
fn what_is_uninstalled_runs_no_more() {
    let scratch = tempfile::tempdir().unwrap();
    generate(scratch.path());
    let make = make(scratch.path());
    let places = "PREFIX=/opt/mfs HELPERDIR=/opt/mfs/helper";
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    node.run(&format!("{make} {places} install && /opt/mfs/bin/mfs init && pgrep -x mfsd"));
    node.run(&format!(
        "{make} {places} uninstall && ! pgrep -x mfsd && test -z \"$(ls /opt/mfs/sbin)\""
    ));
    node.run(&format!(
        "{make} {places} install && mkdir -p /run/systemd/system /opt/bin && \
         printf '#!/bin/sh\\necho \"$1 $(test -e /opt/mfs/lib/systemd/system/mfsd.service && echo there)\" >>/opt/calls\\n' \
             >/opt/bin/systemctl && chmod +x /opt/bin/systemctl && PATH=/opt/bin:$PATH {make} {places} uninstall"
    ));
    assert_eq!(node.run("cat /opt/calls"), "disable there\ndaemon-reload ");
}

/// `make install` puts everything where its users look, and `make uninstall` takes all of it away.
#[test]
fn installed_and_taken_away() {
    let scratch = tempfile::tempdir().unwrap();
    let pages = scratch.path().join("generated");
    generate(&pages);
    let root = scratch.path().join("root");
    let make = |recipe: &str| {
        let line = format!("{} DESTDIR={} {recipe}", make(&pages), root.display());
        let output =
            Command::new("sh").args(["-c", &line]).env_remove("MAKEFLAGS").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "make {recipe}: {said}");
    };
    make("install");
    let installed = [
        "sbin/mount.mfs",
        "usr/local/bin/mfs",
        "usr/local/bin/mfs-fuse",
        "usr/local/sbin/mfsd",
        "usr/local/sbin/mfs-init",
        "usr/local/lib/systemd/system/mfsd.service",
        "usr/local/lib/tmpfiles.d/mfs.conf",
        "usr/local/share/man/man1/mfs-lab-up.1",
        "usr/local/share/man/man8/mount.mfs.8",
        "usr/local/share/doc/mfs/fstab.example",
        "usr/local/share/bash-completion/completions/mfs",
    ];
    for file in installed {
        assert!(root.join(file).symlink_metadata().is_ok(), "{file} is missing");
    }
    let unit = fs::read_to_string(root.join(installed[5])).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/sbin/mfsd\n"), "{unit}");
    make("uninstall");
    let left = Command::new("find").arg(&root).args(["-not", "-type", "d"]).output();
    assert_eq!(String::from_utf8(left.unwrap().stdout).unwrap(), "");
}
