//! The end of nodes and of whole labs, also of those that were left half way.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

use super::cgroup;
use super::mounts;
use super::process::Process;
use super::state::{Home, Lock};

/// A node that is being switched off.
#[derive(Debug)]
struct Ending {
    init: Process,
    /// The control files of FUSE connections, as the node sees them, and which of them are its own.
    connections: Option<(std::os::fd::OwnedFd, Vec<u32>)>,
}

/// How long processes get to end after SIGKILL before their file systems are taken from under them.
const KILL_PATIENCE: Duration = Duration::from_secs(3);

/// How long they get after that. A process that survives this waits for a disk.
const ABORT_PATIENCE: Duration = Duration::from_secs(30);

/// `mfs lab down`.
pub(super) fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let held = home.lock()?;
    let nothing = !home.dir().exists()
        && Process::called(&home.keeper_words()).is_empty()
        && Process::called(&home.node_words()).is_empty();
    take_down(home, &held)?;
    if nothing {
        bail!("there is no lab {}: mfs lab ls lists all", home.name());
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends everything of the lab at `home` and removes what is kept of it, in whatever state it is.
pub(super) fn take_down(home: &Home, held: &Lock) -> anyhow::Result<()> {
    clear(home)?;
    home.remove_lock(held)?;
    Ok(())
}

/// As [`take_down`], but its lock stays.
pub(super) fn clear(home: &Home) -> anyhow::Result<()> {
    // By their words, not by what is written down: whoever was starting them may have been killed first.
    end(Process::called(&home.node_words()))?;
    let this = rustix::process::getpid().as_raw_nonzero().get();
    for keeper in Process::called(&home.keeper_words()) {
        if keeper.id() != this {
            keeper.signal(Signal::KILL)?;
            keeper.gone_within(KILL_PATIENCE);
        }
    }
    cgroup::remove(home)?;
    remove(&home.dir())
}

/// Ends nodes by their first processes, with every process inside.
pub(super) fn end(nodes: Vec<Process>) -> anyhow::Result<()> {
    let endings: Vec<Ending> = nodes.into_iter().map(Ending::of).collect();
    for ending in &endings {
        ending.init.signal(Signal::KILL).context("cannot end a node")?;
    }
    endings.iter().try_for_each(Ending::complete)
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

// === impl Ending ===

impl Ending {
    fn of(init: Process) -> Self {
        let connections = || {
            let path = format!("/proc/{}/root/sys/fs/fuse/connections", init.id());
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(path, flags, Mode::empty()).ok()?;
            let mounts = mounts::of(Some(init.id())).ok()?;
            let fuse = mounts.iter().filter(|mount| mount.kind.starts_with("fuse."));
            Some((dir, fuse.map(|mount| mount.minor).collect()))
        };
        let connections = connections();
        Self { init, connections }
    }

    /// Waits until all its processes have ended.
    fn complete(&self) -> anyhow::Result<()> {
        if self.init.gone_within(KILL_PATIENCE) {
            return Ok(());
        }
        self.abort_mounts();
        if self.init.gone_within(ABORT_PATIENCE) {
            return Ok(());
        }
        bail!(
            "process {} does not end after SIGKILL: see /proc/{0}/stack, then mfs lab down again",
            self.init.id()
        )
    }

    /// Answers everything that waits for a mount of the node with an error: a process of the mount that
    /// waits for the mount itself could not end otherwise.
    fn abort_mounts(&self) {
        let Some((dir, minors)) = &self.connections else { return };
        for minor in minors {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            // Gone by itself is as good.
            if let Ok(fd) = rustix::fs::openat(dir, format!("{minor}/abort"), flags, Mode::empty())
            {
                let _ = File::from(fd).write_all(b"1");
            }
        }
    }
}
