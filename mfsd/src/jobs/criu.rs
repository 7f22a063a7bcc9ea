//! `Criu`: the program that makes images of running processes, and its calls (criu(8)).
//!
//! It is found when the daemon starts: `MFS_CRIU`, then PATH, then the private copy in the state directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use mfs::jobs::first_error;
use mfs::types::{Caller, NodeName};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::init::{beside_this, named};
use super::obstacles::Movable;
use super::timers;
use crate::arguments::CriuPlaces;

/// The oldest version that works on kernels of today: older ones do not know their vDSO.
const OLDEST: (u32, u32) = (4, 1);

/// Below the state directory: where set-up unpacks a private copy.
const PRIVATE: &str = "criu/criu";

/// Largest file without a name that goes along in the images, bytes.
const GHOST_LIMIT: u64 = 1 << 30;

/// How long it may take to say its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to try the kernel.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);

/// How long making images may take: as long as a disk takes for more memory than anybody moves.
const DUMP_PATIENCE: Duration = Duration::from_secs(900);

/// The log of a dump, beside the images.
pub(super) const DUMP_LOG: &str = "dump.log";

/// A CRIU that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Criu {
    program: PathBuf,
}

// === impl Criu ===

impl Criu {
    /// Looks for one.
    ///
    /// # Errors
    /// Says what was found, and what to install.
    pub(super) async fn find(places: &CriuPlaces, state_dir: &Path) -> anyhow::Result<Self> {
        let mut found = None;
        for program in candidates(places, state_dir) {
            match version(&program).await {
                Some(version) if version >= OLDEST => {
                    check(&program).await?;
                    return Ok(Self { program });
                }
                Some((major, minor)) => found = found.or(Some((program, major, minor))),
                None => {}
            }
        }
        let (major, minor) = OLDEST;
        let remedy = format!(
            "install CRIU {major}.{minor} or later (Debian 13: apt install criu), name it by MFS_CRIU, or unpack a \
             private one by scripts/criu {}, then restart mfsd",
            state_dir.join("criu").display()
        );
        match found {
            Some((program, found, part)) => {
                bail!("{} is version {found}.{part}, which is too old: {remedy}", program.display())
            }
            None => bail!("there is no CRIU, which moves jobs: {remedy}"),
        }
    }

    /// The program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Stops all processes of a namespace and makes images of them; they stay stopped.
    ///
    /// # Errors
    /// In CRIU's words, why it could not. The processes run on.
    pub(super) async fn dump(
        &self,
        first: u32,
        images: &Path,
        movable: Movable,
        home: &NodeName,
        user: &Caller,
    ) -> anyhow::Result<()> {
        let mut command = self.called_for(home, user)?;
        command.arg("dump").arg("--tree").arg(first.to_string());
        command.arg("--images-dir").arg(images).args(["-o", DUMP_LOG, "-v2"]);
        command.args(["--manage-cgroups=ignore", "--leave-stopped", "--file-locks"]);
        command.args(["--external", "mnt[/]:root", "--external", "mnt[/mfs]:mfs"]);
        if movable.speaks_tcp {
            command.arg("--tcp-established");
        }
        command.arg("--ghost-limit").arg(GHOST_LIMIT.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // With a group of its own, all of it can be ended.
        command.process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        let Ok(ended) = tokio::time::timeout(DUMP_PATIENCE, child.wait()).await else {
            let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            group.map(|group| kill_process_group(group, Signal::KILL));
            bail!("it takes too long");
        };
        if ended?.success() {
            return timers::mend(images).context("its timers cannot be mended");
        }
        let log = fs::read_to_string(images.join(DUMP_LOG)).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(20).collect();
        tracing::debug!("CRIU has said, backwards: {}", last.join("; "));
        bail!("{}", first_error(&log))
    }

    /// A call of it in the name of a job's user: with the real ids of the user, and root in effect. So it may look at
    /// the user's files on nodes that do not trust this node's root, and at the limits of the user's
    /// processes where root lacks CAP_SYS_RESOURCE (prlimit(2)).
    fn called_for(&self, home: &NodeName, user: &Caller) -> anyhow::Result<Command> {
        let mut command = Command::new(beside_this()?);
        command.arg("call").args(named(home, user)).arg(&self.program);
        Ok(command)
    }
}

fn candidates(places: &CriuPlaces, state_dir: &Path) -> Vec<PathBuf> {
    if let Some(named) = &places.named {
        return vec![named.clone()];
    }
    let usual = || OsString::from("/usr/sbin:/usr/bin:/sbin:/bin");
    let path = places.path.clone().unwrap_or_else(usual);
    let in_path = std::env::split_paths(&path).map(|directory| directory.join("criu"));
    in_path.chain([state_dir.join(PRIVATE)]).filter(|program| program.is_file()).collect()
}

async fn version(program: &Path) -> Option<(u32, u32)> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_PATIENCE, command.output()).await.ok()?.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Has it try this kernel. What it finds it keeps (/run/criu.kdat), so that later calls need not try again.
async fn check(program: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.arg("check").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(CHECK_PATIENCE, command.output()).await;
    let output = output.context("CRIU does not say whether it works on this kernel")??;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{} does not work on this kernel: {}", program.display(), first_error(&said))
}

fn parse_version(said: &str) -> Option<(u32, u32)> {
    let line = said.lines().find_map(|line| line.strip_prefix("Version:"))?;
    let mut parts = line.trim().split(['.', '-']);
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next().and_then(|part| part.parse().ok()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood() {
        assert_eq!(parse_version("Version: 4.1.1\n"), Some((4, 1)));
        assert_eq!(parse_version("Version: 5\nGitID: v5\n"), Some((5, 0)));
        assert_eq!(parse_version("criu: not found"), None);
    }
}
