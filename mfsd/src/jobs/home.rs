//! Jobs of this node: chooses where one runs, and begins it there.

use std::sync::Arc;
use std::time::Duration;

use mfs::jobs::placement::{self, Candidate};
use mfs::load::Speed;
use mfs::membership::{Member, MemberState, Tag, View};
use mfs::types::{Caller, NodeName};
use mfs::wire::job::{StartJob, job_failed};
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use mfs_proto::v1::jobs_client::JobsClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::carried::Carried;
use super::load;
use crate::cluster::dial;
use crate::node::Node;

/// Messages on their way in each direction.
pub(super) const IN_FLIGHT: usize = 8;

/// How long a node may take to say how busy it is before it is left out.
const LOAD_PATIENCE: Duration = Duration::from_millis(500);

/// The status that a shell gives of a program that cannot be run.
const CANNOT_RUN: u8 = 126;

/// The status that a shell gives of a program that was killed by SIGKILL.
pub(super) const LOST: u8 = 137;

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
    let hints = start.hints.clone();
    let (running, wishes) = node.jobs.begin(caller.clone(), command, member.name.clone(), hints);
    if start.detached && start.program.output.is_none() {
        let home = node.credentials().identity().name().clone();
        start.program.output = Some(format!("mfs-{home}.{}.out", running.number).into());
    }
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let name = member.name.clone();
        let begun = Carried::begin(node, start, caller, member, running, wishes, &sender).await;
        let ended = match begun {
            Ok(mut carried) => {
                let ended = carried.carry(inbound).await.unwrap_or_else(|| {
                    job_failed(format!("node {name} went away, and the job with it"), LOST)
                });
                carried.running.ended = Some(ended.clone());
                ended
            }
            Err(error) => job_failed(error, CANNOT_RUN),
        };
        let _ = sender.send(Ok(message(Output::Ended(ended)))).await; // or the command is gone
    });
    Ok(receiver)
}

pub(super) fn message(kind: Output) -> v1::JobOutput {
    v1::JobOutput { kind: Some(kind) }
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
pub(super) async fn choose(node: &Arc<Node>, wanted: &str) -> Result<Member, Status> {
    let view = node.view();
    if wanted == "home" {
        let home = view.by_id(view.me()).cloned();
        return home.ok_or_else(|| Status::unavailable("this node is not in its cluster yet"));
    }
    if !wanted.is_empty() {
        let member = view.members().iter().find(|member| member.name.as_str() == wanted);
        let member = member.ok_or_else(|| {
            Status::not_found(format!("there is no node {wanted:?}: `mfs nodes` shows them"))
        })?;
        node.jobs.placed(member.id);
        return Ok(member.clone());
    }
    let by_name = |name: &NodeName| view.by_name(name).cloned();
    let cluster = node.loads.snapshot().cluster;
    let alone = cluster.fresh().all(|known| known.id == view.me());
    // Where nothing is known of any other, this daemon began a moment ago, or it is the only one.
    let candidates =
        if alone { ask_all(node, &view).await } else { placement::candidates(&cluster) };
    let best = node.jobs.place(candidates).and_then(|name| by_name(&name));
    best.ok_or_else(|| {
        Status::unavailable(
            "no node takes this job: none answers, or all are blocked (`mfs nodes` shows it)",
        )
    })
}

/// How busy each node says that it is, of those that answer.
async fn ask_all(node: &Arc<Node>, view: &View) -> Vec<Candidate> {
    let mut asked = JoinSet::new();
    let alive = view.members().iter().filter(|member| member.state == MemberState::Alive);
    for member in alive.cloned() {
        let (node, is_home) = (Arc::clone(node), member.id == view.me());
        asked.spawn(async move {
            let asking = async {
                if is_home {
                    return Some(load::now(&node));
                }
                let mut client = client(&node, &member).await.ok()?;
                Some(client.load(v1::LoadRequest {}).await.ok()?.into_inner())
            };
            let load = tokio::time::timeout(LOAD_PATIENCE, asking).await.ok()??;
            Some(Candidate {
                tag: Tag::of(member.id),
                age: Duration::ZERO,
                node: member.name,
                is_home,
                is_blocked: load.blocked,
                processors: load.processors_milli,
                speed: Speed::new(load.speed).unwrap_or(Speed::YARDSTICK),
                running: load.running_milli,
                memory_free: load.memory_free,
            })
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}
