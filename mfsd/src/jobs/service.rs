//! The services about jobs: one short handler for each call.

use std::pin::Pin;
use std::sync::Arc;

use mfs::jobs::{ImagesToken, JobId};
use mfs::membership::Member;
use mfs::telemetry::metrics as m;
use mfs::types::Caller;
use mfs::wire::job::StartJob;
use mfs::wire::moving::RestoreJob;
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::jobs_server::Jobs as JobsService;
use mfs_proto::v1::local_jobs_server::LocalJobs as LocalJobsService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::host::{self, Coming, Hosted};
use super::{Balancing, Denied, Wish, clearing, home, list, load, preflight};
use crate::cluster::dial;
use crate::daemon::Daemon;
use crate::local::{asker, require_root};
use crate::node::Node;
use crate::peer::Peer;

type Progress = Pin<Box<dyn Stream<Item = Result<v1::MigrationProgress, Status>> + Send + 'static>>;

type Moved = Pin<Box<dyn Stream<Item = Result<v1::JobMoved, Status>> + Send + 'static>>;

type Pieces = Pin<Box<dyn Stream<Item = Result<v1::ImagePiece, Status>> + Send + 'static>>;

type Outputs = Pin<Box<dyn Stream<Item = Result<v1::JobOutput, Status>> + Send + 'static>>;

/// Signals that there are (signal(7)).
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// For users of this machine.
pub(crate) struct LocalJobs(pub(crate) Arc<Daemon>);

/// For the other nodes.
pub(crate) struct PeerJobs(pub(crate) Arc<Node>);

/// Whether a signal can be sent.
fn check_signal(signal: i32) -> Result<(), Status> {
    if SIGNALS.contains(&signal) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("there is no signal {signal}: they are 1 to 64")))
}

fn signalled(
    node: &Node,
    number: u64,
    signal: i32,
    uid: u32,
) -> Result<Response<v1::SignalJobReply>, Status> {
    let sent = node.jobs.wish(number, Wish::Signal(signal), uid);
    sent.map_err(|denied| denied.status(node, number))?;
    Ok(Response::new(v1::SignalJobReply {}))
}

/// A job's id, and its home.
fn home_of(node: &Node, id: &str) -> Result<(JobId, Member), Status> {
    let id: JobId = id.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    let home = node.view().by_name(&id.home).cloned().ok_or_else(|| {
        Status::not_found(format!("there is no node {}: `mfs nodes` shows them", id.home))
    })?;
    Ok((id, home))
}

/// What a home refuses, in its words.
fn plain(status: Status) -> Status {
    Status::new(status.code(), format!("{:#}", dial::plain(status)))
}

/// Waits for the end of a job of this node.
async fn ended(node: &Node, number: u64) -> Result<Response<v1::WaitJobReply>, Status> {
    let ended = node.jobs.end(number).await;
    let ended = ended.ok_or_else(|| Denied::NoJob.status(node, number))?;
    Ok(Response::new(v1::WaitJobReply { ended: Some(ended) }))
}

// === impl LocalJobs ===

#[tonic::async_trait]
impl LocalJobsService for LocalJobs {
    type RunStream = Outputs;

    async fn run(
        &self,
        request: Request<Streaming<v1::JobInput>>,
    ) -> Result<Response<Outputs>, Status> {
        let caller = asker::caller(&request)?;
        let outputs = home::run(&self.0.clustered()?, caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outputs))))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsReply>, Status> {
        let node = self.0.clustered()?;
        Ok(Response::new(list::all(&node, request.into_inner()).await))
    }

    async fn wait_job(
        &self,
        request: Request<v1::WaitJobRequest>,
    ) -> Result<Response<v1::WaitJobReply>, Status> {
        let node = self.0.clustered()?;
        let (id, home) = home_of(&node, &request.into_inner().id)?;
        if home.id == node.view().me() {
            return ended(&node, id.number).await;
        }
        let mut client = home::client(&node, &home).await.map_err(Status::unavailable)?;
        client.wait(v1::WaitRequest { number: id.number }).await.map_err(plain)
    }

    async fn signal_job(
        &self,
        request: Request<v1::SignalJobRequest>,
    ) -> Result<Response<v1::SignalJobReply>, Status> {
        let caller = asker::caller(&request)?;
        let node = self.0.clustered()?;
        let v1::SignalJobRequest { id, signal } = request.into_inner();
        check_signal(signal)?;
        let (id, home) = home_of(&node, &id)?;
        if home.id == node.view().me() {
            return signalled(&node, id.number, signal, caller.uid);
        }
        let mut client = home::client(&node, &home).await.map_err(Status::unavailable)?;
        let request = v1::SignalRequest { number: id.number, signal, caller: Some(caller.into()) };
        client.signal(request).await.map_err(plain)
    }

    type ExpelStream = Moved;

    async fn expel(&self, request: Request<v1::ExpelRequest>) -> Result<Response<Moved>, Status> {
        require_root(&request)?;
        let moved = clearing::expel(self.0.clustered()?);
        Ok(Response::new(Box::pin(ReceiverStream::new(moved))))
    }

    type BringStream = Moved;

    async fn bring(&self, request: Request<v1::BringRequest>) -> Result<Response<Moved>, Status> {
        let caller = asker::caller(&request)?;
        let moved = clearing::bring(self.0.clustered()?, caller.uid);
        Ok(Response::new(Box::pin(ReceiverStream::new(moved))))
    }

    type MigrateJobStream = Progress;

    async fn migrate_job(
        &self,
        request: Request<v1::MigrateJobRequest>,
    ) -> Result<Response<Progress>, Status> {
        let caller = asker::caller(&request)?;
        let node = self.0.clustered()?;
        let v1::MigrateJobRequest { id, node: to } = request.into_inner();
        let (id, home) = home_of(&node, &id)?;
        if home.id == node.view().me() {
            let progress = begin_moving(&node, id.number, &to, caller.uid, None).await?;
            return Ok(Response::new(Box::pin(progress)));
        }
        let mut client = home::client(&node, &home).await.map_err(Status::unavailable)?;
        let caller = Some(caller.into());
        let asked =
            client.migrate(v1::MigrateRequest { number: id.number, node: to, caller }).await;
        Ok(Response::new(Box::pin(asked.map_err(plain)?.into_inner())))
    }
}

