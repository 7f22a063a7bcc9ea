//! Lists the jobs of the cluster: each home knows its own, and asks the nodes that run them what they use.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mfs::jobs::JobId;
use mfs::membership::{Member, MemberState};
use mfs::types::NodeName;
use mfs_proto::v1;
use tokio::task::JoinSet;

use super::{ENDED, home, processes};
use crate::node::Node;

/// How long a node may take to say which jobs it has.
const LIST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a node may take to say what jobs use that it runs; less, since who asks it is asked, too.
const GUEST_PATIENCE: Duration = Duration::from_secs(1);

/// Why a job is not moved of which that was wanted.
const STAYS: &str = "--stay";

/// The jobs of all nodes.
pub(super) async fn all(node: &Arc<Node>, request: v1::ListJobsRequest) -> v1::ListJobsReply {
    let request = v1::OwnJobsRequest { all: request.all };
    let asked = ask_all(node, LIST_PATIENCE, move |node, member| async move {
        if member.id == node.view().me() {
            return Some(of_this_node(&node, request).await);
        }
        let mut client = home::client(&node, &member).await.ok()?;
        Some(client.own_jobs(request).await.ok()?.into_inner().jobs)
    });
    let mut reply = v1::ListJobsReply::default();
    for (name, jobs) in asked.await {
        match jobs {
            Some(jobs) => reply.jobs.extend(jobs),
            None => reply.unanswered.push(name.to_string()),
        }
    }
    reply.jobs.sort_by_key(|job| job.id.parse::<JobId>().ok());
    reply.unanswered.sort();
    reply
}

/// Those of this node, with what they use where they run, as far as these nodes say.
pub(super) async fn of_this_node(node: &Arc<Node>, request: v1::OwnJobsRequest) -> Vec<v1::Job> {
    let own = node.credentials().identity().name().clone();
    let mut jobs = node.jobs.own(request.all);
    let running = jobs.iter().filter(|(_, job)| job.state != ENDED);
    let hosts: BTreeSet<String> = running.map(|(_, job)| job.node.clone()).collect();
    let of_own = own.clone();
    let asked = ask_all(node, GUEST_PATIENCE, move |node, member| {
        let (is_host, own) = (hosts.contains(member.name.as_str()), of_own.clone());
        async move {
            if !is_host {
                return None;
            }
            if member.id == node.view().me() {
                return Some(guests(&node, &own).await);
            }
            let mut client = home::client(&node, &member).await.ok()?;
            Some(client.guests(v1::GuestsRequest {}).await.ok()?.into_inner().guests)
        }
    });
    let mut known = HashMap::new();
    for (host, guests) in asked.await {
        for guest in guests.unwrap_or_default() {
            known.insert((host.to_string(), guest.number), guest);
        }
    }
    for (number, job) in &mut jobs {
        job.id = JobId { home: own.clone(), number: *number }.to_string();
        job.home = own.to_string();
        if let Some(guest) = known.remove(&(job.node.clone(), *number)) {
            (job.cpu_us, job.memory) = (guest.cpu_us, guest.memory);
            job.cannot_move = guest.cannot_move;
        }
        if job.cannot_move.is_empty() && job.hints.as_ref().is_some_and(|hints| hints.stays) {
            job.cannot_move = STAYS.to_owned();
        }
    }
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// What the jobs of a home use that run here.
pub(super) async fn guests(node: &Arc<Node>, home: &NodeName) -> Vec<v1::Guest> {
    let guests = node.jobs.guests_of(home);
    let look = move || -> Vec<v1::Guest> {
        let told = guests.into_iter().map(|(number, first)| {
            let used = processes::used(first);
            v1::Guest {
                number,
                cpu_us: used.cpu_us,
                memory: used.memory,
                cannot_move: processes::tied(first).unwrap_or_default(),
            }
        });
        told.collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Asks all nodes that are not dead, at once.
async fn ask_all<T, Asking>(
    node: &Arc<Node>,
    patience: Duration,
    ask: impl Fn(Arc<Node>, Member) -> Asking,
) -> Vec<(NodeName, Option<T>)>
where
    T: Send + 'static,
    Asking: Future<Output = Option<T>> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for member in node.view().members() {
        let (name, is_dead) = (member.name.clone(), member.state == MemberState::Dead);
        let asking = ask(Arc::clone(node), member.clone());
        asked.spawn(async move {
            if is_dead {
                return (name, None);
            }
            (name, tokio::time::timeout(patience, asking).await.ok().flatten())
        });
    }
    asked.join_all().await
}
