//! What is kept of a lab on disk: one directory, `STATE/NAME`, and a lock file beside it.
//!
//! ```text
//! STATE/NAME.lock          held by whoever changes the lab
//! STATE/NAME/lab.json      how it was brought up
//! STATE/NAME/complete      it was brought up to the end
//! STATE/NAME/keeper        the process that holds the switch
//! STATE/NAME/n1/init       the first process of the node
//! STATE/NAME/layers/n1/     what the node wrote over the machine's tree
//! STATE/NAME/n1/data/      /data of the node
//! STATE/NAME/n1/mfs/       /var/lib/mfs of the node
//! STATE/NAME/n1/root/      where the node's root is put together; empty outside its namespace
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::names::{LabName, LabNode};
use super::process::{Process, Stamp};

/// Where labs live when nothing else is said.
pub(super) const DEFAULT_STATE: &str = "/var/lib/mfs-lab";

/// A lab by its place, whether it exists or not.
#[derive(Debug, Clone)]
pub(super) struct Home {
    state: PathBuf,
    name: LabName,
}

/// A lab that exists.
#[derive(Debug, Clone)]
pub(super) struct Lab {
    pub home: Home,
    pub settings: Settings,
}

/// How a lab was brought up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Number of nodes.
    pub nodes: u16,
    /// Processors that a node may use, if that is limited.
    pub cpus: Option<f64>,
    /// The connections between nodes are not encrypted.
    pub plaintext: bool,
    /// Fourth field of the nodes' fstab line.
    pub mount_options: String,
    /// Nodes without a cluster: neither mfsd nor /mfs.
    pub bare: bool,
    /// When, seconds since 1970.
    pub created: u64,
}

/// The right to change a lab; given back when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

// === impl Home ===