// === impl PeerJobs ===

impl PeerJobs {
    /// What a peer says of a caller, as this node takes it.
    fn vouch(&self, peer: &Peer, caller: Option<Caller>) -> Result<Caller, Status> {
        let caller =
            caller.ok_or_else(|| Status::invalid_argument("nobody is named as its user"))?;
        if caller.uid == 0 && !self.0.trusts_root_of(peer) {
            return Err(Status::permission_denied(
                "root of another node is nobody here, so its jobs are not run: run it as another user, or \
                 trust that node's root ([peer.NAME] trust_root = true in mfsd.toml)",
            ));
        }
        Ok(caller)
    }

    /// A blocked node runs no job of another.
    fn refuse_if_blocked(&self) -> Result<(), Status> {
        let Some(reason) = self.0.loads.refuses_guests() else { return Ok(()) };
        m::JOBS_REFUSED.add_one();
        let credentials = self.0.credentials();
        Err(Status::failed_precondition(format!("node {} {reason}", credentials.identity().name())))
    }
}

fn peer_of<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::unauthenticated("only nodes of the cluster are answered"))
}

#[tonic::async_trait]
impl JobsService for PeerJobs {
    type HostStream = Outputs;

    async fn host(
        &self,
        request: Request<Streaming<v1::JobInput>>,
    ) -> Result<Response<Outputs>, Status> {
        let peer = peer_of(&request)?;
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|input| input.kind);
        let invalid = |error: String| Status::invalid_argument(error);
        let (start, coming) = match first {
            Some(Input::Start(start)) => {
                let start =
                    StartJob::try_from(start).map_err(|error| invalid(error.to_string()))?;
                (start, Coming::New)
            }
            Some(Input::Restore(restore)) => {
                let brought = RestoreJob::try_from(restore);
                let brought = brought.map_err(|error| invalid(error.to_string()))?;
                (brought.start.clone(), Coming::Brought(Box::new(brought)))
            }
            _ => return Err(invalid("the first message of a job says what to run".to_owned())),
        };
        let program = start.program.checked().map_err(|error| invalid(error.to_string()))?;
        let caller = self.vouch(&peer, start.caller)?;
        self.refuse_if_blocked()?;
        let view = self.0.view();
        let home = view.by_id(peer.node).map(|member| member.name.clone()).ok_or_else(|| {
            Status::unavailable("this node does not know yet where the job comes from: try again")
        })?;
        let (number, local_tmp, stays) = (start.number, start.local_tmp, start.hints.stays);
        let job = Hosted { home, number, program, caller, local_tmp, stays };
        let inputs = inbound.map_while(Result::ok);
        let outputs = host::host(&self.0, job, coming, inputs);
        let outputs =
            ReceiverStream::new(outputs).map(|kind| Ok(v1::JobOutput { kind: Some(kind) }));
        Ok(Response::new(Box::pin(outputs)))
    }

    async fn load(&self, _: Request<v1::LoadRequest>) -> Result<Response<v1::LoadReply>, Status> {
        Ok(Response::new(load::now(&self.0)))
    }

    async fn own_jobs(
        &self,
        request: Request<v1::OwnJobsRequest>,
    ) -> Result<Response<v1::OwnJobsReply>, Status> {
        let jobs = list::of_this_node(&self.0, request.into_inner()).await;
        Ok(Response::new(v1::OwnJobsReply { jobs }))
    }

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<v1::WaitJobReply>, Status> {
        ended(&self.0, request.into_inner().number).await
    }

    async fn guests(
        &self,
        request: Request<v1::GuestsRequest>,
    ) -> Result<Response<v1::GuestsReply>, Status> {
        let peer = peer_of(&request)?;
        let home = self.0.view().by_id(peer.node).map(|member| member.name.clone());
        let guests = match home {
            Some(home) => list::guests(&self.0, &home).await,
            None => Vec::new(),
        };
        Ok(Response::new(v1::GuestsReply { guests }))
    }

    async fn signal(
        &self,
        request: Request<v1::SignalRequest>,
    ) -> Result<Response<v1::SignalJobReply>, Status> {
        let peer = peer_of(&request)?;
        let v1::SignalRequest { number, signal, caller } = request.into_inner();
        check_signal(signal)?;
        let caller = caller.map(Caller::try_from).transpose();
        let caller = caller.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let caller = self.vouch(&peer, caller)?;
        signalled(&self.0, number, signal, caller.uid)
    }

    type TakeAwayStream = Progress;

    async fn take_away(
        &self,
        request: Request<v1::TakeAwayRequest>,
    ) -> Result<Response<Progress>, Status> {
        let peer = peer_of(&request)?;
        let progress = clearing::take_away(&self.0, peer.node, request.into_inner()).await?;
        Ok(Response::new(Box::pin(progress)))
    }

    type MigrateStream = Progress;

    async fn migrate(
        &self,
        request: Request<v1::MigrateRequest>,
    ) -> Result<Response<Progress>, Status> {
        let peer = peer_of(&request)?;
        let v1::MigrateRequest { number, node, caller } = request.into_inner();
        let caller = caller.map(Caller::try_from).transpose();
        let caller = caller.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let caller = self.vouch(&peer, caller)?;
        let progress = begin_moving(&self.0, number, &node, caller.uid, None).await?;
        Ok(Response::new(Box::pin(progress)))
    }

    async fn can_restore(
        &self,
        request: Request<v1::CanRestoreRequest>,
    ) -> Result<Response<v1::CanRestoreReply>, Status> {
        let peer = peer_of(&request)?;
        let v1::CanRestoreRequest { caller, machine, asks } = request.into_inner();
        let caller = caller.map(Caller::try_from).transpose();
        let caller = caller.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.vouch(&peer, caller)?;
        let why_not = preflight::why_not(&self.0, peer.node, &machine, asks).await;
        Ok(Response::new(v1::CanRestoreReply { why_not: why_not.unwrap_or_default() }))
    }

    type ImagesStream = Pieces;

    async fn images(
        &self,
        request: Request<v1::ImagesRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let peer = peer_of(&request)?;
        let token = ImagesToken::try_from(request.into_inner());
        let token = token.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let pieces = self.0.jobs.offers.send(token, peer.node)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(pieces))))
    }
}

