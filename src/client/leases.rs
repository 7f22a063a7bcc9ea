//! What the client's tasks tell the keeper of leases: what was granted lasts from when to when, and what
//! the server takes back. What is remembered under leases is the keeper's own business.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::telemetry::metrics;
use crate::types::op::Entry;
use crate::types::{Errno, Leases, NodeId};
use crate::wire::{Leased, Recall, ReturnLease, Welcome, features};

/// Whoever remembers what leases were granted on. Called by the task of a node, in the order in which
/// things happen there; must not block.
pub trait LeaseKeeper: Send + Sync {
    /// Whether leases on the files of this node are wanted.
    fn wants(&self, node: NodeId) -> bool;

    /// A connection is up whose answers may grant leases; what was remembered before is to be forgotten.
    fn began(&self, node: NodeId, session: &SessionLeases);

    /// A request that was sent at `sent` has been answered. Comes before the answer does.
    fn extended(&self, node: NodeId, now: Duration, sent: Duration);

    /// The server takes leases back. Says what is not used any more when this returns; the rest is given
    /// back over [`SessionLeases::returns`] as soon as it is not.
    fn recall(&self, node: NodeId, recall: &Recall) -> Vec<Leased>;

    /// The connection is gone: nothing may be used any more.
    fn lost(&self, node: NodeId);

    /// Whether anything is held, so that the term is worth renewing.
    fn is_holding(&self, node: NodeId) -> bool;

    /// Whether anything remembered was used since this was asked last: then the connection is not idle.
    fn was_used(&self, node: NodeId) -> bool;
}

/// The leases of a session.
#[derive(Debug, Clone)]
pub struct SessionLeases {
    /// How long they last from the sending of a request that was answered.
    pub term: Duration,
    /// This client's root is root there, too: it may use what others were told.
    pub trusts_root: bool,
    /// It goes on; what was sent in it before may still be executed.
    pub is_resumed: bool,
    /// Whether it is to be said when what was stored before is written back ([`Returns::settled`]).
    pub settles: bool,
    /// The root of the node's tree.
    pub root: Entry,
    /// The way back for what is not given back at once.
    pub returns: Returns,
}

/// Gives leases back that take time to let go of. Without effect when their connection is gone.
#[derive(Debug, Clone)]
pub struct Returns(mpsc::UnboundedSender<ReturnLease>);

/// What a call brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer itself.
    pub result: Result<T, Errno>,
    /// The leases granted with it, also with an error.
    pub leases: Leases,
    /// Whether it is known what became of the operation. If not it may yet be executed, until the session
    /// is over.
    pub is_final: bool,
}

/// The keeper that a client was given.
#[derive(Clone)]
pub struct Keeper(pub Arc<dyn LeaseKeeper>);

/// The leases on the files of one node, as its task sees them.
#[derive(Debug)]
pub(super) struct NodeLeases {
    node: NodeId,
    keeper: Option<Keeper>,
    /// The term of those that the connection that is up grants.
    granting: Option<Duration>,
    /// What is given back late over the connection that is up.
    returned: Option<mpsc::UnboundedReceiver<ReturnLease>>,
}

// === impl Keeper ===

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}

// === impl Returns ===

impl Returns {
    /// A way, and its end.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<ReturnLease>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Gives back what a recall asked for.
    pub fn give_back(&self, recall: u64, files: Vec<Leased>) {
        let _ = self.0.send(ReturnLease { recall, files }); // the next greeting says it then
    }

    /// Says that what was stored under leases of before has been written back.
    pub fn settled(&self) {
        self.give_back(0, Vec::new());
    }
}

// === impl Answered ===

impl<T> Answered<T> {
    /// An answer that comes without leases; nothing will be done after it.
    pub const fn without(result: Result<T, Errno>) -> Self {
        Self { result, leases: Leases::empty(), is_final: true }
    }

    /// The caller does not wait any more for what was perhaps sent.
    pub const fn unknown(errno: Errno) -> Self {
        Self { result: Err(errno), leases: Leases::empty(), is_final: false }
    }

    /// The same with another view of what was answered.
    pub fn map<U>(self, view: impl FnOnce(T) -> U) -> Answered<U> {
        let Self { result, leases, is_final } = self;
        Answered { result: result.map(view), leases, is_final }
    }
}

// === impl NodeLeases ===

impl NodeLeases {
    pub(super) fn new(node: NodeId, keeper: Option<Keeper>) -> Self {
        let keeper = keeper.filter(|keeper| keeper.0.wants(node));
        Self { node, keeper, granting: None, returned: None }
    }

    /// What the greeting asks for.
    pub(super) const fn features(&self) -> u64 {
        match self.keeper {
            Some(_) => features::REMEMBERING,
            None => 0,
        }
    }

    /// The control connection is up.
    pub(super) fn begin(&mut self, welcome: &Welcome) {
        self.end();
        let Some(keeper) = &self.keeper else { return };
        if welcome.features & features::LEASES != 0 {
            self.granting = Some(welcome.lease_term);
            let (term, trusts_root) = (welcome.lease_term, welcome.trusts_root);
            let (returns, returned) = Returns::new();
            self.returned = Some(returned);
            keeper.0.began(
                self.node,
                &SessionLeases {
                    term,
                    trusts_root,
                    is_resumed: welcome.resumed,
                    settles: welcome.features & features::SETTLES != 0,
                    root: welcome.root.clone(),
                    returns,
                },
            );
        }
    }

    /// The control connection is gone, or about to go. For how long the node may wait for this client, which
    /// may hold something as far as it knows.
    pub(super) fn end(&mut self) -> Option<Duration> {
        self.returned = None;
        let term = self.granting.take();
        if let Some(keeper) = self.keeper.as_ref().filter(|_| term.is_some()) {
            keeper.0.lost(self.node);
        }
        term
    }

    /// A request that was sent at `sent` has been answered.
    pub(super) fn extend(&self, sent: Duration) {
        if let Some(keeper) = self.active() {
            keeper.0.extended(self.node, clock::since_boot(), sent);
        }
    }

    /// Gives back what the server asks for, as far as it is not used any more; also what is not held, or the
    /// server would wait.
    pub(super) fn give_back(&self, recall: Recall) -> Option<ReturnLease> {
        metrics::CLIENT_RECALLS_RECEIVED.add_one();
        let files = match self.active() {
            Some(keeper) => keeper.0.recall(self.node, &recall),
            None => recall.files,
        };
        (!files.is_empty()).then_some(ReturnLease { recall: recall.id, files })
    }

    /// What is given back later than it was asked for; for ever without a connection.
    pub(super) async fn returned(&mut self) -> ReturnLease {
        if let Some(returned) = &mut self.returned
            && let Some(lease) = returned.recv().await
        {
            return lease;
        }
        std::future::pending().await
    }

    /// Whether there is something to renew.
    pub(super) fn is_holding(&self) -> bool {
        self.active().is_some_and(|keeper| keeper.0.is_holding(self.node))
    }

    /// Whether what is held was used since this was asked last.
    pub(super) fn was_used(&self) -> bool {
        self.active().is_some_and(|keeper| keeper.0.was_used(self.node))
    }

    fn active(&self) -> Option<&Keeper> {
        self.keeper.as_ref().filter(|_| self.granting.is_some())
    }
}
