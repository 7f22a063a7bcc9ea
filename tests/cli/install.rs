//! What a fresh machine sees first: the checks before a build, `make install` and `make uninstall`, and an
//! installed `mfs` that finds the other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mfs_tests::Setup;

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

/// `make install` puts everything where its users look, and `make uninstall` takes all of it away.
#[test]
fn installed_and_taken_away() {
    let scratch = tempfile::tempdir().unwrap();
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let built = mfs_tests::binary("mfs");
    let built = built.parent().unwrap();
    let pages = scratch.path().join("generated");
    for what in ["man", "completions"] {
        let status = std::process::Command::new(built.join("mfs"))
            .args(["generate", what])
            .arg(pages.join(what))
            .status()
            .unwrap();
        assert!(status.success());
    }
    let root = scratch.path().join("root");
    let make = |recipe: &str| {
        let output = std::process::Command::new("make")
            .args(["-s", "-C", project, recipe])
            .arg(format!("BUILT={}", built.display()))
            .arg(format!("GENERATED={}", pages.display()))
            .arg(format!("DESTDIR={}", root.display()))
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "make {recipe}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    make("install");
    let installed = [
        "sbin/mount.mfs",
        "usr/local/bin/mfs",
        "usr/local/bin/mfs-fuse",
        "usr/local/sbin/mfsd",
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
    let unit = std::fs::read_to_string(root.join(installed[4])).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/sbin/mfsd\n"), "{unit}");
    make("uninstall");
    let left = std::process::Command::new("find").arg(&root).args(["-not", "-type", "d"]).output();
    assert_eq!(String::from_utf8(left.unwrap().stdout).unwrap(), "");
}
