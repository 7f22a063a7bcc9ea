//! The processors that a node may use: a control group for each node, of either version.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::mounts;
use super::names::LabNode;
use super::state::Home;

/// Where this machine keeps its control groups of processors.
#[derive(Debug)]
enum Hierarchy {
    /// Version 1: the mount of the controller `cpu`.
    Separate(PathBuf),
    /// Version 2: the one mount of all controllers.
    Unified(PathBuf),
}

/// Length of the period that a quota is a part of, microseconds; the kernel's default.
const PERIOD: f64 = 100_000.0;

/// Gives the nodes of a lab a quota of `cpus` processors each.
pub(super) fn create(
    lab: &Home,
    nodes: impl Iterator<Item = LabNode>,
    cpus: f64,
) -> anyhow::Result<()> {
    let hierarchy = find()?;
    let top = hierarchy.of(lab)?;
    let make = |path: &Path| match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make the control group {}", path.display()))
        }
        _ => Ok(()),
    };
    let set = |path: PathBuf, value: &str| {
        fs::write(&path, value)
            .with_context(|| format!("cannot write {value:?} to {} (--cpus)", path.display()))
    };
    if let Hierarchy::Unified(root) = &hierarchy {
        set(root.join("cgroup.subtree_control"), "+cpu")?;
    }
    make(&top)?;
    if let Hierarchy::Unified(_) = &hierarchy {
        set(top.join("cgroup.subtree_control"), "+cpu")?;
    }
    let quota = (cpus * PERIOD).round();
    for node in nodes {
        let group = top.join(node.to_string());
        make(&group)?;
        match &hierarchy {
            Hierarchy::Separate(_) => {
                set(group.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
                set(group.join("cpu.cfs_quota_us"), &quota.to_string())?;
            }
            Hierarchy::Unified(_) => set(group.join("cpu.max"), &format!("{quota} {PERIOD}"))?,
        }
    }
    Ok(())
}

/// The group of a node.
pub(super) fn group(lab: &Home, node: LabNode) -> anyhow::Result<PathBuf> {
    Ok(find()?.of(lab)?.join(node.to_string()))
}

/// The file through which a process joins the group of a node.
pub(super) fn door(lab: &Home, node: LabNode) -> anyhow::Result<OwnedFd> {
    let path = group(lab, node)?.join("cgroup.procs");
    let file = File::options().write(true).open(&path);
    Ok(file.with_context(|| format!("cannot open {}", path.display()))?.into())
}

/// Removes the groups of a lab; no process is left in them.
pub(super) fn remove(lab: &Home) -> anyhow::Result<()> {
    let Ok(hierarchy) = find() else { return Ok(()) };
    let top = hierarchy.of(lab)?;
    let Ok(entries) = fs::read_dir(&top) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        let path = entry.path();
        fs::remove_dir(&path)
            .with_context(|| format!("cannot remove the control group {}", path.display()))?;
    }
    fs::remove_dir(&top)
        .with_context(|| format!("cannot remove the control group {}", top.display()))
}

/// Looks for the hierarchy. Machines with both have the processors in one of them only.
fn find() -> anyhow::Result<Hierarchy> {
    let mounts = mounts::of(None)?;
    let of_cpu = |options: &str| options.split(',').any(|option| option == "cpu");
    if let Some(mount) = mounts.iter().find(|m| m.kind == "cgroup" && of_cpu(&m.options)) {
        return Ok(Hierarchy::Separate(mount.point.clone()));
    }
    for mount in mounts.into_iter().filter(|mount| mount.kind == "cgroup2") {
        let offered =
            fs::read_to_string(mount.point.join("cgroup.controllers")).unwrap_or_default();
        if offered.split_ascii_whitespace().any(|controller| controller == "cpu") {
            return Ok(Hierarchy::Unified(mount.point));
        }
    }
    bail!(
        "--cpus needs the control group controller \"cpu\", which is mounted nowhere on this machine"
    )
}

// === impl Hierarchy ===

impl Hierarchy {
    /// The group of a lab. Labs of one name may live in several state directories.
    fn of(&self, lab: &Home) -> anyhow::Result<PathBuf> {
        let (Self::Separate(root) | Self::Unified(root)) = self;
        let state = fs::metadata(lab.state())?;
        Ok(root.join(format!("mfs-lab-{:x}-{:x}-{}", state.dev(), state.ino(), lab.name())))
    }
}
