//! The service `Local`: one short handler for each call.

use std::pin::Pin;
use std::sync::Arc;

use mfs::clock;
use mfs::config::Transport;
use mfs::membership::Contact;
use mfs::wire::cluster as wire;
use mfs::wire::locks::restoring_reply;
use mfs_proto::v1;
use mfs_proto::v1::local_server::Local;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{asker, holdings, mount, require_root, users};
use crate::cluster::authority::{Desk, internal};
use crate::cluster::{dial, found, join, removal, renewal, services};
use crate::daemon::Daemon;
use crate::node::Node;

/// `Local`.
pub(super) struct LocalService {
    daemon: Arc<Daemon>,
    stop: CancellationToken,
}

/// Shortest and longest life of a token, seconds: a minute, a year.
const TOKEN_LIFE: std::ops::RangeInclusive<u64> = 60..=366 * 86_400;

/// Most uses of a token.
const MAX_USES: u32 = 65_535;

// === impl LocalService ===

impl LocalService {
    pub(super) const fn new(daemon: Arc<Daemon>, stop: CancellationToken) -> Self {
        Self { daemon, stop }
    }

    fn node(&self) -> Result<Arc<Node>, Status> {
        self.daemon.clustered()
    }
}

fn desk(node: &Node) -> Result<&Desk, Status> {
    node.desk.as_ref().ok_or_else(|| {
        Status::failed_precondition(
            "this node does not hold the authority's key: run the command on the node where the \
             cluster was founded (`mfs nodes -v` shows it)",
        )
    })
}

fn check_token_wishes(uses: u32, seconds: u64) -> Result<(), Status> {
    if !(1..=MAX_USES).contains(&uses) {
        return Err(Status::invalid_argument(format!("a token has 1 to {MAX_USES} uses")));
    }
    if !TOKEN_LIFE.contains(&seconds) {
        return Err(Status::invalid_argument("a token lives a minute to a year"));
    }
    Ok(())
}

