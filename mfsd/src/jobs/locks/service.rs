//! The service about locks that move: one short handler for each call.

use std::sync::Arc;

use mfs::wire::locks::{self, ParkLocks};
use mfs_proto::v1;
use mfs_proto::v1::moving_locks_server::MovingLocks;
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::peer::Peer;

/// For the other nodes.
pub(crate) struct PeerLocks(pub(crate) Arc<Node>);

fn peer_of<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::unauthenticated("only nodes of the cluster are answered"))
}

fn malformed(error: mfs::wire::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

// === impl PeerLocks ===

#[tonic::async_trait]
impl MovingLocks for PeerLocks {
    async fn held(
        &self,
        request: Request<v1::HeldLocksRequest>,
    ) -> Result<Response<v1::HeldLocksReply>, Status> {
        let peer = peer_of(&request)?;
        let files = locks::files(request.get_ref()).map_err(malformed)?;
        let held = self.0.files.locks_held_by(peer.node, files.into_iter().collect()).await;
        if held.len() > locks::MAX_LOCKS {
            return Err(Status::resource_exhausted("there are too many locks to tell of"));
        }
        let locks = held.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::HeldLocksReply { locks }))
    }

    async fn park(
        &self,
        request: Request<v1::ParkLocksRequest>,
    ) -> Result<Response<v1::ParkLocksReply>, Status> {
        let peer = peer_of(&request)?;
        let park = ParkLocks::try_from(request.into_inner()).map_err(malformed)?;
        let ParkLocks { token, target, life, locks } = park;
        let parked = self.0.files.park_locks(token, (peer.node, target), life, locks).await;
        parked.map_err(Status::failed_precondition)?;
        Ok(Response::new(v1::ParkLocksReply {}))
    }

    async fn unpark(
        &self,
        request: Request<v1::UnparkLocksRequest>,
    ) -> Result<Response<v1::UnparkLocksReply>, Status> {
        let peer = peer_of(&request)?;
        let token = locks::unparked(request.get_ref()).map_err(malformed)?;
        self.0.files.unpark_locks(token, peer.node).await;
        Ok(Response::new(v1::UnparkLocksReply {}))
    }
}
