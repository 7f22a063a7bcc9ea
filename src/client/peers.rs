//! `Peers`: this client's sessions with all nodes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Patience;
use super::callers::Callers;
use super::driver::{Command, Driver};
use super::lane::Greeting;
use super::leases::{Answered, Keeper, NodeLeases};
use super::quiet::{OnContact, Quiet};
use super::session::{Ask, Limits, RequestIds, Session, Submission};
use crate::membership::View;
use crate::net::Connector;
use crate::sync::RwLock;
use crate::telemetry::metrics;
use crate::types::op::{Call, Entry, LockKind, Operation, Outcome, SetLock};
use crate::types::{Caller, Errno, ExportId, Incarnation, NodeId, OpenId, RequestId};

/// A server that says at once that a lock is held, although it was asked to wait, is asked again not
/// sooner than after this.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How this client presents itself, and what it may use.
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// Tells this client from the others of its node, and from itself before a restart.
    pub incarnation: Incarnation,
    /// The tree that is wanted of each node; `None`: its default export.
    pub export: Option<ExportId>,
    /// Name and version of the software, for messages of the other side.
    pub software: String,
    /// How much may be in flight to one node.
    pub limits: Limits,
    /// Told what connections say of nodes.
    pub on_contact: Option<OnContact>,
    /// Remembers what leases are granted on; without it none are asked for.
    pub keeper: Option<Keeper>,
}

/// The sessions with all nodes: made when a node is first asked, ended when it leaves the cluster.
/// Connections that are not used are cut, and made again when they are needed.
pub struct Peers {
    config: PeersConfig,
    connector: Arc<dyn Connector>,
    view: watch::Receiver<View>,
    runtime: Handle,
    open_ids: AtomicU64,
    nodes: RwLock<HashMap<NodeId, Door>>,
    callers: Callers,
}

/// The way to the task of one node.
#[derive(Debug, Clone)]
struct Door {
    commands: mpsc::UnboundedSender<Command>,
    ids: RequestIds,
}

/// Tells the session that nobody waits any more, unless there was an answer.
struct Waiting<'a> {
    door: &'a Door,
    id: RequestId,
    answered: bool,
}

// === impl PeersConfig ===