#[tonic::async_trait]
impl Local for LocalService {
    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let own = self.daemon.node().map(|node| {
            let credentials = node.credentials();
            let identity = credentials.identity();
            let config = &self.daemon.config;
            v1::OwnNode {
                id: wire::node_id_bytes(identity.node()),
                name: identity.name().to_string(),
                number: identity.number().get().into(),
                cluster: identity.trust().cluster().to_string(),
                authority: node.desk.is_some(),
                trust_root: config.trust_root.unwrap_or(node.settings.trust_root),
                transport: match config.transport {
                    Transport::Tls => "tls",
                    Transport::Plaintext => "plaintext",
                }
                .to_owned(),
                certificate_until: identity.certificate().not_after,
                listen: wire::address_texts(&config.listen),
            }
        });
        Ok(Response::new(v1::StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            node: own,
            without: self.daemon.node().map_or_else(Vec::new, |node| {
                node.without.iter().map(|feature| feature.consequence().to_owned()).collect()
            }),
        }))
    }

    async fn nodes(
        &self,
        _: Request<v1::NodesRequest>,
    ) -> Result<Response<v1::NodesReply>, Status> {
        let node = self.node()?;
        let view = node.view();
        let authorities = node.settings.authorities.iter();
        Ok(Response::new(v1::NodesReply {
            me: wire::node_id_bytes(view.me()),
            members: view.members().iter().map(Into::into).collect(),
            authorities: authorities.map(|id| wire::node_id_bytes(*id)).collect(),
            loads: node.loads.snapshot().cluster.nodes().iter().map(Into::into).collect(),
        }))
    }

    async fn check_users(
        &self,
        _: Request<v1::CheckUsersRequest>,
    ) -> Result<Response<v1::CheckUsersReply>, Status> {
        Ok(Response::new(users::check(&self.node()?).await))
    }

    async fn node_stats(
        &self,
        request: Request<v1::NodeStatsRequest>,
    ) -> Result<Response<v1::StatsReply>, Status> {
        let wanted = request.into_inner().node;
        let node = self.daemon.node();
        if wanted.is_empty() {
            return Ok(Response::new(services::stats(node.as_deref())));
        }
        let node = self.node()?;
        let Some(member) = holdings::member(&node, &wanted)? else {
            return Ok(Response::new(services::stats(Some(&node))));
        };
        let mut client = dial::member(&node, &member)
            .await
            .map_err(|e| Status::failed_precondition(format!("{e:#}")))?;
        client.stats(v1::StatsRequest {}).await
    }

    async fn why(
        &self,
        request: Request<v1::WhyRequest>,
    ) -> Result<Response<v1::HoldingsReply>, Status> {
        let caller = asker::caller(&request)?;
        holdings::why(&self.node()?, caller, request.into_inner()).await
    }

    async fn node_locks(
        &self,
        request: Request<v1::NodeLocksRequest>,
    ) -> Result<Response<v1::LocksReply>, Status> {
        let caller = asker::caller(&request)?;
        holdings::locks(&self.node()?, caller, &request.get_ref().node).await
    }

    async fn init(
        &self,
        request: Request<v1::InitRequest>,
    ) -> Result<Response<v1::InitReply>, Status> {
        require_root(&request)?;
        let request = request.into_inner();
        check_token_wishes(request.token_uses, request.token_seconds)?;
        let daemon = self.daemon.clone();
        // On a task of its own: a caller who goes away must not leave half of it done.
        let founding = tokio::spawn(async move { found::found(&daemon, request).await });
        founding.await.map_err(internal)?.map(Response::new)
    }

    async fn join_cluster(
        &self,
        request: Request<v1::JoinClusterRequest>,
    ) -> Result<Response<v1::JoinClusterReply>, Status> {
        require_root(&request)?;
        let (daemon, request) = (self.daemon.clone(), request.into_inner());
        let joining = tokio::spawn(async move { join::join(&daemon, request).await });
        joining.await.map_err(internal)?.map(Response::new)
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveReply>, Status> {
        require_root(&request)?;
        let (daemon, force) = (self.daemon.clone(), request.get_ref().force);
        let leaving = tokio::spawn(async move { removal::leave(&daemon, force).await });
        let warnings = leaving.await.map_err(internal)??;
        Ok(Response::new(v1::LeaveReply { warnings }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenReply>, Status> {
        require_root(&request)?;
        let request = request.into_inner();
        check_token_wishes(request.uses, request.seconds)?;
        let node = self.node()?;
        let token = desk(&node)?.create_token(request.uses, request.seconds)?;
        let host = node.addresses.first().map_or_else(String::new, |address| {
            // The port is said only where it is not the usual one.
            if address.port() == mfs::config::paths::PORT {
                address.ip().to_string()
            } else {
                address.to_string()
            }
        });
        Ok(Response::new(v1::CreateTokenReply { token: token.to_string(), host }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensReply>, Status> {
        require_root(&request)?;
        let node = self.node()?;
        let tokens = desk(&node)?.tokens();
        let entry = |token: &crate::cluster::tokens::Stored| v1::TokenEntry {
            id: token.id(),
            uses: token.uses,
            created: token.created,
            until: token.until,
        };
        let tokens = tokens.live(clock::unix_seconds()).map(entry).collect();
        Ok(Response::new(v1::ListTokensReply { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenReply>, Status> {
        require_root(&request)?;
        let node = self.node()?;
        desk(&node)?.revoke_token(&request.get_ref().token)?;
        Ok(Response::new(v1::RevokeTokenReply {}))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeReply>, Status> {
        require_root(&request)?;
        let (node, wanted) = (self.node()?, request.into_inner().node);
        desk(&node)?;
        let removing = tokio::spawn(async move { removal::remove(&node, &wanted).await });
        let (name, unreached) = removing.await.map_err(internal)??;
        Ok(Response::new(v1::RemoveNodeReply { name: name.to_string(), unreached }))
    }

    async fn lend_node(
        &self,
        request: Request<v1::LendNodeRequest>,
    ) -> Result<Response<v1::LendReply>, Status> {
        require_root(&request)?;
        holdings::lend(&self.node()?, request.into_inner()).await
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateReply>, Status> {
        require_root(&request)?;
        let until = renewal::renew(&*self.node()?)
            .await
            .map_err(|e| Status::failed_precondition(format!("{e:#}")))?;
        Ok(Response::new(v1::RenewCertificateReply { until }))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportReply>, Status> {
        require_root(&request)?;
        let node = wire::node_id("ReportRequest.node", &request.get_ref().node)
            .map_err(services::malformed)?;
        let contact = match request.get_ref().contact() {
            v1::Contact::Unspecified => {
                return Err(Status::invalid_argument("field `ReportRequest.contact` must be set"));
            }
            v1::Contact::Answered => Contact::Answered,
            v1::Contact::Silent => Contact::Silent,
            v1::Contact::Refused => Contact::Refused,
        };
        self.node()?.report(node, contact);
        Ok(Response::new(v1::ReportReply {}))
    }

    async fn restoring(
        &self,
        request: Request<v1::RestoringRequest>,
    ) -> Result<Response<v1::RestoringReply>, Status> {
        require_root(&request)?;
        let (node, pid) = (self.node()?, request.get_ref().pid);
        let token = tokio::task::spawn_blocking(move || node.jobs.restored.token_of(pid)).await;
        Ok(Response::new(restoring_reply(token.map_err(internal)?)))
    }

    type WatchMountStream =
        Pin<Box<dyn Stream<Item = Result<v1::MountState, Status>> + Send + 'static>>;

    async fn watch_mount(
        &self,
        request: Request<v1::WatchMountRequest>,
    ) -> Result<Response<Self::WatchMountStream>, Status> {
        require_root(&request)?;
        let states = mount::watch(self.daemon.clone(), self.stop.clone());
        Ok(Response::new(Box::pin(states)))
    }
}
