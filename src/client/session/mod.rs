//! A session with one node, as a machine without I/O: events in, actions out.
//!
//! It decides what is sent when, over which connection, under which slot and sequence number; what is
//! sent again after a connection broke; what a new session (mfsd was restarted) must establish before
//! anything else; and when a caller is told that it waited long enough. It knows no sockets and no clock:
//! `driver` executes its actions, and any order of events can be tested.
//!
//! What it promises:
//! * Every request submitted is answered exactly once, unless its caller gave it up.
//! * Within a session, an operation that may be executed only once is executed at most once, however
//!   often connections break: a repeat carries the same slot and sequence number.
//! * In a new session an operation whose outcome is unknown and that may not be repeated is sent again with
//!   the name that it had first, so that a server which knows what became of it says so. Where nobody
//!   knows, its caller is answered EIO; everything else goes on.
//! * What the server holds for a caller who gave up (an open, a lock) is given back.

mod callers;
mod locks;
pub(super) mod nature;
mod opens;
mod reclaim;
mod renewal;
mod replies;
mod requests;
mod sending;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::nature::Class;
use self::opens::Opens;
use self::requests::Requests;
use self::slots::Slots;
use crate::client::Answered;
use crate::types::op::{Operation, Outcome};
use crate::types::{Caller, Epoch, Errno, OpenId, RequestId, SessionId, Verifier};
use crate::wire::{Refusal, Reply, Request, Welcome, features};

pub use crate::wire::Purpose as Lane;

/// How long the server is asked to wait for a lock before it says EAGAIN; the caller's side asks again.
/// It bounds how long the server keeps a request of a client that is gone.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How long the server may take to open one file again, or to give one lock back. Nothing else goes on
/// meanwhile, so one file that hangs must not hold up the rest for ever.
pub const RECLAIM_PATIENCE: Duration = Duration::from_secs(20);

/// How long the server is asked to wait for a lock that is taken again in a new session. While mfsd was
/// away nothing held it, so that a process of its node which only tried it (`flock -n`) may have it for a
/// moment; one that holds it longer has it for good, and the program that lost it is told by EIO.
pub const RELOCK_WAIT: Duration = Duration::from_secs(2);

/// What a caller wants of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// This operation.
    Operation(Operation),
    /// The root of its tree, once there is a session. Nothing is sent for it.
    Root,
}

/// A request of a caller.
#[derive(Debug)]
pub struct Submission {
    /// From [`RequestIds`]; the answer names it.
    pub id: RequestId,
    /// On whose behalf.
    pub caller: Arc<Caller>,
    /// What.
    pub ask: Ask,
    /// How long the caller waits; `None`: for ever, also while the node is away.
    pub patience: Option<Duration>,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Event {
    /// A caller wants something.
    Submit(Submission),
    /// A caller does not wait any more; there will be no answer to it.
    GiveUp(RequestId),
    /// A connection is up, and greeted with this.
    Up(Lane, Arc<Welcome>),
    /// A connection is gone. Nothing that was received over it follows.
    Down(Lane),
    /// A reply came.
    Reply(Reply),
    /// Something is held on lease, and nothing else was sent for a while.
    Renew,
    /// The node is away: callers are told so at once, except those that wait for ever.
    Away(Errno),
    /// The node may be there again.
    Back,
    /// Time has passed.
    Tick,
}

/// What is to be done for a session, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the request over a connection that is up.
    Send {
        /// Which connection.
        lane: Lane,
        /// What.
        request: Request,
        /// Whether it was sent before.
        again: bool,
    },
    /// Tell the server that nobody waits for this request any more.
    Cancel(Lane, RequestId),
    /// Tell the server that this client lives.
    Renew(RequestId),
    /// A request that was sent at this time has been answered; comes before its `Answer`.
    Extended(Duration),
    /// Tell the caller, with the leases that were granted.
    Answer(RequestId, Answered<Outcome>),
    /// Cut the connection; `Down` follows.
    Close(Lane),
    /// Something happened that a person should be able to find out.
    Note(Note),
}

/// What the log and the counters should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A new session began, with so many opens to establish again.
    Begun {
        /// Opens of the session before.
        opens: usize,
    },
    /// The session goes on over a new connection.
    Resumed,
    /// An open or a lock is established again.
    Reclaimed,
    /// An open or a lock could not be established again; what is done with the open fails.
    NotReclaimed(OpenId, Errno),
    /// Nobody knows whether this was done; its caller was told EIO.
    Unknown(&'static str),
    /// The server may have lost writes that were not synced.
    WritesLost,
    /// The server refused a request as malformed or the like; one of the two has a fault.
    Refused(&'static str, Refusal),
}

/// Where request ids come from: shared by the callers and the session, counting up.
#[derive(Debug, Clone)]
pub struct RequestIds(Arc<AtomicU64>);

/// How many requests may be in flight, by class; the rest queue in the session.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Small requests.
    pub control: usize,
    /// Requests with data, up to 1 MiB each.
    pub bulk: usize,
    /// The same for pages of the kernel's cache.
    pub pages: usize,
    /// Locks that are waited for.
    pub lock_waits: usize,
}

/// The session of this client with one node.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    ids: RequestIds,
    state: State,
    /// Which connections are up.
    control: bool,
    bulk: bool,
    /// What callers are told while the node is away.
    away: Option<Errno>,
    slots: Slots,
    requests: Requests,
    opens: Opens,
    /// Time since the machine was booted, of this step: the clock of leases.
    boot: Duration,
    /// When something was last sent.
    last_sent: Duration,
    /// Renewals that are not answered, and when they were sent.
    renewals: HashMap<RequestId, Duration>,
}

