//! The locks of a job that moves.
//!
//! CRIU sees none of them: they are held at the homes of the files. So when the job stands still, the node where it
//! ran looks which files of mfs its processes have open (`opened`), asks the homes of these which locks are held on
//! them (`homes`), and finds out which process and descriptor each belongs to (`matching`, `probe`). They are put
//! into the images (`image`), so that CRIU has each process take its own again before its first step, and the
//! homes park those that exclude everybody: the restored process gets the parked one in place of waiting for it.
//!
//! The processes that stand still hold theirs all the while, so that nothing is to be undone.

mod homes;
mod image;
mod matching;
mod opened;
mod probe;
mod service;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use mfs::types::ParkingToken;
use mfs::types::op::{LockKind, TakenLock};
use mfs::wire::moving::FreezeJob;

use super::{processes, restored};
use crate::node::Node;
use image::Restored;
use matching::{Known, Whose};
use opened::Opened;
use probe::Probe;

pub(crate) use service::PeerLocks;

/// Most descriptors of one job on files of one home: each is compared with those of the same file.
const MOST_OPENED: usize = 100_000;

/// What is parked because of a move. Dropped, the move is over, and the homes are told.
#[must_use = "the locks are parked no more when this is dropped"]
pub(super) struct Parking {
    node: Arc<Node>,
    token: ParkingToken,
    homes: Vec<String>,
}

/// Has the locks of a job go along with it.
///
/// # Preconditions
/// Its processes stand still.
///
/// # Errors
/// A lock cannot be taken along; the sentence names its file.
pub(super) async fn park(
    node: &Arc<Node>,
    first: u32,
    order: FreezeJob,
    images: &Path,
) -> anyhow::Result<Parking> {
    let token = restored::parking(order.token);
    let mut parking = Parking { node: Arc::clone(node), token, homes: Vec::new() };
    let (all, opened) = tokio::task::spawn_blocking(move || {
        let all = processes::of(first);
        let opened = opened::of(&all);
        (all, opened)
    })
    .await?;
    for (home, opened) in by_home(opened) {
        ensure!(opened.len() <= MOST_OPENED, "it has too many files of node {home} open");
        let held = homes::held(node, &home, &opened).await?;
        if held.is_empty() {
            continue;
        }
        let all = all.clone();
        // Looking may ask the mount, which may ask this daemon.
        let found = tokio::task::spawn_blocking(move || find(&all, &opened, &held)).await??;
        let taken = found.clone();
        let images = images.to_owned();
        tokio::task::spawn_blocking(move || image::add(&images, &taken)).await??;
        let locks: Vec<TakenLock> = found
            .into_iter()
            .map(|restored| restored.lock)
            .filter(|lock| lock.kind == LockKind::Exclusive)
            .collect();
        if !locks.is_empty() {
            parking.homes.push(home.clone());
            homes::park(node, &home, order.target, token, locks).await?;
        }
    }
    Ok(parking)
}

/// Those of these locks that are the job's, with their processes and descriptors.
fn find(processes: &[u32], opened: &[Opened], held: &[TakenLock]) -> anyhow::Result<Vec<Restored>> {
    let of_locked = opened.iter().filter(|open| held.iter().any(|l| l.ino.get() == open.ino));
    let opened = probe::descriptions(&of_locked.collect::<Vec<_>>());
    let of_first = processes.first().and_then(|first| processes::namespace(*first));
    let namespace = of_first.context("its first process is gone")?;
    let of_node = processes::namespace(std::process::id()).unwrap_or(0);
    let known = Known { processes, namespace, of_node, opened: &opened };
    let mut found = Vec::new();
    for lock in held {
        match known.whose(lock, &Probe) {
            Whose::Job(opened) => {
                let process = processes::inner_number(opened.process);
                let process = process.context("a process has no number in its namespace")?;
                found.push(Restored { lock: *lock, process, fd: opened.fd });
            }
            Whose::Another => {}
            Whose::Unknown => {
                let of_file = opened.iter().find(|(open, _)| open.ino == lock.ino.get());
                let path = of_file.map_or("a file", |(open, _)| open.path.as_str());
                bail!("it holds a lock on {path}, and it cannot be told through which descriptor");
            }
        }
    }
    Ok(found)
}

/// Files by the name of their home.
fn by_home(opened: Vec<Opened>) -> BTreeMap<String, Vec<Opened>> {
    let mut homes: BTreeMap<String, Vec<Opened>> = BTreeMap::new();
    for open in opened {
        homes.entry(open.home.clone()).or_default().push(open);
    }
    homes
}

// === impl Parking ===

impl Drop for Parking {
    fn drop(&mut self) {
        let (node, token) = (Arc::clone(&self.node), self.token);
        for home in std::mem::take(&mut self.homes) {
            let node = Arc::clone(&node);
            tokio::spawn(async move {
                // It lets go of them by itself, later.
                if let Err(error) = homes::unpark(&node, &home, token).await {
                    tracing::debug!("node {home} has not heard of the end of a move: {error:#}");
                }
            });
        }
    }
}
