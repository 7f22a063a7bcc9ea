//! What a mount of this machine is told: identity, members, export; again whenever some of it changes.

use std::sync::Arc;

use mfs_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::daemon::Daemon;
use crate::node::Node;

/// The states, the present one first; ends when the daemon stops.
pub(super) fn watch(
    daemon: Arc<Daemon>,
    stop: CancellationToken,
) -> ReceiverStream<Result<v1::MountState, Status>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sender.closed() => {}
            () = tell(&daemon, &sender) => {}
        }
    });
    ReceiverStream::new(receiver)
}

/// Sends a state after each change. A slow reader gets fewer, not older ones.
async fn tell(daemon: &Daemon, sender: &mpsc::Sender<Result<v1::MountState, Status>>) {
    let mut nodes = daemon.watch_node();
    loop {
        let Some(node) = nodes.borrow_and_update().clone() else {
            // A mount that heard of no node would drop its sessions, and every open file with them.
            if daemon.is_stopping() {
                return;
            }
            let nothing = v1::MountState { version: version(), ..v1::MountState::default() };
            if sender.send(Ok(nothing)).await.is_err() || nodes.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut credentials = node.watch_credentials();
        let mut view = node.watch_view();
        loop {
            credentials.mark_unchanged();
            view.mark_unchanged();
            if sender.send(Ok(state(&node))).await.is_err() {
                return;
            }
            let same_node = tokio::select! {
                changed = credentials.changed() => changed.is_ok(),
                changed = view.changed() => changed.is_ok(),
                _ = nodes.changed() => false,
            };
            if !same_node {
                break;
            }
        }
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn state(node: &Node) -> v1::MountState {
    let credentials = node.credentials();
    v1::MountState {
        version: version(),
        identity: Some(credentials.identity().into()),
        members: node.view().members().iter().map(Into::into).collect(),
        export: Some(node.export().into()),
        plaintext: node.is_plaintext(),
    }
}
