//! The local socket: what mfsd does for the `mfs` command and the mounts of its own machine.
//!
//! Who asks is told by the kernel (SO_PEERCRED). Everybody may look, at what is held on files as far as he
//! can reach them; only root may change anything or see keys.

pub(crate) mod asker;
mod files;
mod holdings;
mod mount;
mod service;
mod users;

use std::sync::Arc;

use mfs_proto::v1::local_jobs_server::LocalJobsServer;
use mfs_proto::v1::local_server::LocalServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};
use tracing::error;

use crate::daemon::Daemon;
use crate::jobs::{LocalJobs, MAX_START};
use crate::node;
use service::LocalService;

/// Serves the socket until `stop`.
pub(crate) fn serve(
    daemon: Arc<Daemon>,
    listener: UnixListener,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let stopped = stop.clone().cancelled_owned();
    let files = files::LocalFiles::new(daemon.clone());
    let jobs = LocalJobsServer::new(LocalJobs(daemon.clone())).max_decoding_message_size(MAX_START);
    let local = LocalServer::new(LocalService::new(daemon, stop.clone()));
    tasks.spawn(async move {
        let incoming = UnixListenerStream::new(listener);
        let server = node::server().add_service(local).add_service(files).add_service(jobs);
        let served = server.serve_with_incoming_shutdown(incoming, stopped).await;
        if let Err(error) = served {
            error!("the local socket is not served any more: {error}");
        }
    });
}

/// Refuses all but root.
pub(crate) fn require_root<T>(request: &Request<T>) -> Result<(), Status> {
    let info = request.extensions().get::<UdsConnectInfo>();
    match info.and_then(|info| info.peer_cred).map(|peer| peer.uid()) {
        Some(0) => Ok(()),
        _ => Err(Status::permission_denied("only root may do this: use sudo")),
    }
}
