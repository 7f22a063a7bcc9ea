//! The view: the home's tree as the root of a mount namespace, with the file systems that every process
//! needs on the four mount points that a home offers: `proc`, `sys`, `dev` and `mfs`.
//!
//! Nothing is created in the home's tree, and nothing of the machine's own mounts remains below the root.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use mfs_init::Setup;
use rustix::fs::{AtFlags, CWD, FileType, Mode, mkdir};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use crate::device;
use crate::refusal::{OrRefuse, Refusal};
use crate::sys;

/// Makes the view of `setup` the root of this process, which must have a mount namespace of its own.
pub(super) fn enter(setup: &Setup) -> Result<(), Refusal> {
    // First of all: what is mounted from here on would be mounted on the machine, too.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .or_refuse("part from the machine's mounts")?;
    let view = part(&setup.view)?;
    let cluster = part(&setup.cluster)?;
    put(&view, &setup.scratch)?;
    leave(&setup.scratch)?;
    drop(view);
    // All names are looked up below the new root from here on: a link of the home leads nowhere else.
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    place("proc", "/proc", plain, None)?;
    place("sysfs", "/sys", plain | MountFlags::RDONLY, None)?;
    place("tmpfs", "/dev", MountFlags::NOSUID, Some(c"mode=755"))?;
    device::fill()?;
    let terminals = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    place("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(terminals))?;
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    place("tmpfs", "/dev/shm", shared, Some(c"mode=1777"))?;
    offered("/mfs")?;
    put(&cluster, Path::new("/mfs"))?;
    if setup.local_tmp {
        place("tmpfs", "/tmp", shared, Some(c"mode=1777"))?;
    }
    Ok(())
}

/// Mounts the home's tree and the cluster's below `scratch`, in this namespace alone, for a job that is to be
/// restored; answers where.
pub(super) fn prepare(
    view: &Path,
    cluster: &Path,
    scratch: &Path,
) -> Result<[PathBuf; 2], Refusal> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .or_refuse("part from the machine's mounts")?;
    let copies = [part(view)?, part(cluster)?];
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", scratch, "tmpfs", plain, None).or_refuse("have a place for its mounts")?;
    let places = [scratch.join("view"), scratch.join("mfs")];
    for (copy, place) in copies.iter().zip(&places) {
        mkdir(place, Mode::from_raw_mode(0o700)).or_refuse("have a place for its mounts")?;
        put(copy, place)?;
    }
    Ok(places)
}

/// Makes a mount the root of this namespace, and leaves all that was mounted before.
pub(super) fn leave(root: &Path) -> Result<(), Refusal> {
    // Two steps that need no directory for the old root, which would have to be made in the home's tree:
    // pivot_root(2), "pivot_root(".", ".")".
    chdir(root)
        .and_then(|()| pivot_root(".", "."))
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .and_then(|()| chdir("/"))
        .or_refuse("make the home's tree its root")
}

/// A copy of what is mounted there, of this namespace alone, in which no program and no device gives
/// anybody more than they have.
fn part(tree: &Path) -> Result<OwnedFd, Refusal> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let what = format_args!("take {} from this node", tree.display());
    let copy = open_tree(CWD, tree, flags).or_refuse(what)?;
    sys::tame(&copy).or_refuse(what)?;
    Ok(copy)
}

/// Mounts a copy.
fn put(copy: &OwnedFd, target: &Path) -> Result<(), Refusal> {
    move_mount(copy, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .or_refuse(format_args!("mount on {}", target.display()))
}

/// Mounts a file system of the kernel's.
fn place(
    kind: &str,
    target: &str,
    flags: MountFlags,
    options: Option<&CStr>,
) -> Result<(), Refusal> {
    offered(target)?;
    mount(kind, target, kind, flags, options)
        .or_refuse(format_args!("mount a {kind} on {target} of its home"))
}

/// Refuses a home that does not offer this mount point.
fn offered(target: &str) -> Result<(), Refusal> {
    match rustix::fs::statat(CWD, target, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_dir() => Ok(()),
        Ok(_) => Err(Refusal::new(format!(
            "the job cannot mount on {target} of its home: it is no directory"
        ))),
        Err(error) => {
            Err(Refusal::new(format!("the job cannot mount on {target} of its home: {error}")))
        }
    }
}
