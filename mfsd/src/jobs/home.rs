//! Jobs of this node: chooses where one runs, and carries its streams between the command and that node.

use std::sync::Arc;
use std::time::Duration;

use mfs::jobs::placement::{self, Candidate};
use mfs::membership::{Member, MemberState};
use mfs::types::Caller;
use mfs::wire::job::{StartJob, job_failed};
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use mfs_proto::v1::jobs_client::JobsClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::host::{self, Hosted};
use super::{Running, load};
use crate::cluster::dial;
use crate::node::Node;

/// Messages on their way in each direction.
const IN_FLIGHT: usize = 8;

/// How long a node may take to say how busy it is before it is left out.
const LOAD_PATIENCE: Duration = Duration::from_millis(500);

/// The status that a shell gives of a program that was killed by SIGKILL.
const LOST: u8 = 137;

/// A job that is about to be carried.
struct Carried {
    node: Arc<Node>,
    start: StartJob,
    caller: Caller,
    /// The node that runs it.
    member: Member,
    running: Running,
    signals: mpsc::UnboundedReceiver<i32>,
}

/// Runs a program for a user of this machine. What comes out of it.
pub(super) async fn run(
    node: &Arc<Node>,
    caller: Caller,
    mut inbound: Streaming<v1::JobInput>,
) -> Result<mpsc::Receiver<Result<v1::JobOutput, Status>>, Status> {
    let invalid = |message: String| Status::invalid_argument(message);
    let first = inbound.message().await?.and_then(|input| input.kind);
    let Some(Input::Start(start)) = first else {
        return Err(invalid("the first message of a job says what to run".to_owned()));
    };
    let mut start = StartJob::try_from(start).map_err(|error| invalid(error.to_string()))?;
    start.program = start.program.checked().map_err(|error| invalid(error.to_string()))?;
    let member = choose(node, &start.node).await?;
    let command = start.program.command.iter().map(|word| word.clone().into()).collect();
    let (running, signals) = node.jobs.begin(caller.uid, command, member.name.clone());
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let carried = Carried { node: Arc::clone(node), start, caller, member, running, signals };
    tokio::spawn(async move {
        let name = carried.member.name.clone();
        let ended = carried.carry(inbound, &sender).await;
        let ended = ended.unwrap_or_else(|| {
            job_failed(format!("node {name} went away, and the job with it"), LOST)
        });
        let _ = sender.send(Ok(message(Output::Ended(ended)))).await; // or the command is gone
    });
    Ok(receiver)
}

fn message(kind: Output) -> v1::JobOutput {
    v1::JobOutput { kind: Some(kind) }
}

// === impl Carried ===

impl Carried {
    /// Carries everything until the job has ended; `None` if nobody said how.
    async fn carry(
        mut self,
        mut inbound: Streaming<v1::JobInput>,
        outputs: &mpsc::Sender<Result<v1::JobOutput, Status>>,
    ) -> Option<v1::JobEnded> {
        let (inputs, received) = mpsc::channel(IN_FLIGHT);
        let mut from_job = match self.begin(received).await {
            Ok(from_job) => from_job,
            Err(error) => return Some(job_failed(error, 126)),
        };
        loop {
            tokio::select! {
                output = from_job.next() => match output? {
                    Output::Ended(ended) => return Some(ended),
                    Output::Started(started) => {
                        self.running.has_pid(started.pid);
                        let own = self.node.credentials().identity().name().clone();
                        let id = mfs::jobs::JobId { home: own, number: self.running.number };
                        let node = self.member.name.to_string();
                        let started = v1::JobStarted { id: id.to_string(), node, ..started };
                        outputs.send(Ok(message(Output::Started(started)))).await.ok()?;
                    }
                    other => outputs.send(Ok(message(other))).await.ok()?,
                },
                // Who asked is gone: so is the job, when its inputs end.
                input = inbound.message() => {
                    let input = input.ok().flatten()?;
                    inputs.send(input).await.ok()?;
                }
                Some(signal) = self.signals.recv() => {
                    inputs.send(v1::JobInput { kind: Some(Input::Signal(signal)) }).await.ok()?;
                }
                () = outputs.closed() => return None,
            }
        }
    }

