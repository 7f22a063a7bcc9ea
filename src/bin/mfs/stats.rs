//! `mfs stats`: the figures of this node's daemon and mounts, or of another node's daemon.
//!
//! A daemon is asked over its socket. A mount answers itself: its root has an attribute that reads as its
//! figures, so that no third party need know which mounts exist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use mfs::net::local::{LocalClient, NodeStats};
use mfs::telemetry::{Snapshot, Value};
use serde::Serialize;

use crate::out;

/// The attribute of a mount's root that reads as the figures of the mount.
const ATTRIBUTE: &str = "mfs.stats";

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs stats\n  mfs stats --node berta --all\n  mfs stats --json\n  mfs stats --prometheus"
)]
pub(crate) struct Args {
    /// Another node, by name: its daemon's figures
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// As JSON
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,
    /// In the Prometheus text format; of the daemon only
    #[arg(long)]
    prometheus: bool,
    /// Figures that are 0, too
    #[arg(long)]
    all: bool,
    /// Where mfsd has its socket
    #[arg(long, value_name = "DIR", default_value = mfs::config::paths::RUNTIME)]
    runtime: PathBuf,
}

/// What is shown, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Figures {
    daemon: Option<Daemon>,
    mounts: Vec<Mount>,
}

/// The figures of a daemon.
#[derive(Debug, Serialize)]
struct Daemon {
    node: String,
    version: String,
    metrics: Snapshot,
}

/// The figures of a mount of this machine.
#[derive(Debug, Serialize)]
struct Mount {
    mountpoint: PathBuf,
    metrics: Snapshot,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let figures = gather(&args)?;
    let text = if args.json {
        serde_json::to_string_pretty(&figures)? + "\n"
    } else if args.prometheus {
        let daemon = figures.daemon.context("mfsd is not running: systemctl start mfsd")?;
        daemon.metrics.to_prometheus()
    } else {
        figures.to_text(args.all)
    };
    out::print(&text)
}

/// Asks the daemon and, for this node, the mounts.
fn gather(args: &Args) -> anyhow::Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        LocalClient::connect(&args.runtime).await?.stats(args.node.as_deref()).await
    });
    if args.node.is_some() {
        return Ok(Figures { daemon: Some(asked?.into()), mounts: Vec::new() });
    }
    let mounts = mounts()?;
    match asked {
        Ok(stats) => Ok(Figures { daemon: Some(stats.into()), mounts }),
        // A mount outlives its daemon, and its figures then say why something hangs.
        Err(error) if !mounts.is_empty() => {
            out::tell(format_args!("mfs: {error}"));
            Ok(Figures { daemon: None, mounts })
        }
        Err(error) => Err(error.into()),
    }
}

/// The figures of the mounts that this process sees and that answer.
fn mounts() -> anyhow::Result<Vec<Mount>> {
    let figures = mountpoints_of_this_machine()?.into_iter().filter_map(|mountpoint| {
        let metrics = figures_of(&mountpoint)?;
        Some(Mount { mountpoint, metrics })
    });
    Ok(figures.collect())
}

/// Where mfs is mounted, as this process sees it.
pub(crate) fn mountpoints_of_this_machine() -> anyhow::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot list the mounts")?;
    Ok(mountpoints(&table))
}

/// The mount points of whole mfs mounts in a mountinfo table (proc(5)).
fn mountpoints(table: &str) -> Vec<PathBuf> {
    let ours =
        |line: &&str| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("fuse.mfs "));
    // Not what shows a part alone, as a job's root does.
    let point = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        fields.next().filter(|root| *root == "/")?;
        fields.next().map(unescaped)
    };
    table.lines().filter(ours).filter_map(point).collect()
}

/// A path of the table: space, tab, newline and backslash are written as three octal digits.
fn unescaped(word: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(plain.iter().fold(word.to_owned(), |w, (code, text)| w.replace(code, text)))
}

/// What the mount says of itself; `None` if it does not answer, or hides below another mount.
fn figures_of(mountpoint: &Path) -> Option<Snapshot> {
    // The kernel gives an attribute 64 KiB at most (XATTR_SIZE_MAX).
    let mut buffer = vec![0; 65_536];
    let size = rustix::fs::getxattr(mountpoint, ATTRIBUTE, &mut buffer[..]).ok()?;
    serde_json::from_slice(buffer.get(..size)?).ok()
}

// === impl Daemon ===

impl From<NodeStats> for Daemon {
    fn from(stats: NodeStats) -> Self {
        Self { node: stats.node, version: stats.version, metrics: stats.snapshot }
    }
}

// === impl Figures ===

impl Figures {
    /// For people: a block for the daemon and one for each mount, a line for each figure.
    fn to_text(&self, all: bool) -> String {
        let mut text = String::new();
        if let Some(daemon) = &self.daemon {
            text += &format!("mfsd of {} (version {})\n", daemon.node, daemon.version);
            text += &block(&daemon.metrics, all);
        }
        for mount in &self.mounts {
            text += &format!("mount at {}\n", mount.mountpoint.display());
            text += &block(&mount.metrics, all);
        }
        text
    }
}

/// The lines of one process's figures.
fn block(metrics: &Snapshot, all: bool) -> String {
    let mut text = String::new();
    for (name, value) in &metrics.0 {
        match value {
            Value::Single(figure) if *figure != 0 || all => {
                text += &format!("  {name:<44} {figure:>12}\n");
            }
            Value::Single(_) => {}
            Value::ByLabel(figures) => {
                for (label, figure) in figures.iter().filter(|(_, figure)| **figure != 0 || all) {
                    text += &format!("  {:<44} {figure:>12}\n", format!("{name} {label}"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_mfs_are_found_whatever_their_names() {
        let table = "\
            21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            90 21 0:50 / /mfs rw,nosuid,nodev - fuse.mfs mfs rw,user_id=0\n\
            91 21 0:51 / /mnt/a\\040b\\134c rw shared:3 master:1 - fuse.mfs mfs rw\n\
            92 21 0:52 / /other rw - fuse.sshfs fuse.mfs rw\n\
            broken\n";
        assert_eq!(mountpoints(table), [PathBuf::from("/mfs"), PathBuf::from("/mnt/a b\\c")]);
    }

    #[test]
    fn figures_are_lines() {
        let metrics: Snapshot =
            serde_json::from_str(r#"{"mfs_a":3,"mfs_b":0,"mfs_c":{"Read":2,"Open":1}}"#).unwrap();
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let short = ["mfs_a", "3", "mfs_c", "Open", "1", "mfs_c", "Read", "2"];
        assert_eq!(words(block(&metrics, false)), short);
        assert!(block(&metrics, true).contains("mfs_b"));
    }
}