impl PeersConfig {
    /// A client with an incarnation drawn at random, for the default export of each node.
    pub fn new() -> Self {
        Self {
            incarnation: Incarnation::new(rand::random()).unwrap_or(Incarnation::FIRST),
            export: None,
            software: concat!("mfs ", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: Limits::default(),
            on_contact: None,
            keeper: None,
        }
    }
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Peers ===

impl Peers {
    /// A client that finds nodes in `view` and connects to them by `connector`. To be called within the
    /// tokio runtime on which the sessions are to run; it needs I/O and time.
    pub fn new(
        config: PeersConfig,
        connector: Arc<dyn Connector>,
        view: watch::Receiver<View>,
    ) -> Self {
        Self {
            config,
            connector,
            view,
            runtime: Handle::current(),
            open_ids: AtomicU64::new(OpenId::FIRST.get()),
            nodes: RwLock::default(),
            callers: Callers::default(),
        }
    }

    /// A number for an open file on a node, to be used in `Open` or `Create`; never given twice.
    pub fn new_open(&self, _node: NodeId) -> OpenId {
        // A counter of 64 bits does not come round, so it is never 0.
        OpenId::new(self.open_ids.fetch_add(1, Ordering::Relaxed)).unwrap_or(OpenId::FIRST)
    }

    /// Asks `node` for an operation on behalf of `caller`.
    ///
    /// Opens and locks that succeed are remembered, and established again when the node's mfsd is
    /// restarted; `Release` forgets an open. A lock with `wait` is waited for until it is granted or the
    /// caller is interrupted. Dropping the future gives the operation up: what it opened or locked is
    /// given back.
    ///
    /// # Errors
    /// What the node answers; EHOSTDOWN at once while it is away (unless `hard`), ETIMEDOUT when
    /// `patience.timeout` is over, EINTR when the caller is interrupted, EIO for an operation that may
    /// not be repeated when a restart of mfsd leaves unknown whether it was done, and for an open or a
    /// lock that could not be established again.
    pub async fn call<C: Call>(
        &self,
        node: NodeId,
        caller: &Caller,
        call: C,
        patience: &Patience,
    ) -> Result<C::Output, Errno> {
        self.call_leased(node, caller, call, patience).await.result
    }

    /// As [`Self::call`]; also says which leases came with the answer. They count from the moment before
    /// the call, and only if the keeper was not told anything else since.
    pub async fn call_leased<C: Call>(
        &self,
        node: NodeId,
        caller: &Caller,
        call: C,
        patience: &Patience,
    ) -> Answered<C::Output> {
        let Answered { result, leases, is_final } = match call.into() {
            Operation::SetLock(set) if set.wait && set.kind != LockKind::Unlock => {
                Answered::without(self.wait_for_lock(node, caller, set, patience).await)
            }
            operation => self.operate(node, caller, operation, patience).await,
        };
        let result = result.and_then(|outcome| {
            C::answer(outcome).ok_or_else(|| {
                tracing::error!("node {} answered something else than was asked", node.short());
                Errno::Io
            })
        });
        Answered { result, leases, is_final }
    }

    /// The root of the node's tree, as it was when the session began.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn root(&self, node: NodeId, patience: &Patience) -> Result<Entry, Errno> {
        match self.ask(node, &Caller::root(), Ask::Root, patience).await.result? {
            Outcome::Entry(root) => Ok(root),
            _ => Err(Errno::Io),
        }
    }

    /// Ends all sessions: what they have open is closed, their locks are released at once instead of at
    /// the end of their leases. Takes about a second at most. Calls that wait fail with EHOSTDOWN; a later
    /// one begins a new session.
    pub async fn end(&self) {
        let doors: Vec<_> = self.nodes.write().drain().map(|(_, door)| door).collect();
        let mut ends = JoinSet::new();
        for door in doors {
            let (done, ended) = oneshot::channel();
            if door.commands.send(Command::End(done)).is_ok() {
                ends.spawn(ended);
            }
        }
        while ends.join_next().await.is_some() {}
    }

    /// First asks without waiting, so that a free lock does not queue behind those that are held; then
    /// asks the server to wait, again and again.
    async fn wait_for_lock(
        &self,
        node: NodeId,
        caller: &Caller,
        set: SetLock,
        patience: &Patience,
    ) -> Result<Outcome, Errno> {
        let mut wait = false;
        loop {
            let began = tokio::time::Instant::now();
            let attempt = Operation::from(SetLock { wait, ..set.clone() });
            match self.operate(node, caller, attempt, patience).await.result {
                Err(Errno::Again) if !wait => wait = true,
                Err(Errno::Again) if began.elapsed() < LOCK_PAUSE => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(Errno::Again) => {}
                result => return result,
            }
            if patience.is_interrupted() {
                return Err(Errno::Intr);
            }
        }
    }

    async fn operate(
        &self,
        node: NodeId,
        caller: &Caller,
        operation: Operation,
        patience: &Patience,
    ) -> Answered<Outcome> {
        let position = operation.index();
        let writes = matches!(operation, Operation::Write(_));
        let answer = self.ask(node, caller, Ask::Operation(operation), patience).await;
        match &answer.result {
            Err(Errno::HostDown | Errno::TimedOut | Errno::Intr) => {
                metrics::CLIENT_REQUESTS_ABANDONED.add_one(position);
                return answer;
            }
            Ok(Outcome::Data(read)) => metrics::CLIENT_READ_BYTES.add(read.data.len() as u64),
            Ok(Outcome::Written(written)) if writes => {
                metrics::CLIENT_WRITTEN_BYTES.add(u64::from(written.size));
            }
            _ => {}
        }
        metrics::CLIENT_REPLIES_RECEIVED.add_one(position);
        answer
    }

    async fn ask(
        &self,
        node: NodeId,
        caller: &Caller,
        ask: Ask,
        patience: &Patience,
    ) -> Answered<Outcome> {
        let _waiting = metrics::CLIENT_REQUESTS_WAITING.hold();
        let door = match self.door(node) {
            Ok(door) => door,
            Err(errno) => return Answered::without(Err(errno)),
        };
        let id = door.ids.draw();
        let caller = Arc::new(caller.clone());
        let submission = Submission { id, caller, ask, patience: patience.limit() };
        let (answering, answer) = oneshot::channel();
        if door.commands.send(Command::Submit(submission, answering)).is_err() {
            return Answered::without(Err(Errno::HostDown)); // the node left the cluster this moment
        }
        let mut waiting = Waiting { door: &door, id, answered: false };
        tokio::select! {
            biased;
            result = answer => {
                waiting.answered = true;
                result.unwrap_or(Answered::without(Err(Errno::HostDown)))
            }
            () = self.callers.interrupted(patience.interrupted.as_ref()) => {
                Answered::unknown(Errno::Intr)
            }
        }
    }

    /// The way to a node's task, which is started if need be.
    fn door(&self, node: NodeId) -> Result<Door, Errno> {
        let open = |door: &&Door| !door.commands.is_closed();
        if let Some(door) = self.nodes.read().get(&node).filter(open) {
            return Ok(door.clone());
        }
        if self.view.borrow().by_id(node).is_none() {
            self.nodes.write().remove(&node);
            return Err(Errno::HostDown);
        }
        let mut nodes = self.nodes.write();
        if let Some(door) = nodes.get(&node).filter(open) {
            return Ok(door.clone());
        }
        let ids = RequestIds::default();
        let driver = Driver::new(
            node,
            Greeting {
                incarnation: self.config.incarnation,
                export: self.config.export,
                software: self.config.software.clone(),
            },
            Arc::clone(&self.connector),
            self.view.clone(),
            Session::new(self.config.limits, ids.clone()),
            Quiet::new(node, self.config.on_contact.clone()),
            NodeLeases::new(node, self.config.keeper.clone()),
        );
        let (commands, received) = mpsc::unbounded_channel();
        self.runtime.spawn(driver.run(received));
        let door = Door { commands, ids };
        nodes.insert(node, door.clone());
        Ok(door)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("config", &self.config)
            .field("nodes", &self.nodes.read().keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            drop(self.door.commands.send(Command::GiveUp(self.id)));
        }
    }
}
