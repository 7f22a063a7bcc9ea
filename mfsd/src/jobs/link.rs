//! `Link`: the stream between a job's home and the node that runs it, or is to run it.

use std::sync::Arc;

use mfs::membership::Member;
use mfs::types::Caller;
use mfs::wire::job::StartJob;
use mfs::wire::moving::RestoreJob;
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};

use super::home::{IN_FLIGHT, client};
use super::host::{self, Coming, Hosted};
use crate::cluster::dial;
use crate::node::Node;

/// A stream to a node. Dropped, the node ends what it has of the job.
pub(super) struct Link {
    /// The node.
    pub(super) member: Member,
    inputs: mpsc::Sender<v1::JobInput>,
    /// What comes from there.
    outputs: Box<dyn Stream<Item = Output> + Send + Unpin>,
}

// === impl Link ===

impl Link {
    /// Has a job begun there.
    pub(super) async fn begin(
        node: &Arc<Node>,
        member: Member,
        start: &StartJob,
        caller: &Caller,
    ) -> Result<Self, String> {
        Self::open(node, member, start, caller, None).await
    }

    /// Has a job brought there that was frozen elsewhere.
    pub(super) async fn bring(
        node: &Arc<Node>,
        member: Member,
        brought: RestoreJob,
        caller: &Caller,
    ) -> Result<Self, String> {
        let start = brought.start.clone();
        Self::open(node, member, &start, caller, Some(brought)).await
    }

    async fn open(
        node: &Arc<Node>,
        member: Member,
        start: &StartJob,
        caller: &Caller,
        brought: Option<RestoreJob>,
    ) -> Result<Self, String> {
        let (inputs, received) = mpsc::channel(IN_FLIGHT);
        let received = ReceiverStream::new(received);
        let view = node.view();
        if member.id == view.me() {
            let job = Hosted {
                home: member.name.clone(),
                number: start.number,
                program: start.program.clone(),
                caller: caller.clone(),
                local_tmp: start.local_tmp,
                stays: start.hints.stays,
            };
            let coming = brought.map_or(Coming::New, |brought| Coming::Brought(Box::new(brought)));
            let outputs = Box::new(ReceiverStream::new(host::host(node, job, coming, received)));
            return Ok(Self { member, inputs, outputs });
        }
        let caller = Some(caller.clone());
        let kind = match brought {
            None => Input::Start(StartJob { caller, ..start.clone() }.into()),
            Some(brought) => {
                let start = StartJob { caller, ..brought.start };
                Input::Restore(RestoreJob { start, ..brought }.into())
            }
        };
        let first = v1::JobInput { kind: Some(kind) };
        let mut client = client(node, &member).await?;
        let outputs = client.host(tokio_stream::once(first).chain(received)).await;
        let outputs = outputs.map_err(|status| format!("{:#}", dial::plain(status)))?.into_inner();
        let name = member.name.clone();
        let outputs = Box::new(outputs.map_while(move |output| match output {
            Ok(output) => output.kind,
            Err(status) => {
                tracing::info!(node = %name, "a job's stream has ended: {status}");
                None
            }
        }));
        Ok(Self { member, inputs, outputs })
    }

    /// Sends something there. That it has gone is seen by the end of what comes from there.
    pub(super) fn send(&self, kind: Input) -> impl Future<Output = ()> + use<> {
        let inputs = self.inputs.clone();
        async move {
            let _ = inputs.send(v1::JobInput { kind: Some(kind) }).await;
        }
    }

    /// What comes next from there; none at the end.
    pub(super) async fn next(&mut self) -> Option<Output> {
        self.outputs.next().await
    }
}
