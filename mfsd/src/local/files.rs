//! The file service on the local socket, for the mounts of this machine: there while this machine is in
//! a cluster, and only for root.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Code, Status};

use crate::daemon::Daemon;
use crate::node::Node;
use crate::peer::{self, Origin, Peer};

/// Hands requests on to the file service of the node that this machine is at that moment.
#[derive(Clone)]
pub(super) struct LocalFiles {
    daemon: Arc<Daemon>,
}

// === impl LocalFiles ===

impl LocalFiles {
    pub(super) const fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon }
    }

    /// The node, if the caller may ask for files.
    fn admit(&self, request: &http::Request<Body>) -> Result<Arc<Node>, Status> {
        let info = request.extensions().get::<UdsConnectInfo>();
        if info.and_then(|info| info.peer_cred).is_none_or(|caller| caller.uid() != 0) {
            let sentence = "only root's mounts are served over the local socket";
            return Err(Status::new(Code::PermissionDenied, sentence));
        }
        self.daemon.node().ok_or_else(|| Status::unavailable("this machine is in no cluster"))
    }
}

impl NamedService for LocalFiles {
    const NAME: &'static str = mfs_proto::v1::files_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for LocalFiles {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match self.admit(&request) {
            Ok(node) => {
                let own = node.credentials().identity().node();
                request.extensions_mut().insert(Peer {
                    node: own,
                    origin: Origin::LocalMount,
                    connection: peer::number_connection(),
                });
                node.files.server().call(request)
            }
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}
