//! The file service: greets, reads requests, hands them to [`Dispatch`], sends what comes back.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use mfs::clock;
use mfs::failpoint::{self, Point};
use mfs::lease::Terms;
use mfs::sync::Mutex;
use mfs::telemetry::metrics as m;
use mfs::types::op::Entry;
use mfs::types::{Errno, NodeId, NodeName, NodeNumber};
use mfs::wire::{
    Hello, MAX_IO, MAX_MESSAGE, ProtocolCode, Refusal, VersionMismatch, Versions, Welcome, features,
};
use mfs_proto::v1;
use mfs_proto::v1::files_server::{Files, FilesServer};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::coherence::Coherence;
use super::dispatch::{Dispatch, NamesOf};
use super::instance::Instance;
use super::intents::Intents;
use super::ledger::{self, Ledger};
use super::limits::Limits;
use super::lock_waiters::LockWaiters;
use super::once::Once;
use super::run::{Outbox, Outgoing, Permits};
use super::session::{Owner, Session};
use super::session_table::{Attachment, SessionTable};
use super::settling::Settling;
use super::stream::Conversation;
use super::tree::Tree;
use super::writers::Writers;
use crate::peer::{Origin, Peer};

/// Name and version of this software, as greetings show it.
const SOFTWARE: &str = concat!("mfsd ", env!("CARGO_PKG_VERSION"));

/// How often sessions are looked at and locks tried again. A process of this node that releases a lock
/// lets a remote one wait for half of this on average.
const TICK: Duration = Duration::from_millis(50);

/// How often the tree lets go of what nothing uses.
const REST: Duration = Duration::from_secs(5);

/// What the service is told of the node.
#[derive(Debug, Clone)]
pub(crate) struct FilesSettings {
    /// The node.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: NodeName,
    /// Its number.
    pub(crate) number: NodeNumber,
    /// Root of the tree, for people.
    pub(crate) root: PathBuf,
    /// This lifetime of the daemon.
    pub(crate) instance: Instance,
    /// How long a session lives without a stream, and leases without a word of their session.
    pub(crate) lease_term: Duration,
    /// What one peer may make the node hold.
    pub(crate) limits: Limits,
    /// Where to write down who may hold leases, for the next lifetime.
    pub(crate) ledger: Option<PathBuf>,
    /// Where to note what is executed only once.
    pub(crate) intents: Option<PathBuf>,
    /// Where to note who stores into pages of files.
    pub(crate) writers: Option<PathBuf>,
}

/// Whether a peer's root is root here, too. Asked for each stream.
type TrustRoot = Box<dyn Fn(&Peer) -> bool + Send + Sync>;

/// The service of one tree.
pub(crate) struct FilesService<T: Tree> {
    settings: FilesSettings,
    trust_root: TrustRoot,
    ledger: Arc<Ledger>,
    pub(super) sessions: Arc<SessionTable<T>>,
    pub(super) dispatch: Arc<Dispatch<T>>,
    pub(super) stop: CancellationToken,
}

/// The messages of one stream on their way to the transport.
#[derive(Debug)]
pub(crate) struct Replies(mpsc::UnboundedReceiver<Outgoing>);

// === impl FilesService ===

impl<T: Tree> FilesService<T> {
    /// A service of `tree`. Needs [`Self::run`] beside it.
    pub(crate) fn new(settings: FilesSettings, tree: T, trust_root: TrustRoot) -> Arc<Self> {
        let FilesSettings { instance, lease_term, limits, .. } = settings;
        let (ledger, grace) =
            Ledger::open(settings.ledger.clone(), clock::since_boot(), lease_term);
        let intents = Intents::open(settings.intents.as_deref(), instance.verifier, &tree);
        let writers = Writers::open(settings.writers.as_deref(), instance.verifier);
        let terms = Terms {
            term: lease_term,
            patience: limits.patience,
            files_per_session: limits.leased_files,
        };
        let service = Arc::new(Self {
            settings,
            trust_root,
            ledger: Arc::new(ledger),
            sessions: Arc::new(SessionTable::new(limits, lease_term)),
            dispatch: Arc::new(Dispatch {
                tree,
                epoch: instance.epoch,
                verifier: instance.verifier,
                limits,
                settling: Settling::after(grace.as_ref()),
                coherence: Coherence::new(terms, grace, limits.guarded_files, writers),
                neighbours: Arc::default(),
                locks: LockWaiters::default(),
                parked: Mutex::default(),
                once: Once::new(intents),
                parting: Mutex::default(),
                names: OnceLock::new(),
                sweeping: AtomicBool::new(false),
            }),
            stop: CancellationToken::new(),
        });
        let dispatch = Arc::downgrade(&service.dispatch);
        service.dispatch.tree.on_local_changes(Box::new(move || {
            if let Some(dispatch) = dispatch.upgrade() {
                dispatch.notice();
            }
        }));
        let dispatch = Arc::downgrade(&service.dispatch);
        // Who does not return a lease is cut off, and may use it until its term is over.
        let longest = lease_term + limits.patience + Duration::from_secs(1);
        let wake = Box::new(move |files: &[_]| {
            if let Some(dispatch) = dispatch.upgrade() {
                dispatch.coherence.writer_waits(files);
            }
        });
        service.dispatch.tree.on_writers(longest, wake);
        service
    }