impl Home {
    /// The lab `name` below `state`, which is made if it is missing.
    pub(super) fn new(state: &Path, name: LabName) -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("mfs lab makes namespaces and mounts and needs root: sudo mfs lab ...");
        }
        let make = || fs::DirBuilder::new().recursive(true).mode(0o700).create(state);
        let refused = || format!("cannot use {} for the state of labs", state.display());
        make().with_context(refused)?;
        let state = state.canonicalize().with_context(refused)?;
        // These would have another meaning among the words of an overlay mount.
        if state.as_os_str().as_encoded_bytes().iter().any(|byte| b",:\\\"\n".contains(byte)) {
            bail!(
                "{}: a path with ',', ':', '\"' or '\\' cannot be mounted as an overlay: choose another --state",
                state.display()
            );
        }
        Ok(Self { state, name })
    }

    /// The lab's name.
    pub(super) fn name(&self) -> &LabName {
        &self.name
    }

    /// The directory of all labs.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// The lab's directory.
    pub(super) fn dir(&self) -> PathBuf {
        self.state.join(self.name.as_str())
    }

    /// The directory of one node.
    pub(super) fn node_dir(&self, node: LabNode) -> PathBuf {
        self.dir().join(node.to_string())
    }

    /// The arguments of the process that keeps this lab.
    pub(super) fn keeper_words(&self) -> Vec<OsString> {
        let state = self.state.clone().into_os_string();
        vec!["lab".into(), "--state".into(), state, "keeper".into(), self.name.as_str().into()]
    }

    /// The arguments of the processes that start and lead nodes, before the name of the node.
    pub(super) fn node_words(&self) -> Vec<OsString> {
        let state = self.state.clone().into_os_string();
        vec!["lab".into(), "--state".into(), state, "node".into(), self.name.as_str().into()]
    }

    /// Waits for the right to change the lab.
    pub(super) fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.lock_path();
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
                .with_context(|| format!("cannot lock {}", path.display()))?;
            // `lab down` removes the file while it holds it; then this is a lock on nothing.
            let held = file.metadata()?.ino();
            if fs::metadata(&path).is_ok_and(|found| found.ino() == held) {
                return Ok(Lock { _file: file });
            }
        }
    }

    /// Removes the lock's file, at the end of the lab.
    pub(super) fn remove_lock(&self, _held: &Lock) -> io::Result<()> {
        fs::remove_file(self.lock_path())
    }

    /// The names of all labs below the same directory.
    pub(super) fn siblings(&self) -> anyhow::Result<Vec<LabName>> {
        let refused = || format!("cannot list {}", self.state.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.state).with_context(refused)? {
            let name = entry.with_context(refused)?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The same place for another lab.
    pub(super) fn of(&self, name: LabName) -> Self {
        Self { state: self.state.clone(), name }
    }

    /// Whether the lab was brought up to the end.
    pub(super) fn is_complete(&self) -> bool {
        self.dir().join("complete").exists()
    }

    /// Remembers that it was.
    pub(super) fn set_complete(&self) -> anyhow::Result<()> {
        let path = self.dir().join("complete");
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    }

    /// The process that keeps the lab, if it runs.
    pub(super) fn keeper(&self) -> Option<Process> {
        read_stamp(&self.dir().join("keeper"))
    }

    /// Remembers it.
    pub(super) fn set_keeper(&self, keeper: &Process) -> anyhow::Result<()> {
        write_stamp(&self.dir().join("keeper"), keeper)
    }

    /// The first process of a node, if it runs.
    pub(super) fn init(&self, node: LabNode) -> Option<Process> {
        read_stamp(&self.node_dir(node).join("init"))
    }

    /// Remembers it.
    pub(super) fn set_init(&self, node: LabNode, init: &Process) -> anyhow::Result<()> {
        write_stamp(&self.node_dir(node).join("init"), init)
    }

    fn lock_path(&self) -> PathBuf {
        self.state.join(format!("{}.lock", self.name))
    }
}

fn read_stamp(path: &Path) -> Option<Process> {
    let stamp: Stamp = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Process::of(stamp)
}

fn write_stamp(path: &Path, process: &Process) -> anyhow::Result<()> {
    let stamp = process.stamp().context("the process ended at once")?;
    fs::write(path, serde_json::to_vec(&stamp)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

// === impl Lab ===

impl Lab {
    /// The lab at this place; an error that says what to do when there is none.
    pub(super) fn find(home: Home) -> anyhow::Result<Self> {
        let path = home.dir().join("lab.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = home.name();
                bail!(
                    "there is no lab {name}: mfs lab up --name {name} makes it, mfs lab ls lists all"
                );
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let settings = serde_json::from_slice(&text).with_context(|| {
            format!("{} is damaged: mfs lab down --name {}", path.display(), home.name())
        })?;
        Ok(Self { home, settings })
    }

    /// Writes down how the lab was brought up; its directory exists.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let path = self.home.dir().join("lab.json");
        fs::write(&path, serde_json::to_vec_pretty(&self.settings)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Its nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = LabNode> + Clone + use<> {
        LabNode::all(self.settings.nodes)
    }

    /// Refuses a node that the lab does not have.
    pub(super) fn has(&self, node: LabNode) -> anyhow::Result<()> {
        if node.place() <= self.settings.nodes {
            return Ok(());
        }
        bail!(
            "lab {} has no {node}: its nodes are n1 to n{}",
            self.home.name(),
            self.settings.nodes
        )
    }

    /// The first process of a node that is on.
    pub(super) fn running(&self, node: LabNode) -> anyhow::Result<Process> {
        self.has(node)?;
        let name = self.home.name();
        self.home
            .init(node)
            .with_context(|| format!("{node} is off: mfs lab start --name {name} {node}"))
    }

    /// The process that holds the switch.
    pub(super) fn keeper(&self) -> anyhow::Result<Process> {
        let name = self.home.name();
        self.home.keeper().with_context(|| {
            format!(
                "lab {name} has lost its switch (its keeper was killed): mfs lab down --name {name}"
            )
        })
    }
}
