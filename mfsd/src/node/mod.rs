//! `Node`: what runs while this machine is in a cluster: the port, the services on it, the export,
//! membership.

mod parts;
mod register;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use mfs::config::{Config, Transport};
use mfs::identity::{ClusterKeys, ClusterSettings, Credentials, Enrolment, Store};
use mfs::membership::{Contact, Member, Tag, View};
use mfs::net::interfaces;
use mfs::net::local::MountExport;
use mfs::types::{KernelFeature, NodeId};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tracing::{info, warn};

use crate::cluster::authority::Desk;
use crate::cluster::membership::Membership;
use crate::cluster::renewal;
use crate::connections::Connections;
use crate::daemon::Daemon;
use crate::jobs::Jobs;
use crate::load::{self, Loads};
use crate::peer::{Origin, Peer};
use crate::rpc::{ExportTree, FilesService, Instance};

/// The file service as this daemon runs it.
pub(crate) type Files = Arc<FilesService<ExportTree>>;

/// This machine as a node of its cluster.
///
/// Lock order: `registering`, then the channels, which are never held across anything.
pub(crate) struct Node {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// Where the membership is kept.
    pub(crate) store: Store,
    /// What holds for the whole cluster.
    pub(crate) settings: ClusterSettings,
    /// The authority, where this node holds its key.
    pub(crate) desk: Option<Desk>,
    /// Every connection from the network.
    pub(crate) connections: Arc<Connections>,
    /// Ends everything that this node runs.
    pub(crate) stop: CancellationToken,
    /// Everything that this node runs.
    pub(crate) tasks: TaskTracker,
    /// Where the others find this node.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The file service.
    pub(crate) files: Files,
    /// Jobs that were started here, or run here.
    pub(crate) jobs: Arc<Jobs>,
    /// How busy the nodes are, and what is wanted of this one.
    pub(crate) loads: Arc<Loads>,
    /// What this machine's kernel does not have, and so is off.
    pub(crate) without: Vec<KernelFeature>,
    export: MountExport,
    credentials: watch::Sender<Arc<Credentials>>,
    keys: watch::Sender<ClusterKeys>,
    /// Set once, when everything that it calls exists.
    membership: OnceLock<Membership>,
    /// The view before membership runs: this node alone.
    alone: watch::Receiver<View>,
    /// Held while the register changes.
    registering: Mutex<()>,
}

/// Where views of jobs are built, in the runtime directory.
const JOBS: &str = "jobs";

// === settings of the HTTP/2 server, the same on both sockets ===

/// Largest HTTP/2 frame, bytes: a whole read or write.
const MAX_FRAME: u32 = 1 << 20;

/// Window of one stream, bytes.
const STREAM_WINDOW: u32 = 4 << 20;

/// Window of one connection, bytes.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How often a silent connection is asked whether it lives, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// A server with the settings that all of mfsd's have.
pub(crate) fn server() -> Server {
    Server::builder()
        .max_frame_size(MAX_FRAME)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}

// === impl Node ===

impl Node {
    /// Begins to serve on the listeners. `members` are those that a joiner was told of.
    pub(crate) async fn start(
        daemon: &Arc<Daemon>,
        enrolment: Enrolment,
        listeners: Vec<TcpListener>,
        members: Vec<Member>,
    ) -> anyhow::Result<Arc<Self>> {
        let config = daemon.config.clone();
        let Enrolment { identity, settings, keys, seal } = enrolment;
        let desk = Desk::open(&daemon.store, identity.trust().cluster())?;
        let interface = config.interface.as_deref();
        let addresses = interfaces::advertised(&config.listen, &config.addresses, interface);
        let export = MountExport {
            path: config.export.path.clone(),
            read_only: config.export.read_only,
            hidden: config.export.hidden.clone(),
            state_dir: daemon.store.state_dir().to_owned(),
            seal,
            inodes: keys.inodes.clone(),
            without: config.without.clone(),
        };
        let me = identity.node();
        let served = parts::open_export(&export, config.export.squash, me)
            .await
            .with_context(|| config.place_of("export.path"))?;
        let without = parts::goes_without(&served, &config.without);
        let credentials = Credentials::new(identity)?;
        let instance = Instance::begin()?;
        let runtime = &daemon.runtime;
        let node = Arc::new_cyclic(|node| Self {
            files: parts::files(
                credentials.identity(),
                instance,
                served,
                &export.path,
                runtime,
                node.clone(),
            ),
            jobs: Jobs::new(
                runtime.join(JOBS),
                daemon.store.state_dir().to_owned(),
                daemon.criu.clone(),
            ),
            loads: Loads::new(Tag::of(me), &daemon.store),
            without,
            config,
            store: daemon.store.clone(),
            settings,
            desk,
            connections: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            addresses,
            export,
            credentials: watch::Sender::new(Arc::new(credentials)),
            keys: watch::Sender::new(keys),
            membership: OnceLock::new(),
            alone: watch::Sender::new(View::new(me, [])).subscribe(),
            registering: Mutex::new(()),
        });
        let (teller, heard) = load::channel();
        node.begin_membership(members, teller)?;
        Loads::begin(&node, heard);
        node.serve(listeners);
        renewal::spawn(&node);
        node.retire_old_key();
        node.announce();
        Ok(node)
    }

