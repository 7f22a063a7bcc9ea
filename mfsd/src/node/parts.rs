//! Puts the parts of a node together: the export, the file service, the port, membership.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use mfs::config::Squash;
use mfs::export::{self, Abilities, Export, ExportKeys, ExportSettings, FdBudget, Pool};
use mfs::identity::Identity;
use mfs::membership::Member;
use mfs::net::local::MountExport;
use mfs::types::{ExportId, KernelFeature, NodeId};
use mfs_proto::v1::cluster_server::ClusterServer;
use mfs_proto::v1::enrol_server::EnrolServer;
use mfs_proto::v1::jobs_server::JobsServer;
use mfs_proto::v1::moving_locks_server::MovingLocksServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tracing::error;

use super::{Files, Node, register, server};
use crate::cluster::exchange::Exchanger;
use crate::cluster::membership::{Membership, MembershipSettings};
use crate::cluster::services;
use crate::jobs::{MAX_START, PeerJobs, PeerLocks};
use crate::listener::{self, Door};
use crate::peer;
use crate::rpc::{ExportTree, FilesService, FilesSettings, Instance, Limits};

/// How long a session outlives its connection. Longer than a restart of mfsd takes; short enough that a
/// dead client's locks are soon free.
const LEASE_TERM: Duration = Duration::from_secs(10);

/// Who may hold leases, in the runtime directory.
const LEDGER: &str = "leases";

/// What is executed only once, in the runtime directory.
const INTENTS: &str = "intents";
const WRITERS: &str = "writers";

/// Descriptors that all sessions of one peer may hold.
const DESCRIPTORS_PER_PEER: usize = 65_536;

/// Opens the tree that is served. Blocks, so it runs on a thread for that.
pub(super) async fn open_export(
    export: &MountExport,
    squash: Squash,
    home: NodeId,
) -> anyhow::Result<Export> {
    let settings = ExportSettings {
        id: ExportId::FIRST,
        path: export.path.clone(),
        read_only: export.read_only,
        squash: match squash {
            // Whose root is trusted, `Node::trusts_root_of` says.
            Squash::Root | Squash::None => export::Squash::UntrustedRoot,
            Squash::All => export::Squash::All,
        },
        hidden_dirs: vec![export.state_dir.clone()],
        hidden_paths: export.hidden.clone(),
    };
    let keys =
        ExportKeys { seal: *export.seal.as_bytes(), inode_numbers: *export.inodes.as_bytes() };
    let abilities = Abilities::probe().without(&export.without);
    let open = move || Export::open_with(&settings, &keys, home, FdBudget::of_process(), abilities);
    Ok(tokio::task::spawn_blocking(open).await??)
}

/// The first kernel with FUSE passthrough (major, minor).
const PASSTHROUGH_SINCE: (u32, u32) = (6, 9);

/// Kernel features that this node does without: missing, or switched off by the configuration.
pub(super) fn goes_without(export: &Export, off: &[KernelFeature]) -> Vec<KernelFeature> {
    let mut without = export.abilities().missing();
    let uname = rustix::system::uname();
    let missing = kernel_version(&uname.release().to_string_lossy())
        .is_some_and(|version| version < PASSTHROUGH_SINCE);
    if missing || off.contains(&KernelFeature::Passthrough) {
        without.push(KernelFeature::Passthrough);
    }
    without
}

/// Major and minor number of a release such as `6.1.0-28-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The file service of this export.
pub(super) fn files(
    identity: &Identity,
    instance: Instance,
    export: Export,
    root: &Path,
    runtime: &Path,
    node: Weak<Node>,
) -> Files {
    let settings = FilesSettings {
        node: identity.node(),
        name: identity.name().clone(),
        number: identity.number(),
        root: root.to_owned(),
        instance,
        lease_term: LEASE_TERM,
        limits: Limits { guarded_files: export.budget().quarter(), ..Limits::default() },
        ledger: Some(runtime.join(LEDGER)),
        intents: Some(runtime.join(INTENTS)),
        writers: Some(runtime.join(WRITERS)),
    };
    let tree = ExportTree::new(export, Pool::new(Pool::USUAL_THREADS), DESCRIPTORS_PER_PEER);
    let names = node.clone();
    let trust = move |peer: &_| node.upgrade().is_some_and(|node| node.trusts_root_of(peer));
    let files = FilesService::new(settings, tree, Box::new(trust));
    files.call_nodes(Box::new(move |id| names.upgrade()?.name_of(id)));
    files
}

impl Node {
    /// Begins gossip, with the members that a joiner was told of; messages about loads go to `heard`.
    pub(super) fn begin_membership(
        self: &Arc<Self>,
        members: Vec<Member>,
        heard: mpsc::Sender<Vec<u8>>,
    ) -> anyhow::Result<()> {
        let credentials = self.credentials();
        let identity = credentials.identity();
        let trust = identity.trust();
        let config = &self.config;
        let settings = MembershipSettings {
            me: identity.node(),
            listen: config.listen.clone(),
            cluster: *trust.authority()?.as_bytes(),
            keys: register::keyring(&self.keys()).context("there is no gossip key")?,
            roster: register::roster(trust.register()),
            state_dir: self.store.membership_dir(),
            seeds: config.seeds.clone(),
            addresses: config.addresses.clone(),
            interface: config.interface.clone(),
            beacon: config.beacon,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heard,
        };
        let port = config.listen.first().map_or(0, std::net::SocketAddr::port);
        let exchanger = Arc::new(Exchanger::new(Arc::downgrade(self)));
        let membership = Membership::start(settings, exchanger).with_context(|| {
            format!("cannot begin gossip (UDP): `ss -lunp sport = :{port}` shows who has the port")
        })?;
        if !members.is_empty() {
            membership.learn(members);
        }
        // Set only here, once for each node.
        self.membership.set(membership).ok();
        Ok(())
    }

    /// Serves the port until the node stops.
    pub(super) fn serve(self: &Arc<Self>, listeners: Vec<TcpListener>) {
        let door = Door {
            credentials: self.watch_credentials(),
            transport: self.config.transport,
            connections: self.connections.clone(),
        };
        let incoming = listener::accept(listeners, &door, &self.tasks, &self.stop);
        let routes = self.network_services();
        let stopped = self.stop.clone().cancelled_owned();
        self.tasks.spawn(self.files.clone().run());
        self.tasks.spawn(async move {
            let served =
                server().add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await;
            if let Err(error) = served {
                error!("the port is not served any more: {error}");
            }
        });
    }

    /// What is served to the network. Every service but `Enrol` is for nodes of the cluster.
    fn network_services(self: &Arc<Self>) -> Routes {
        let enrol = EnrolServer::new(services::Enrolling::new(self.clone()));
        let cluster = ClusterServer::new(services::Members::new(self.clone()))
            .max_decoding_message_size(services::MAX_MESSAGE);
        Routes::new(enrol)
            .add_service(InterceptedService::new(cluster, peer::require))
            .add_service(InterceptedService::new(self.files.server(), peer::require))
            .add_service(InterceptedService::new(
                JobsServer::new(PeerJobs(self.clone())).max_decoding_message_size(MAX_START),
                peer::require,
            ))
            .add_service(InterceptedService::new(
                MovingLocksServer::new(PeerLocks(self.clone())),
                peer::require,
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_understood() {
        assert_eq!(kernel_version("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(kernel_version("7.2"), Some((7, 2)));
        assert_eq!(kernel_version("x"), None);
    }
}
