//! The services `Enrol`, for machines that join, and `Cluster`, for nodes.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use mfs::clock;
use mfs::config::accounts::Accounts;
use mfs::identity::ClusterKeys;
use mfs::load::Wish;
use mfs::telemetry::Snapshot;
use mfs::telemetry::instruments::Keeper;
use mfs::types::{Caller, Errno, FileName, NodeNumber};
use mfs::wire::cluster as wire;
use mfs_proto::v1;
use mfs_proto::v1::cluster_server::Cluster;
use mfs_proto::v1::enrol_server::Enrol;
use tonic::{Request, Response, Status};
use tracing::info;

use super::authority::{Candidate, internal};
use super::removal;
use crate::node::Node;
use crate::peer::{Connection, Peer};
use crate::rpc::Names;

/// Largest message between nodes, bytes: the register of 65,535 nodes fits.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// Most names of a path: no longer one can be given to the kernel (PATH_MAX).
const MAX_NAMES: usize = 2_048;

/// `Enrol`.
pub(crate) struct Enrolling {
    node: Arc<Node>,
}

/// `Cluster`.
pub(crate) struct Members {
    node: Arc<Node>,
}

/// What a node says that is asked for what only the authority can do.
const NO_AUTHORITY: &str =
    "this node does not hold the authority's key; `mfs nodes -v` shows which one does";

/// The users and groups of this machine.
pub(crate) fn accounts() -> Accounts {
    Accounts::read(Path::new("/etc/passwd"), Path::new("/etc/group")).unwrap_or_default()
}

/// The counters of this node.
pub(crate) fn stats(node: Option<&Node>) -> v1::StatsReply {
    let name = node.map(|node| node.credentials().identity().name().to_string());
    v1::StatsReply {
        node: name.unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        json: Snapshot::take(Keeper::Daemon).to_json(),
    }
}

/// Who holds what on a file of this node; `trusted`: the caller's root is root here.
pub(crate) async fn holdings(
    node: &Node,
    caller: Caller,
    trusted: bool,
    path: Vec<FileName>,
) -> Result<v1::HoldingsReply, Status> {
    let found = node.files.holdings(caller, trusted, path, names(node)).await;
    found.map_err(|errno| match errno {
        Errno::NoEnt | Errno::NotDir => Status::not_found(errno.to_string()),
        Errno::Access | Errno::Perm => Status::permission_denied(errno.to_string()),
        _ => Status::failed_precondition(errno.to_string()),
    })
}

/// The locks at this node.
pub(crate) async fn locks(node: &Node, caller: Caller, trusted: bool) -> v1::LocksReply {
    node.files.locks(caller, trusted, names(node)).await
}

/// Changes how this node lends itself.
pub(crate) async fn lend(node: &Node, request: v1::LendRequest) -> Result<v1::LendReply, Status> {
    let wish = Wish::try_from(request).map_err(malformed)?;
    let speed = node.loads.wish(&node.store, wish).await.map_err(internal)?;
    Ok(v1::LendReply { speed: speed.units() })
}

fn names(node: &Node) -> Names {
    let view = node.view();
    view.members().iter().map(|member| (member.id, member.name.to_string())).collect()
}

fn caller(caller: Option<v1::Caller>) -> Result<Caller, Status> {
    let caller = caller.ok_or_else(|| Status::invalid_argument("field `caller` must be set"))?;
    Caller::try_from(caller).map_err(malformed)
}

/// The time of day, milliseconds since 1970.
pub(crate) fn unix_millis() -> i64 {
    let now = clock::time_of_day().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// What is said of a message that breaks the rules of the protocol.
pub(crate) fn malformed(error: mfs::wire::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn peer_of<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::unauthenticated("only nodes of the cluster are answered"))
}

// === impl Enrolling ===