    async fn begin(
        &mut self,
        received: mpsc::Receiver<v1::JobInput>,
    ) -> Result<Box<dyn Stream<Item = Output> + Send + Unpin>, String> {
        let view = self.node.view();
        let start = self.start.clone();
        let inputs = ReceiverStream::new(received);
        if self.member.id == view.me() {
            let own = self.member.name.clone();
            let (caller, local_tmp) = (self.caller.clone(), start.local_tmp);
            let job = Hosted { home: own, program: start.program, caller, local_tmp };
            return Ok(Box::new(ReceiverStream::new(host::host(&self.node, job, inputs))));
        }
        let (caller, number) = (Some(self.caller.clone()), self.running.number);
        let start = StartJob { caller, number, node: String::new(), ..start };
        let first = v1::JobInput { kind: Some(Input::Start(start.into())) };
        let inputs = tokio_stream::once(first).chain(inputs);
        let mut client = client(&self.node, &self.member).await?;
        let outputs = client.host(inputs).await;
        let outputs = outputs.map_err(|status| format!("{:#}", dial::plain(status)))?.into_inner();
        let name = self.member.name.clone();
        Ok(Box::new(outputs.map_while(move |output| match output {
            Ok(output) => output.kind,
            Err(status) => {
                tracing::info!(node = %name, "a job's stream has ended: {status}");
                None
            }
        })))
    }
}

/// Speaks with a node about jobs.
pub(super) async fn client(node: &Node, member: &Member) -> Result<JobsClient<Channel>, String> {
    let config = node.credentials().client_config();
    let name = mfs::identity::server_name(member.id);
    let dialled = dial::channel(config, name, &member.addresses).await;
    let (channel, _) =
        dialled.map_err(|error| format!("node {} cannot be reached: {error:#}", member.name))?;
    Ok(JobsClient::new(channel))
}

/// The node that is to run a job: the one that is named, or the best of those that answer.
async fn choose(node: &Arc<Node>, wanted: &str) -> Result<Member, Status> {
    let view = node.view();
    if !wanted.is_empty() {
        let member = view.members().iter().find(|member| member.name.as_str() == wanted);
        return member.cloned().ok_or_else(|| {
            Status::not_found(format!("there is no node {wanted:?}: `mfs nodes` shows them"))
        });
    }
    let mut asked = JoinSet::new();
    let alive = view.members().iter().filter(|member| member.state == MemberState::Alive);
    for member in alive.cloned() {
        let (node, is_home) = (Arc::clone(node), member.id == view.me());
        asked.spawn(async move {
            let asking = async {
                if is_home {
                    return Some(load::now(node.jobs.hosted()));
                }
                let mut client = client(&node, &member).await.ok()?;
                Some(client.load(v1::LoadRequest {}).await.ok()?.into_inner())
            };
            let load = tokio::time::timeout(LOAD_PATIENCE, asking).await.ok()??;
            let candidate = Candidate {
                node: member.name.clone(),
                is_home,
                processors: load.processors_milli,
                running: load.running_milli,
                memory_free: load.memory_free,
            };
            Some((member, candidate))
        });
    }
    let known: Vec<_> = asked.join_all().await.into_iter().flatten().collect();
    let candidates: Vec<_> = known.iter().map(|(_, candidate)| candidate.clone()).collect();
    let best = placement::best(&candidates).map(|best| best.node.clone());
    let member = known.into_iter().find(|(member, _)| Some(&member.name) == best.as_ref());
    member.map(|(member, _)| member).ok_or_else(|| Status::unavailable("no node answers"))
}
