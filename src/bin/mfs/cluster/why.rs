//! `mfs why`: who holds what on a file, and what is waited for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use mfs::types::Leases;
use mfs_proto::v1;
use serde::Serialize;
use tokio::sync::oneshot;

use super::locks::{Lock, lock_table};
use super::nodes::table;
use super::{Daemon, refused, span};
use crate::out::{print, print_json};
use crate::stats::mountpoints_of_this_machine;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs why /mfs/n2/srv/mail/inbox\n  mfs why /srv/mail/inbox --json\n\n\
                  A path below /mfs is asked of the node whose file it is, any other of this node. Whoever may \
                  not search the way to a file is told nothing of it."
)]
pub(crate) struct Args {
    /// The file: below /mfs, or of this node itself
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Where a file is: on which node, empty for this one, and how that is asked for it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    node: String,
    path: PathBuf,
}

/// What is held, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Held {
    node: String,
    path: String,
    ino: u64,
    opens: Vec<Open>,
    leases: Vec<Lease>,
    changes: Vec<Change>,
    locks: Vec<Lock>,
    /// No change is made for so long at most.
    grace_ms: Option<u64>,
}

/// Whose something is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Holder {
    /// Absent for one that is no member any more, or whose session has ended.
    node: Option<String>,
    /// A mount of the file's own node.
    own: bool,
    /// Its session has been without a connection for so long.
    away_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Open {
    #[serde(flatten)]
    holder: Holder,
    pid: u32,
    uid: u32,
    reads: bool,
    writes: bool,
    age_ms: u64,
}

#[derive(Debug, Serialize)]
struct Lease {
    #[serde(flatten)]
    holder: Holder,
    leases: Vec<String>,
    age_ms: Option<u64>,
    asked_ms: Option<u64>,
    silent_ms: u64,
    left_ms: u64,
}

#[derive(Debug, Serialize)]
struct Change {
    #[serde(flatten)]
    holder: Holder,
    operation: String,
    pid: u32,
    uid: u32,
    leases: Vec<String>,
    waits_ms: Option<u64>,
}

/// How long it may take to look the path up: longer, and its node does not answer.
const LOOKUP: Duration = Duration::from_secs(5);

/// Shows it.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    let whole = resolve(args.path.clone()).await?;
    let place = Place::of(&whole, &mountpoints_of_this_machine()?)?;
    let path = Bytes::copy_from_slice(place.path.as_os_str().as_encoded_bytes());
    let request = v1::WhyRequest { node: place.node.clone(), path };
    let reply = mfsd.why(request).await.map_err(refused)?.into_inner();
    let held = Held::new(reply, &place.path);
    if args.json { print_json(&held) } else { print(&held.to_text()) }
}

/// The path without links. On a thread of its own, which is left behind if a node does not answer.
async fn resolve(path: PathBuf) -> anyhow::Result<PathBuf> {
    let (answer, answered) = oneshot::channel();
    let asked = path.clone();
    std::thread::spawn(move || answer.send(std::fs::canonicalize(asked)));
    let shown = path.display();
    let found = tokio::time::timeout(LOOKUP, answered).await.with_context(|| {
        format!(
            "{shown} could not be looked up within {} s: its node does not answer. `mfs nodes` shows how \
             it is seen; on the node itself, its own path can be asked for",
            LOOKUP.as_secs()
        )
    })?;
    found?.with_context(|| format!("{shown} cannot be looked up"))
}

// === impl Place ===

impl Place {
    /// Where the file of a path without links is.
    fn of(path: &Path, mounts: &[PathBuf]) -> anyhow::Result<Self> {
        let below = mounts.iter().filter_map(|mount| path.strip_prefix(mount).ok());
        // Of mounts in mounts, the innermost.
        let Some(below) = below.min_by_key(|below| below.components().count()) else {
            return Ok(Self { node: String::new(), path: path.to_owned() });
        };
        let mut names = below.components();
        let node = names.next().with_context(|| {
            format!("{} is the list of nodes; name a file of one of them", path.display())
        })?;
        let node = node.as_os_str().to_string_lossy().into_owned();
        Ok(Self { node, path: Path::new("/").join(names.as_path()) })
    }
}

// === impl Holder ===

impl From<Option<v1::Holder>> for Holder {
    fn from(holder: Option<v1::Holder>) -> Self {
        let v1::Holder { name, own, away_ms, .. } = holder.unwrap_or_default();
        Self { node: Some(name).filter(|name| !name.is_empty()), own, away_ms }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.node.as_deref().unwrap_or("(ended)"))?;
        if self.own {
            f.write_str(" (own mount)")?;
        }
        match self.away_ms {
            Some(away) => write!(f, " (away for {})", length(away)),
            None => Ok(()),
        }
    }
}

/// A length of time for people.
pub(crate) fn length(millis: u64) -> String {
    span::show(millis / 1_000)
}

/// A process or a user, where it is known.
pub(super) fn number(id: u32) -> String {
    if id == 0 { "-".to_owned() } else { id.to_string() }
}

fn words(leases: u32) -> Vec<String> {
    let leases = Leases::from_bits_truncate(leases);
    leases.iter_names().map(|(name, _)| name.to_lowercase().replace('_', "-")).collect()
}

// === impl Held ===

