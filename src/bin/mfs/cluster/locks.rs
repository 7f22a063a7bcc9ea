//! `mfs locks`: the locks of applications at a node, held for its peers and waited for.

use std::process::ExitCode;

use comfy_table::Table;
use mfs_proto::v1;
use serde::Serialize;

use super::nodes::table;
use super::why::{Holder, length, number};
use super::{Daemon, refused};
use crate::out::{print, print_json};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs locks\n  mfs locks --node n2\n  mfs locks --json\n\n\
                  Shown are the locks that mfsd holds for mounts. Those that processes of the node took on its \
                  files themselves are in lslocks(8). Root sees all, others those on files that they can reach.")]
pub(crate) struct Args {
    /// Another node, by name
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// A lock, in the form of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Lock {
    #[serde(flatten)]
    holder: Holder,
    pid: u32,
    /// The owner's number in its session; 0 for flock.
    owner: u64,
    family: &'static str,
    kind: &'static str,
    start: u64,
    /// Absent: to the end of any file.
    end: Option<u64>,
    waits: bool,
    age_ms: u64,
    ino: u64,
    path: Option<String>,
}

/// Shows them.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    let request = v1::NodeLocksRequest { node: args.node.unwrap_or_default() };
    let reply = mfsd.node_locks(request).await.map_err(refused)?.into_inner();
    let locks: Vec<_> = reply.locks.into_iter().map(Lock::from).collect();
    if args.json {
        return print_json(&serde_json::json!({ "node": reply.node, "locks": locks }));
    }
    if locks.is_empty() {
        return print(&format!("mfsd of {} holds no locks.\n", reply.node));
    }
    print(&format!("{}\n", lock_table(&locks, true)))
}

/// A line for each; with the file where they are not all of one.
pub(super) fn lock_table(locks: &[Lock], files: bool) -> Table {
    let mut header = vec!["LOCK OF", "PID", "STATE", "KIND", "RANGE", "SINCE"];
    if files {
        header.push("FILE");
    }
    let mut table = table(&header);
    for lock in locks {
        let mut cells = vec![
            lock.holder.to_string(),
            number(lock.pid),
            if lock.waits { "waits" } else { "held" }.to_owned(),
            format!("{} {}", lock.family, lock.kind),
            lock.range(),
            length(lock.age_ms),
        ];
        if files {
            cells.push(lock.path.clone().unwrap_or_else(|| format!("inode {}", lock.ino)));
        }
        table.add_row(cells);
    }
    table
}

// === impl Lock ===

impl From<v1::LockEntry> for Lock {
    fn from(lock: v1::LockEntry) -> Self {
        let path = String::from_utf8_lossy(&lock.path).into_owned();
        Self {
            family: match lock.family() {
                v1::LockFamily::Flock => "flock",
                v1::LockFamily::Range | v1::LockFamily::Unspecified => "fcntl",
            },
            kind: match lock.kind() {
                v1::LockKind::Shared => "shared",
                v1::LockKind::Exclusive => "exclusive",
                v1::LockKind::Unlock | v1::LockKind::Unspecified => "none",
            },
            pid: lock.pid,
            owner: lock.owner,
            start: lock.start,
            end: Some(lock.end).filter(|end| *end != u64::MAX),
            waits: lock.waits,
            age_ms: lock.age_ms,
            ino: lock.ino,
            path: Some(path).filter(|path| !path.is_empty()),
            holder: lock.holder.into(),
        }
    }
}

impl Lock {
    fn range(&self) -> String {
        match (self.start, self.end) {
            (0, None) => "all".to_owned(),
            (start, None) => format!("{start} to the end"),
            (start, Some(end)) => format!("{start} to {end}"),
        }
    }
}
