//! What is asked before a job is frozen: whether the node could run it.

use std::time::Duration;

use mfs::jobs::balance::Asks;
use mfs::membership::Member;
use mfs::types::{Caller, NodeId};
use mfs_proto::v1;
use tonic::Status;

use super::{home, host};
use crate::cluster::dial;
use crate::node::Node;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses to move a job of this caller to a node that could not run it.
pub(super) async fn check(
    node: &Node,
    target: &Member,
    caller: Caller,
    asks: Option<v1::MoveAsks>,
) -> Result<(), Status> {
    let asked = tokio::time::timeout(PATIENCE, ask(node, target, caller, asks)).await;
    let why_not = asked
        .map_err(|_| Status::unavailable(format!("node {} does not answer", target.name)))??;
    match why_not {
        None => Ok(()),
        Some(why) => Err(Status::failed_precondition(format!("node {}: {why}", target.name))),
    }
}

async fn ask(
    node: &Node,
    target: &Member,
    caller: Caller,
    asks: Option<v1::MoveAsks>,
) -> Result<Option<String>, Status> {
    let machine = machine();
    if target.id == node.view().me() {
        return Ok(why_not(node, target.id, &machine, asks).await);
    }
    let mut client = home::client(node, target).await.map_err(Status::unavailable)?;
    let caller = Some(caller.into());
    let request = v1::CanRestoreRequest { caller, machine, asks };
    let plain = |status: Status| Status::new(status.code(), format!("{:#}", dial::plain(status)));
    let answer = client.can_restore(request).await.map_err(plain)?.into_inner();
    Ok(Some(answer.why_not).filter(|why| !why.is_empty()))
}

/// Why this node could not run a job of that home that was begun on that kind of machine.
pub(super) async fn why_not(
    node: &Node,
    home: NodeId,
    machine: &str,
    asks: Option<v1::MoveAsks>,
) -> Option<String> {
    if machine != self::machine() {
        return Some(format!("it is a {}, and the job was begun on a {machine}", self::machine()));
    }
    if let Err(error) = node.jobs.criu().await {
        return Some(format!("{error:#}"));
    }
    if let Err(error) = host::cluster_place().await {
        return Some(format!("{error:#}"));
    }
    let is_own = home == node.view().me();
    if !is_own && let Some(why) = node.loads.refuses_guests() {
        return Some(format!("it {why}"));
    }
    // Last: what is admitted counts.
    let asks = asks?;
    let snapshot = node.loads.snapshot();
    let own = snapshot.cluster.own()?;
    let asks =
        Asks { demand: asks.demand_milli, resident: asks.resident, least_pace: asks.least_pace };
    let admitted = node.jobs.admit(&own.load, asks, is_own);
    admitted.err().map(|refusal| refusal.to_string())
}

/// The kind of this machine (uname(2)).
fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}