    /// Says what nodes are called; once.
    pub(crate) fn call_nodes(&self, names: NamesOf) {
        let _ = self.dispatch.names.set(names);
    }

    /// The service as the transport takes it.
    pub(crate) fn server(self: &Arc<Self>) -> FilesServer<Service<T>> {
        FilesServer::new(Service(Arc::clone(self)))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// Ends sessions whose time is over and lets waiting locks try again, until [`Self::stop`].
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        let mut rests = tokio::time::interval(REST);
        let grace = tokio::time::sleep(self.settings.lease_term);
        tokio::pin!(grace);
        let mut in_grace = true;
        for interval in [&mut ticks, &mut rests] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {
                    self.tick();
                    self.forget_parked();
                }
                _ = rests.tick() => {
                    self.dispatch.review_beside();
                    self.dispatch.review_writers();
                    self.dispatch.coherence.free_mounts(clock::since_boot());
                    self.dispatch.tree.rest(Arc::<Coherence>::clone(&self.dispatch.coherence));
                }
                () = &mut grace, if in_grace => {
                    in_grace = false;
                    let ledger = Arc::clone(&self.ledger);
                    self.dispatch.tree.spawn(Box::new(move || ledger.forget_before()));
                }
            }
        }
    }

    /// Ends all streams after what was begun on them; new ones are refused.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends all sessions of a node that left the cluster.
    pub(crate) fn forget_peer(&self, node: NodeId) {
        for session in self.sessions.end_peer(node) {
            self.dispatch.coherence.cut(session.id);
            self.dispatch.close(&session);
        }
    }

    fn tick(&self) {
        for session in self.sessions.expire(clock::now()) {
            tracing::info!(
                peer = %session.owner.node.short(),
                "a mount of this peer was silent for {} s: its open files are closed, its locks released",
                self.settings.lease_term.as_secs()
            );
            m::SERVER_SESSIONS_EXPIRED.add_one();
            self.dispatch.coherence.cut(session.id);
            self.dispatch.close(&session);
        }
        self.dispatch.settling.tick(clock::since_boot());
        for session in self.dispatch.coherence.tick() {
            for session in self.sessions.end(session) {
                tracing::warn!(
                    peer = %session.owner.node.short(),
                    "a mount of this peer did not give back leases within {} s: its session is ended",
                    self.settings.limits.patience.as_secs()
                );
                self.dispatch.close(&session);
            }
        }
        self.dispatch.sweep_all();
    }

    /// Answers a greeting.
    ///
    /// # Errors
    /// The sentence with which the stream is refused.
    pub(super) async fn greet(
        &self,
        peer: &Peer,
        hello: Hello,
    ) -> Result<(Attachment<T>, Welcome), Refusal> {
        let Some(version) = Versions::OURS.common(hello.versions) else {
            let mismatch = VersionMismatch {
                client: hello.versions,
                client_software: hello.software,
                server: Versions::OURS,
                server_software: SOFTWARE.to_owned(),
            };
            return Err(Refusal::new(ProtocolCode::UnsupportedVersion, mismatch.to_string()));
        };
        if let Some(export) = hello.export.filter(|export| export.get() != 1) {
            return Err(Refusal::new(
                ProtocolCode::UnknownExport,
                format!("{} has no export {export}, only its default one, 1", self.settings.name),
            ));
        }
        let root = self.root().await?;
        let local = matches!(peer.origin, Origin::LocalMount);
        let owner = Owner { node: peer.node, local, incarnation: hello.incarnation };
        let (attachment, evicted) =
            self.sessions.attach(owner, hello.session, || self.dispatch.tree.tenant(peer.node))?;
        if let Some(evicted) = evicted {
            self.dispatch.coherence.cut(evicted.id);
            self.dispatch.close(&evicted);
        }
        if !attachment.resumed {
            self.dispatch.once.intents.begin(attachment.session.id, owner);
        }
        let FilesSettings { node, name, number, instance, lease_term, limits, .. } = &self.settings;
        let welcome = Welcome {
            version,
            features: self.features() & hello.features,
            session: attachment.session.id,
            resumed: attachment.resumed,
            trusts_root: self.trusts_root(peer),
            epoch: instance.epoch,
            verifier: instance.verifier,
            lease_term: *lease_term,
            max_io: MAX_IO,
            slots: limits.slots,
            max_in_flight: u32::try_from(limits.in_flight).unwrap_or(u32::MAX),
            root,
            node: *node,
            name: name.clone(),
            number: *number,
            software: SOFTWARE.to_owned(),
        };
        Ok((attachment, welcome))
    }

    /// The features of the protocol that this node has.
    fn features(&self) -> u64 {
        let leases = if self.dispatch.tree.is_watchable() { features::REMEMBERING } else { 0 };
        leases | if self.dispatch.once.intents.is_kept() { features::REPLIES } else { 0 }
    }

    /// Lets a client be granted leases, whose session has been welcomed over a control stream: recalls go
    /// out over it. Not before it is written down that it may hold some.
    ///
    /// # Errors
    /// The stream is older than one that was greeted before.
    pub(super) async fn remember(
        &self,
        session: &Session<T>,
        peer: &Peer,
        outbox: &Outbox,
    ) -> Result<(), Refusal> {
        let coherence = &self.dispatch.coherence;
        if !session.remembers.load(Ordering::Acquire)
            && let Err(error) = self.write_down(ledger::name_of(&session.owner)).await
        {
            tracing::warn!("mounts remember nothing: cannot write down which: {error}");
            return Ok(());
        }
        if !coherence.attach(session.id, peer.connection, outbox) {
            let message = "the session goes on over a later connection than this one";
            return Err(Refusal::new(ProtocolCode::UnknownSession, message));
        }
        session.remembers.store(true, Ordering::Release);
        if session.ended.is_cancelled() {
            coherence.cut(session.id);
        }
        Ok(())
    }

    async fn write_down(&self, client: u64) -> io::Result<()> {
        let (written, answered) = oneshot::channel();
        let ledger = Arc::clone(&self.ledger);
        self.dispatch.tree.spawn(Box::new(move || {
            // The stream may be gone by now.
            let _ = written.send(ledger.add(client));
        }));
        answered.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// A client has said goodbye: it uses nothing any more.
    pub(super) fn farewell(&self, session: &Session<T>) {
        self.dispatch.coherence.left(session.id);
        self.dispatch.coherence.writers.left(&session.owner);
        if session.remembers.load(Ordering::Acquire) {
            let (ledger, client) = (Arc::clone(&self.ledger), ledger::name_of(&session.owner));
            self.dispatch.tree.spawn(Box::new(move || ledger.remove(client)));
        }
    }

    /// The node.
    pub(super) const fn node(&self) -> NodeId {
        self.settings.node
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        self.settings.name.to_string()
    }

    /// Root of the tree as this node names it.
    pub(super) fn root_path(&self) -> &Path {
        &self.settings.root
    }

    /// Whether root of `peer` is root here. A mount of this node acts for this node's own root.
    pub(super) fn trusts_root(&self, peer: &Peer) -> bool {
        matches!(peer.origin, Origin::LocalMount) || (self.trust_root)(peer)
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    async fn root(&self) -> Result<Entry, Refusal> {
        let (answer, answered) = oneshot::channel();
        let dispatch = Arc::clone(&self.dispatch);
        self.dispatch.tree.spawn(Box::new(move || {
            // The stream may be gone by now.
            let _ = answer.send(dispatch.tree.root());
        }));
        answered.await.unwrap_or(Err(Errno::Io)).map_err(|errno| {
            let message = format!("{} cannot serve its tree: {errno}", self.settings.name);
            Refusal::new(ProtocolCode::UnknownExport, message)
        })
    }
}

/// [`FilesService`] as the generated trait wants it.
pub(crate) struct Service<T: Tree>(Arc<FilesService<T>>);

#[tonic::async_trait]
impl<T: Tree> Files for Service<T> {
    type OperateStream = Replies;

    async fn operate(
        &self,
        request: Request<Streaming<v1::Request>>,
    ) -> Result<Response<Replies>, Status> {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Err(Status::unauthenticated(
                "the file service answers nodes of its cluster only: join it, then connect with the certificate",
            ));
        };
        let (outbox, inbox) = mpsc::unbounded_channel();
        let service = Arc::clone(&self.0);
        tokio::spawn(Conversation::new(service, peer, outbox).hold(request.into_inner()));
        Ok(Response::new(Replies(inbox)))
    }
}

// === impl Replies ===

impl Stream for Replies {
    type Item = Result<v1::Reply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|next| {
            next.map(|Outgoing { message, operation, permits }| {
                drop::<Permits>(permits);
                failpoint::reach(Point::Replied, || operation);
                message
            })
        })
    }
}
