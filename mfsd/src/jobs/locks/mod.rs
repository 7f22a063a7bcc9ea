//! The locks of a job that is to move.
//!
//! CRIU sees none of them: they are held at the homes of the files. So the node where the job runs looks which
//! files of mfs its processes have open (`opened`), and asks the homes of these which locks its processes hold
//! on them (`homes`).

mod homes;
mod opened;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use mfs::types::op::TakenLock;

use super::processes;
use crate::node::Node;
use opened::Opened;

pub(crate) use service::PeerLocks;

/// Refuses a job that holds a lock.
pub(super) async fn refuse_if_held(node: &Arc<Node>, first: u32) -> anyhow::Result<()> {
    let (opened, all) = tokio::task::spawn_blocking(move || {
        let all = processes::of(first);
        (opened::of(&all), all)
    })
    .await?;
    for (home, opened) in by_home(&opened) {
        let held = homes::held(node, home, &opened).await?;
        if let Some(lock) = held.iter().find(|lock| is_of(lock, &all)) {
            let path = opened.iter().find(|open| open.ino == lock.ino.get()).map(|open| &open.path);
            anyhow::bail!("it holds a lock on {}", path.map_or("a file", String::as_str));
        }
    }
    Ok(())
}

/// Files by the name of their home.
fn by_home(opened: &[Opened]) -> BTreeMap<&str, Vec<&Opened>> {
    let mut homes: BTreeMap<&str, Vec<&Opened>> = BTreeMap::new();
    for open in opened {
        homes.entry(&open.home).or_default().push(open);
    }
    homes
}

/// Whether a process of the job has taken it, or one that is not there any more, as of a file that the job has
/// open.
fn is_of(lock: &TakenLock, processes: &[u32]) -> bool {
    processes.contains(&lock.taking.pid) || !processes::is_there(lock.taking.pid)
}