impl Held {
    fn new(reply: v1::HoldingsReply, path: &Path) -> Self {
        let open = |open: v1::HeldOpen| Open {
            holder: open.holder.into(),
            pid: open.pid,
            uid: open.uid,
            reads: open.reads,
            writes: open.writes,
            age_ms: open.age_ms,
        };
        let lease = |lease: v1::HeldLease| Lease {
            holder: lease.holder.into(),
            leases: words(lease.leases),
            age_ms: lease.age_ms,
            asked_ms: lease.asked_ms,
            silent_ms: lease.silent_ms,
            left_ms: lease.left_ms,
        };
        let change = |change: v1::PendingChange| Change {
            holder: change.holder.into(),
            operation: change.operation,
            pid: change.pid,
            uid: change.uid,
            leases: words(change.leases),
            waits_ms: change.waits_ms,
        };
        Self {
            node: reply.node,
            path: path.display().to_string(),
            ino: reply.ino,
            opens: reply.opens.into_iter().map(open).collect(),
            leases: reply.leases.into_iter().map(lease).collect(),
            changes: reply.changes.into_iter().map(change).collect(),
            locks: reply.locks.into_iter().map(Lock::from).collect(),
            grace_ms: reply.grace_ms,
        }
    }

    /// For people: a sentence on what is waited for, then tables of what there is.
    fn to_text(&self) -> String {
        let mut text = format!("{} of node {} (inode {})\n", self.path, self.node, self.ino);
        for sentence in self.waits() {
            text += &format!("{sentence}\n");
        }
        if !self.opens.is_empty() {
            let mut table = table(&["OPEN ON", "PID", "USER", "FOR", "SINCE"]);
            for open in &self.opens {
                let access = match (open.reads, open.writes) {
                    (true, true) => "reading, writing",
                    (false, true) => "writing",
                    _ => "reading",
                };
                let (holder, uid) = (open.holder.to_string(), open.uid.to_string());
                let since = length(open.age_ms);
                table.add_row([holder, number(open.pid), uid, access.to_owned(), since]);
            }
            text += &format!("\n{table}\n");
        }
        if !self.leases.is_empty() {
            let mut table = table(&["LEASES OF", "WHAT", "SINCE", "ASKED BACK", "HEARD OF"]);
            for lease in &self.leases {
                let asked = lease.asked_ms.map_or_else(|| "-".to_owned(), ago);
                let (holder, what) = (lease.holder.to_string(), lease.leases.join(", "));
                let since = lease.age_ms.map_or_else(|| "-".to_owned(), length);
                table.add_row([holder, what, since, asked, ago(lease.silent_ms)]);
            }
            text += &format!("\n{table}\n");
        }
        if !self.changes.is_empty() {
            let mut table = table(&["CHANGED BY", "PID", "USER", "OPERATION", "WAITS FOR"]);
            for change in &self.changes {
                let (what, user) = match change.waits_ms {
                    Some(_) => (change.operation.clone(), change.uid.to_string()),
                    None => (format!("under way: {}", change.leases.join(", ")), "-".to_owned()),
                };
                let waits = change.waits_ms.map_or_else(|| "-".to_owned(), length);
                table.add_row([change.holder.to_string(), number(change.pid), user, what, waits]);
            }
            text += &format!("\n{table}\n");
        }
        if !self.locks.is_empty() {
            text += &format!("\n{}\n", lock_table(&self.locks, false));
        }
        if self.is_free() {
            text += "Nobody holds anything on it through mfs, and nobody waits for it.\n";
        }
        text
    }

    /// A sentence for each thing that is waited for.
    fn waits(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(grace) = self.grace_ms {
            sentences.push(format!(
                "Changes wait for clients of the daemon before this one to come back, for {} at most.",
                length(grace)
            ));
        }
        for lease in &self.leases {
            let Some(asked) = lease.asked_ms else { continue };
            sentences.push(format!(
                "Waiting for {} to give back its leases ({}): asked {}, heard of {}; if it stays silent they \
                 end in {}.",
                lease.holder,
                lease.leases.join(", "),
                ago(asked),
                ago(lease.silent_ms),
                length(lease.left_ms)
            ));
        }
        sentences
    }

    fn is_free(&self) -> bool {
        let Self { opens, leases, changes, locks, grace_ms, .. } = self;
        opens.is_empty()
            && leases.is_empty()
            && changes.is_empty()
            && locks.is_empty()
            && grace_ms.is_none()
    }
}

fn ago(millis: u64) -> String {
    format!("{} ago", length(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_says_whose_file_it_is() {
        let mounts = [PathBuf::from("/mfs"), PathBuf::from("/mfs/n1/other")];
        let place = |path: &str| {
            let Place { node, path } = Place::of(Path::new(path), &mounts).ok()?;
            Some((node, path.to_string_lossy().into_owned()))
        };
        let some = |node: &str, path: &str| Some((node.to_owned(), path.to_owned()));
        assert_eq!(place("/mfs/n2/data/f"), some("n2", "/data/f"));
        assert_eq!(place("/mfs/n2"), some("n2", "/"));
        assert_eq!(place("/mfs/n1/other/n3/f"), some("n3", "/f"));
        assert_eq!(place("/mfsx/f"), some("", "/mfsx/f"));
        assert_eq!(place("/mfs"), None);
    }

    #[test]
    fn what_is_waited_for_is_said_first() {
        let holder = Some(v1::Holder { name: "n2".into(), ..v1::Holder::default() });
        let lease = v1::HeldLease {
            holder,
            leases: Leases::ATTRIBUTES.bits(),
            age_ms: Some(9_000),
            asked_ms: Some(3_200),
            silent_ms: 4_000,
            left_ms: 6_000,
        };
        let reply =
            v1::HoldingsReply { node: "n3".into(), leases: vec![lease], ..Default::default() };
        let text = Held::new(reply, Path::new("/f")).to_text();
        let second = text.lines().nth(1).unwrap_or_default();
        assert_eq!(
            second,
            "Waiting for n2 to give back its leases (attributes): asked 3s ago, heard of 4s ago; if it stays \
             silent they end in 6s."
        );
    }
}