impl Enrolling {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Enrol for Enrolling {
    async fn greet(
        &self,
        _: Request<v1::GreetRequest>,
    ) -> Result<Response<v1::GreetReply>, Status> {
        let node = &self.node;
        let view = node.view();
        let authorities = node.settings.authorities.iter().filter_map(|id| view.by_id(*id));
        Ok(Response::new(v1::GreetReply {
            admits: node.desk.is_some(),
            authorities: authorities.flat_map(|m| wire::address_texts(&m.addresses)).collect(),
            name: node.credentials().identity().name().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unix_millis: unix_millis(),
        }))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        let from = request.extensions().get::<Connection>().map(|c| c.remote.ip().to_canonical());
        let from = from.ok_or_else(|| internal("the connection has no address"))?;
        let request = request.into_inner();
        let node = &self.node;
        let desk = node.desk.as_ref().ok_or_else(|| Status::failed_precondition(NO_AUTHORITY))?;
        let number = u16::try_from(request.number)
            .map_err(|_| Status::invalid_argument("a node number is at most 65535"))?;
        let addresses =
            wire::addresses("JoinRequest.addresses", &request.addresses).map_err(malformed)?;
        let candidate = Candidate {
            secret: request.secret.to_vec(),
            request: request.request.to_vec(),
            name: request.name,
            number: NodeNumber::new(number),
            addresses,
            from,
        };
        let theirs = Accounts::try_from(request.accounts.unwrap_or_default()).map_err(malformed)?;
        let admitted = desk.admit(node, &candidate).await?;
        let credentials = node.credentials();
        let identity = credentials.identity();
        let mine = identity.name().as_str();
        Ok(Response::new(v1::JoinReply {
            chain: wire::chain_bytes(&admitted.chain),
            anchors: wire::chain_bytes(identity.trust().anchors()),
            register: Some(identity.trust().signed_register().into()),
            keys: Some((&node.keys()).into()),
            settings: Some((&node.settings).into()),
            members: node.view().members().iter().map(Into::into).collect(),
            warnings: accounts().differences(mine, &theirs, admitted.name.as_str()),
        }))
    }
}

// === impl Members ===

impl Members {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Cluster for Members {
    async fn exchange(
        &self,
        request: Request<v1::ExchangeRequest>,
    ) -> Result<Response<v1::ExchangeReply>, Status> {
        peer_of(&request)?;
        let credentials = self.node.credentials();
        let trust = credentials.identity().trust();
        let newer = trust.register().epoch > request.get_ref().epoch;
        Ok(Response::new(v1::ExchangeReply {
            register: newer.then(|| trust.signed_register().into()),
            keys: newer.then(|| (&self.node.keys()).into()),
            members: self.node.view().members().iter().map(Into::into).collect(),
        }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRequest>,
    ) -> Result<Response<v1::UpdateReply>, Status> {
        let peer = peer_of(&request)?;
        let request = request.into_inner();
        let register = request.register.ok_or_else(|| {
            Status::invalid_argument("field `UpdateRequest.register` must be set")
        })?;
        let keys = request.keys.map(ClusterKeys::try_from).transpose().map_err(malformed)?;
        let node = &self.node;
        // The authority signs the register, so it does not matter which node brings it.
        let taken = node.registering(async { node.take_register(register.into(), keys) }).await;
        if taken.map_err(|e| Status::invalid_argument(e.to_string()))? {
            node.cut_off_removed();
            info!("a newer register of nodes came from {}", peer.node.short());
        }
        let epoch = node.credentials().identity().trust().register().epoch;
        Ok(Response::new(v1::UpdateReply { epoch }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewReply>, Status> {
        let peer = peer_of(&request)?;
        let desk = self.node.desk.as_ref();
        let desk = desk.ok_or_else(|| Status::failed_precondition(NO_AUTHORITY))?;
        let chain = desk.renew(&self.node, peer.node, &request.get_ref().request)?;
        Ok(Response::new(v1::RenewReply { chain: wire::chain_bytes(&chain) }))
    }

    async fn depart(
        &self,
        request: Request<v1::DepartRequest>,
    ) -> Result<Response<v1::DepartReply>, Status> {
        let peer = peer_of(&request)?;
        if self.node.desk.is_none() {
            return Err(Status::failed_precondition(NO_AUTHORITY));
        }
        removal::depart(&self.node, peer.node).await?;
        Ok(Response::new(v1::DepartReply {}))
    }

    async fn users(
        &self,
        request: Request<v1::UsersRequest>,
    ) -> Result<Response<v1::UsersReply>, Status> {
        peer_of(&request)?;
        Ok(Response::new(v1::UsersReply { accounts: Some((&accounts()).into()) }))
    }

    async fn stats(
        &self,
        request: Request<v1::StatsRequest>,
    ) -> Result<Response<v1::StatsReply>, Status> {
        peer_of(&request)?;
        Ok(Response::new(stats(Some(&self.node))))
    }

    async fn holdings(
        &self,
        request: Request<v1::HoldingsRequest>,
    ) -> Result<Response<v1::HoldingsReply>, Status> {
        let trusted = self.node.trusts_root_of(&peer_of(&request)?);
        let v1::HoldingsRequest { caller: asker, path } = request.into_inner();
        if path.len() > MAX_NAMES {
            return Err(Status::invalid_argument("field `path` has too many names"));
        }
        let path: Result<Vec<_>, _> = path.into_iter().map(FileName::parse).collect();
        let path = path.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let asker = caller(asker)?;
        holdings(&self.node, asker, trusted, path).await.map(Response::new)
    }

    async fn lend(
        &self,
        request: Request<v1::LendRequest>,
    ) -> Result<Response<v1::LendReply>, Status> {
        let peer = peer_of(&request)?;
        if !self.node.trusts_root_of(&peer) {
            return Err(Status::permission_denied(
                "root of another node is nobody here: run the command on the node itself, or trust that \
                 node's root there ([peer.NAME] trust_root = true in mfsd.toml)",
            ));
        }
        lend(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn locks(
        &self,
        request: Request<v1::LocksRequest>,
    ) -> Result<Response<v1::LocksReply>, Status> {
        let trusted = self.node.trusts_root_of(&peer_of(&request)?);
        let asker = caller(request.into_inner().caller)?;
        Ok(Response::new(locks(&self.node, asker, trusted).await))
    }
}
