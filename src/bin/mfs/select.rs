//! `mfs select`: which node the entry `selected` of a mount points to, for a shell and what it starts.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args as Arguments;
use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;

use crate::{out, stats};

/// Arguments of `mfs select`.
#[derive(Debug, Arguments)]
#[command(
    after_help = "Examples:\n  mfs select berta     (/mfs/selected is /mfs/berta, for this shell)\n  mfs select           (prints what is selected)\n  mfs select --clear"
)]
pub(crate) struct Args {
    /// The node, by name or number; without it the present one is printed
    node: Option<String>,
    /// Take the selection back: /mfs/selected is this node again
    #[arg(long, conflicts_with = "node")]
    clear: bool,
    /// Select for this process and its children, instead of the shell that calls
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// The attribute of a mount's root that takes a selection: `PID NODE`, or `PID` to clear it.
const ATTRIBUTE: &str = "system.mfs.selected";

/// There, the parent of who asks.
const PARENT: u32 = 0;

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mounts = stats::mountpoints_of_this_machine()?;
    let Some(first) = mounts.first() else {
        bail!("no mfs is mounted here: mount /mfs");
    };
    let node = match &args.node {
        None if !args.clear => {
            return out::print(&(target(first, "selected")? + "\n"));
        }
        None => String::new(),
        Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => target(first, number)?,
        Some(name) => name.clone(),
    };
    // In a job, the number of a process is another than the mount's.
    let pid = args.pid.unwrap_or(PARENT);
    let value = format!("{pid} {node}");
    for mount in &mounts {
        setxattr(mount, ATTRIBUTE, value.as_bytes(), XattrFlags::empty()).map_err(|error| {
            anyhow::anyhow!("{}: {}", mount.display(), reason(error, pid, &node))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The node that a link at the top of a mount points to.
fn target(mount: &Path, name: &str) -> anyhow::Result<String> {
    let link = mount.join(name);
    let target = std::fs::read_link(&link)
        .with_context(|| format!("{} points to no node; mfs nodes shows them", link.display()))?;
    Ok(target.display().to_string())
}

fn reason(error: Errno, pid: u32, node: &str) -> String {
    match error {
        Errno::NOENT => format!("there is no node {node:?}; mfs nodes shows them"),
        Errno::INVAL => format!("{node:?} cannot be the name of a node; mfs nodes shows them"),
        Errno::SRCH => format!("there is no process {pid}"),
        Errno::PERM => format!("process {pid} belongs to another user"),
        Errno::HOSTDOWN => "no cluster is known: systemctl start mfsd".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        assert!(reason(Errno::NOENT, 7, "n9").contains("mfs nodes"));
        assert!(reason(Errno::SRCH, 7, "n9").contains('7'));
        assert!(reason(Errno::HOSTDOWN, 7, "n9").contains("systemctl"));
    }
}