    fn announce(&self) {
        let credentials = self.credentials();
        let identity = credentials.identity();
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        info!(
            "node {} (number {}) of cluster {}, at {}",
            identity.name(),
            identity.number(),
            identity.trust().cluster(),
            addresses.join(", "),
        );
    }

    /// Ends everything; what takes longer than `grace` is cut off. With `goodbye` the others are told
    /// that this node does not come back.
    pub(crate) async fn stop(&self, grace: Duration, goodbye: bool) {
        if let Some(membership) = self.membership.get() {
            if goodbye {
                membership.leave().await;
            }
            membership.stop().await;
        }
        self.files.stop();
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            let cut = self.connections.close(|_| true);
            // Their tasks end now by themselves; nothing depends on when.
            warn!("{cut} connections were still in use and are cut off");
        }
    }

    /// Who this node is, now.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.borrow().clone()
    }

    /// The same, to be told of changes.
    pub(crate) fn watch_credentials(&self) -> watch::Receiver<Arc<Credentials>> {
        self.credentials.subscribe()
    }

    /// The members, now and later.
    pub(crate) fn watch_view(&self) -> watch::Receiver<View> {
        self.membership.get().map_or_else(|| self.alone.clone(), Membership::view)
    }

    /// The members, now.
    pub(crate) fn view(&self) -> View {
        self.watch_view().borrow().clone()
    }

    /// Takes what a connection of a mount says of a node.
    pub(crate) fn report(&self, node: NodeId, contact: Contact) {
        if let Some(membership) = self.membership.get() {
            membership.report(node, contact);
        }
    }

    /// Sends a message about loads to a random node.
    pub(crate) fn push(&self, message: Vec<u8>) {
        if let Some(membership) = self.membership.get() {
            membership.push(message);
        }
    }

    /// The shared keys, now.
    pub(crate) fn keys(&self) -> ClusterKeys {
        self.keys.borrow().clone()
    }

    /// What a mount of this machine needs for direct access.
    pub(crate) const fn export(&self) -> &MountExport {
        &self.export
    }

    /// Whether the root of this peer is root here. The name is that of the signed register, never one
    /// that gossip tells.
    pub(crate) fn trusts_root_of(&self, peer: &Peer) -> bool {
        if peer.origin == Origin::LocalMount {
            return true;
        }
        let credentials = self.credentials();
        let known = credentials.identity().trust().register().nodes.get(&peer.node);
        // Admitted a moment ago and not yet known by name: nobody's root is trusted unseen.
        known.is_some_and(|known| self.config.trusts_root_of(&known.name, self.settings.trust_root))
    }

    /// What a node is called in the signed register.
    pub(crate) fn name_of(&self, node: NodeId) -> Option<String> {
        let credentials = self.credentials();
        let known = credentials.identity().trust().register().nodes.get(&node);
        known.map(|known| known.name.to_string())
    }

    /// Whether peers may come without TLS.
    pub(crate) fn is_plaintext(&self) -> bool {
        self.config.transport == Transport::Plaintext
    }

    /// Runs a change of the register alone.
    pub(crate) async fn registering<T>(&self, change: impl Future<Output = T>) -> T {
        let _alone = self.registering.lock().await;
        change.await
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("credentials", &self.credentials()).finish_non_exhaustive()
    }
}
