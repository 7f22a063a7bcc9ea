//! The requests of a session: those that queue and those in flight, each in exactly one place.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::nature::Class;
use super::{Ask, Lane};
use crate::net::Deadline;
use crate::types::{Caller, OpenId, RequestId, Sequence, Slot};
use crate::wire::Origin;

/// For whom a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A caller waits for the answer.
    Call {
        /// How long it waits at most; `None`: for ever (`hard`).
        patience: Option<Duration>,
    },
    /// Its caller has given up; the answer only tells what is to be undone.
    GivenUp,
    /// Ends something at the server for nobody in particular.
    Cleanup,
    /// Establishes an open, or a lock of it, in a new session.
    Reclaim(OpenId),
}

/// What is known of a request that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Its slot and sequence number, if it may be executed only once.
    pub(super) once: Option<(Slot, Sequence)>,
    /// The clock of `Opens` when it was sent first.
    pub(super) clock: u64,
    /// When it was sent first: its answer, which may be the one to the first, extends leases from then on.
    pub(super) at: Duration,
}

/// One request.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) ask: Ask,
    pub(super) caller: Arc<Caller>,
    pub(super) class: Class,
    pub(super) role: Role,
    /// `None` while it queues.
    pub(super) sent: Option<Sent>,
    /// Where it was sent first, if it may be executed only once and that may have been done.
    pub(super) first: Option<Origin>,
    /// The server did not know its open once already.
    pub(super) reopened: bool,
    deadline: Deadline,
}

/// All requests of a session.
#[derive(Debug, Default)]
pub(super) struct Requests {
    items: HashMap<RequestId, Item>,
    queues: [BTreeSet<RequestId>; Class::ALL.len()],
    flying: [BTreeSet<RequestId>; Class::ALL.len()],
    deadlines: BTreeSet<(Instant, RequestId)>,
}

// === impl Class ===

impl Class {
    /// The connection that its requests take.
    pub(super) const fn lane(self) -> Lane {
        match self {
            Self::Bulk | Self::Pages => Lane::Bulk,
            Self::Reclaim | Self::Control | Self::LockWait => Lane::Control,
        }
    }
}

// === impl Item ===

impl Item {
    /// A request that was not sent yet and has no deadline.
    pub(super) const fn new(ask: Ask, caller: Arc<Caller>, class: Class, role: Role) -> Self {
        Self {
            ask,
            caller,
            class,
            role,
            sent: None,
            first: None,
            reopened: false,
            deadline: Deadline::NEVER,
        }
    }

    /// Until when its caller waits.
    pub(super) const fn deadline(&self) -> Deadline {
        self.deadline
    }
}

// === impl Requests ===

impl Requests {
    /// Puts a new request at the end of its queue.
    pub(super) fn queue(&mut self, id: RequestId, item: Item) {
        self.queues[item.class as usize].insert(id);
        self.items.insert(id, item);
    }

    /// Says until when the caller of a request waits.
    pub(super) fn set_deadline(&mut self, id: RequestId, deadline: Deadline) {
        let Some(item) = self.items.get_mut(&id) else { return };
        if let Some(at) = item.deadline.at() {
            self.deadlines.remove(&(at, id));
        }
        item.deadline = deadline;
        if let Some(at) = deadline.at() {
            self.deadlines.insert((at, id));
        }
    }

    /// Moves a request from its queue to those in flight.
    pub(super) fn mark_sent(&mut self, id: RequestId, sent: Sent) {
        let Some(item) = self.items.get_mut(&id) else { return };
        self.queues[item.class as usize].remove(&id);
        self.flying[item.class as usize].insert(id);
        item.sent = Some(sent);
    }

    /// Puts a request that was in flight back into its queue, where its age gives it its place.
    pub(super) fn requeue(&mut self, id: RequestId) {
        let Some(item) = self.items.get_mut(&id) else { return };
        self.flying[item.class as usize].remove(&id);
        self.queues[item.class as usize].insert(id);
        item.sent = None;
    }

    /// Takes a request out altogether.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<Item> {
        self.set_deadline(id, Deadline::NEVER);
        let item = self.items.remove(&id)?;
        self.queues[item.class as usize].remove(&id);
        self.flying[item.class as usize].remove(&id);
        Some(item)
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Item> {
        self.items.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Item> {
        self.items.get_mut(&id)
    }

    /// The first request of a queue after `after`.
    pub(super) fn next_queued(&self, class: Class, after: Option<RequestId>) -> Option<RequestId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.queues[class as usize].range((from, Bound::Unbounded)).next().copied()
    }

    /// How many requests of a class are in flight.
    pub(super) fn in_flight(&self, class: Class) -> usize {
        self.flying[class as usize].len()
    }

    /// Whether requests of a class queue or are in flight.
    pub(super) fn has(&self, class: Class) -> bool {
        !self.queues[class as usize].is_empty() || !self.flying[class as usize].is_empty()
    }

    /// The requests that were sent over a lane and not answered, the oldest first.
    pub(super) fn flying_on(&self, lane: Lane) -> Vec<RequestId> {
        let classes = Class::ALL.into_iter().filter(|class| class.lane() == lane);
        let mut ids: Vec<_> =
            classes.flat_map(|class| self.flying[class as usize].iter().copied()).collect();
        ids.sort_unstable();
        ids
    }

    /// All requests, the oldest first.
    pub(super) fn ids(&self) -> Vec<RequestId> {
        let mut ids: Vec<_> = self.items.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// When the next deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A request whose deadline has passed at `now`; it keeps none.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<RequestId> {
        let (at, id) = *self.deadlines.first()?;
        if at > now {
            return None;
        }
        self.set_deadline(id, Deadline::NEVER);
        Some(id)
    }
}