/// How far the session is.
#[derive(Debug, Clone)]
enum State {
    /// No greeting yet.
    New,
    /// A new session with opens of the one before: they come first.
    Reclaiming(Arc<Welcome>),
    /// Everything may be sent.
    Ready(Arc<Welcome>),
}

// === impl RequestIds ===

impl Default for RequestIds {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(RequestId::FIRST.get())))
    }
}

impl RequestIds {
    /// The next one.
    pub fn draw(&self) -> RequestId {
        // A counter of 64 bits does not come round, so it is never 0.
        RequestId::new(self.0.fetch_add(1, Ordering::Relaxed)).unwrap_or(RequestId::FIRST)
    }
}

// === impl Limits ===

impl Default for Limits {
    /// 32 requests with data keep a connection of 10 Gb/s and 2 ms busy and hold 32 MiB at most; as many may
    /// be added for pages; small
    /// requests cost little, so their limit only keeps a queue from forming at the server.
    fn default() -> Self {
        Self { control: 128, bulk: 32, pages: 32, lock_waits: 96 }
    }
}

// === impl Session ===

impl Session {
    /// A session that has not begun.
    pub fn new(limits: Limits, ids: RequestIds) -> Self {
        Self {
            limits,
            ids,
            state: State::New,
            control: false,
            bulk: false,
            away: None,
            slots: Slots::default(),
            requests: Requests::default(),
            opens: Opens::default(),
            boot: Duration::ZERO,
            last_sent: Duration::ZERO,
            renewals: HashMap::new(),
        }
    }

    /// Takes an event at `now`, which is `boot` since the machine was booted, and says what is to be done.
    pub fn step(&mut self, now: Instant, boot: Duration, event: Event) -> Vec<Action> {
        self.boot = boot;
        let mut out = Vec::new();
        match event {
            Event::Submit(submission) => self.submit(now, submission, &mut out),
            Event::GiveUp(id) => self.give_up(id, &mut out),
            Event::Up(lane, welcome) => self.up(now, lane, welcome, &mut out),
            Event::Down(lane) => self.down(lane),
            Event::Reply(reply) => self.reply(reply, &mut out),
            Event::Renew => self.renew(&mut out),
            Event::Away(errno) => self.go_away(errno, &mut out),
            Event::Back => self.away = None,
            Event::Tick => {}
        }
        while let Some(id) = self.requests.take_overdue(now) {
            self.time_out(id, &mut out);
        }
        self.pump(now, &mut out);
        out
    }

    /// When `Tick` is due, if ever.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.requests.next_deadline()
    }

    /// The session and epoch to greet with; `None` before the first greeting.
    pub fn identity(&self) -> Option<(SessionId, Epoch)> {
        self.welcome().map(|welcome| (welcome.session, welcome.epoch))
    }

    /// Whether there is something to do over a connection, or something the server holds for it.
    pub fn wants_connection(&self) -> bool {
        !self.requests.is_empty() || !self.opens.is_empty()
    }

    /// Whether requests with data wait, so that the connection for them is worth making.
    pub fn wants_bulk(&self) -> bool {
        self.requests.has(Class::Bulk) || self.requests.has(Class::Pages)
    }

    /// Whether something was sent that a node answers soon; a lock that is waited for is not.
    pub fn awaits_answer(&self) -> bool {
        let soon = [Class::Reclaim, Class::Control, Class::Pages, Class::Bulk];
        let waits = soon.into_iter().any(|class| self.requests.in_flight(class) > 0);
        waits || !self.renewals.is_empty()
    }

    fn welcome(&self) -> Option<&Arc<Welcome>> {
        match &self.state {
            State::New => None,
            State::Reclaiming(welcome) | State::Ready(welcome) => Some(welcome),
        }
    }

    /// Whether the server can say what became of requests of the session before.
    fn knows_replies(&self) -> bool {
        self.welcome().is_some_and(|welcome| welcome.features & features::REPLIES != 0)
    }

    /// Whether a connection is up, and greeted.
    pub const fn is_up(&self, lane: Lane) -> bool {
        match lane {
            Lane::Control => self.control,
            Lane::Bulk => self.bulk,
        }
    }

    const fn set_up(&mut self, lane: Lane, up: bool) {
        match lane {
            Lane::Control => self.control = up,
            Lane::Bulk => self.bulk = up,
        }
    }

    fn limit(&self, class: Class) -> usize {
        match class {
            Class::Reclaim | Class::Control => self.limits.control,
            // Each takes a slot, and unlocking needs one.
            Class::LockWait => self.limits.lock_waits.min(self.slots.count().div_ceil(2)),
            Class::Bulk => self.limits.bulk,
            Class::Pages => self.limits.pages,
        }
    }

    /// Writes that were not synced may be lost when the verifier is another one than before.
    fn check_verifier(&mut self, verifier: Verifier, out: &mut Vec<Action>) {
        let (State::Ready(welcome) | State::Reclaiming(welcome)) = &mut self.state else { return };
        if welcome.verifier != verifier {
            Arc::make_mut(welcome).verifier = verifier;
            self.opens.lose_writes();
            out.push(Action::Note(Note::WritesLost));
        }
    }
}
