//! One mount for one test: a tree in a temporary directory, served in this process, mounted for real.

pub(crate) mod map;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mfs::export::{Export, ExportKeys, ExportSettings, FdBudget};
use mfs::membership::{Member, MemberState, View};
use mfs::types::{NodeId, NodeName, NodeNumber};
use mfs_fuse::fs::local::{Changes, Local};
use mfs_fuse::fs::nodes::Ways;
use mfs_fuse::fs::{MountedFs, Terms};
use mfs_fuse::session::{self, KernelMount, Place};
use rustix::mount::MountFlags;

/// A mounted cluster of three nodes, of which `n1` is this one.
#[derive(Debug)]
pub(crate) struct Mounted {
    dir: tempfile::TempDir,
    mount: Option<KernelMount>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Whether the kernel does reads and writes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// Each read and write comes to mfs-fuse.
    Asked,
    /// Passthrough, where the kernel has it.
    Passed,
}

/// The tests that read and write run both ways.
pub(crate) const BOTH: [Data; 2] = [Data::Asked, Data::Passed];

impl Mounted {
    /// Mounts.
    pub(crate) fn new(data: Data) -> Self {
        let can_mount = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
        assert!(can_mount, "a real mount needs root and /dev/fuse: run it by scripts/test");
        let dir = tempfile::Builder::new().prefix("mfs-kernel-").tempdir().expect("a directory");
        for name in ["tree", "mnt"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        // Users other than root work in it too.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("to change the mode");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let terms = Terms { timeo: Duration::from_secs(20), hard: false };
        let fs = MountedFs::new(terms);
        let keys = ExportKeys { seal: [1; 32], inode_numbers: [2; 32] };
        let settings = ExportSettings::of(dir.path().join("tree"));
        let me = node(1);
        let export = Export::open(&settings, &keys, me, FdBudget::of_process()).expect("an export");
        let local = Local::new(export, Changes::Direct, terms, true);
        fs.nodes.set_ways(Ways { remote: None, local: Some((me, local)) });
        fs.nodes.set_view(view(me));
        let mountpoint = dir.path().join("mnt");
        let place = Place {
            source: OsStr::new("mfs-kernel-test"),
            mountpoint: &mountpoint,
            flags: MountFlags::NODEV,
            backing_files: data == Data::Passed,
            guarded: false,
        };
        let mount = KernelMount::begin(Arc::clone(&fs), &place, runtime.handle().clone());
        Self { dir, mount: Some(mount.expect("a mount")), runtime: Some(runtime) }
    }

    /// The top of the mount.
    pub(crate) fn top(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// A path below this node's directory in the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top().join("n1").join(name)
    }

    /// The same file beside the mount.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join("tree").join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        session::detach(&self.top());
        if let Some(mount) = self.mount.take() {
            mount.wait().expect("the session ends well");
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The node with this number.
pub(crate) fn node(number: u8) -> NodeId {
    NodeId::from_digest([number; 32])
}

fn view(me: NodeId) -> View {
    let member = |number: u8, state| Member {
        id: node(number),
        name: NodeName::parse(&format!("n{number}")).expect("a name"),
        number: NodeNumber::new(u16::from(number) + 300).expect("a number"),
        addresses: Vec::new(),
        state,
        since: 0,
        incarnation: 1,
        version: String::new(),
    };
    View::new(
        me,
        [
            member(1, MemberState::Alive),
            member(2, MemberState::Dead),
            member(3, MemberState::Suspect),
        ],
    )
}

/// Runs a shell command; its exit status and standard output.
pub(crate) fn sh(script: &str) -> (i32, String) {
    let output =
        Command::new("sh").args(["-c", script]).stderr(Stdio::inherit()).output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// Runs a shell command as another user, with these groups only.
pub(crate) fn sh_as(uid: u32, groups: &str, script: &str) -> (i32, String) {
    let (first, _) = groups.split_once(',').unwrap_or((groups, ""));
    let escaped = script.replace('\'', "'\\''");
    sh(&format!(
        "setpriv --reuid {uid} --regid {first} --groups {groups} --bounding-set -all sh -c '{escaped}' 2>&1"
    ))
}
