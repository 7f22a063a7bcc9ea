//! Clearing a node: sending guests away (`mfs expel`) and bringing own jobs home (`mfs bring`), one after the other.

use std::sync::Arc;

use mfs::jobs::JobId;
use mfs::jobs::balance::{Asks, Move};
use mfs::types::{NodeId, NodeName};
use mfs_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::service::begin_moving;
use super::{Balancing, home};
use crate::cluster::dial;
use crate::node::Node;

/// What became of a job, on its way to who asked.
type Moved = mpsc::Receiver<Result<v1::JobMoved, Status>>;

/// What is told of a migration.
type Told = Result<v1::MigrationProgress, Status>;

/// Root may move every job.
const ROOT: u32 = 0;

/// Sends all guests of this node away, each by its home's hand.
pub(super) fn expel(node: Arc<Node>) -> Moved {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for id in node.jobs.guests() {
            let moved = ask(&node, &id.home, id.number).await;
            if sender.send(Ok(said(&id, moved))).await.is_err() {
                // Who asked has seen enough: the rest may stay.
                return;
            }
        }
    });
    receiver
}

/// Has a home take its job away from this node.
async fn ask(node: &Node, home: &NodeName, number: u64) -> Result<String, Status> {
    let view = node.view();
    let member = view.by_name(home);
    let member = member.ok_or_else(|| Status::unavailable(format!("node {home} is unknown")))?;
    let mut client = home::client(node, member).await.map_err(Status::unavailable)?;
    let request = v1::TakeAwayRequest { number, ..v1::TakeAwayRequest::default() };
    let asked = client.take_away(request).await;
    last(asked.map_err(plain)?.into_inner()).await
}

/// Has a job moved as balancing wants it, by its home's hand.
pub(super) async fn steer(node: &Arc<Node>, step: &Move) -> Result<String, Status> {
    let Asks { demand, resident, least_pace } = step.asks;
    let asks = Some(v1::MoveAsks { demand_milli: demand, resident, least_pace });
    let (number, to) = (step.job.number, step.to.to_string());
    let request = v1::TakeAwayRequest { number, node: to, reason: step.reason.to_string(), asks };
    let view = node.view();
    let home = view.by_name(&step.job.home);
    let home = home.ok_or_else(|| Status::unavailable("its home is unknown"))?;
    if home.id == view.me() {
        return last(take_away(node, view.me(), request).await?).await;
    }
    let mut client = home::client(node, home).await.map_err(Status::unavailable)?;
    last(client.take_away(request).await.map_err(plain)?.into_inner()).await
}

/// Moves a job of this node away from the node where it runs, which asks for it: to the best other, or home.
pub(super) async fn take_away(
    node: &Arc<Node>,
    from: NodeId,
    request: v1::TakeAwayRequest,
) -> Result<UnboundedReceiverStream<Told>, Status> {
    let v1::TakeAwayRequest { number, node: to, reason, asks } = request;
    let view = node.view();
    let runs = node.jobs.node_of(number);
    let asking = view.by_id(from).filter(|member| runs.as_ref() == Some(&member.name));
    let Some(asking) = asking else {
        return Err(Status::not_found("no such job of this node runs there"));
    };
    if let Some(asks) = asks {
        return begin_moving(node, number, &to, ROOT, Some(Balancing { reason, asks })).await;
    }
    let best = home::choose(node, "").await.ok().filter(|best| best.id != asking.id);
    let to = best.map_or_else(|| "home".to_owned(), |best| best.name.to_string());
    begin_moving(node, number, &to, ROOT, None).await
}

/// Brings the jobs of this node home, as far as that user may move them.
pub(super) fn bring(node: Arc<Node>, uid: u32) -> Moved {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let own = node.credentials().identity().name().clone();
        for number in node.jobs.away(&own, uid) {
            let moved = match begin_moving(&node, number, "home", uid, None).await {
                Ok(told) => last(told).await,
                Err(status) => Err(status),
            };
            let id = JobId { home: own.clone(), number };
            if sender.send(Ok(said(&id, moved))).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for the end of a migration; where the job runs.
async fn last(mut told: impl Stream<Item = Told> + Unpin) -> Result<String, Status> {
    let mut node = None;
    while let Some(progress) = told.next().await {
        node = Some(progress.map_err(plain)?.node);
    }
    node.ok_or_else(|| Status::aborted("nobody says what became of it"))
}

fn plain(status: Status) -> Status {
    Status::new(status.code(), format!("{:#}", dial::plain(status)))
}

fn said(id: &JobId, moved: Result<String, Status>) -> v1::JobMoved {
    let (node, why_not) = match moved {
        Ok(node) => (node, String::new()),
        // One that has ended is not here any more, which is what was wanted.
        Err(status) if status.code() == tonic::Code::NotFound => (String::new(), String::new()),
        Err(status) => (String::new(), status.message().to_owned()),
    };
    v1::JobMoved { id: id.to_string(), node, why_not }
}