/// Begins to move a job of this node.
pub(super) async fn begin_moving(
    node: &Arc<Node>,
    number: u64,
    to: &str,
    uid: u32,
    balancing: Option<Balancing>,
) -> Result<UnboundedReceiverStream<Result<v1::MigrationProgress, Status>>, Status> {
    let caller = node.jobs.may(number, uid).map_err(|denied| denied.status(node, number))?;
    let view = node.view();
    let target = match to {
        "home" => view.by_id(view.me()).cloned(),
        "best" => Some(home::choose(node, "").await?),
        name => view.members().iter().find(|member| member.name.as_str() == name).cloned(),
    };
    let target = target.ok_or_else(|| {
        Status::not_found(format!("there is no node {to:?}: `mfs nodes` shows them"))
    })?;
    if node.jobs.node_of(number).as_ref() != Some(&target.name) {
        let asks = balancing.as_ref().map(|balancing| balancing.asks);
        preflight::check(node, &target, caller, asks).await?;
    }
    let (progress, told) = mpsc::unbounded_channel();
    let wished = node.jobs.wish(
        number,
        Wish::Move(target, progress, balancing.map(|balancing| balancing.reason)),
        uid,
    );
    wished.map_err(|denied| denied.status(node, number))?;
    Ok(UnboundedReceiverStream::new(told))
}

// === impl Denied ===

impl Denied {
    fn status(self, home: &Node, number: u64) -> Status {
        let id = JobId { home: home.credentials().identity().name().clone(), number };
        match self {
            Self::NoJob => {
                Status::not_found(format!("there is no job {id}: `mfs ps` shows those that run"))
            }
            Self::AnothersJob => Status::permission_denied(format!("job {id} is another user's")),
        }
    }
}
