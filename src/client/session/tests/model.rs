//! The world of the tests: one session, a server with a reply cache, two connections that can break
//! before or after what is under way, and a clock that stands until it is moved.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::session::{
    Action, Ask, Event, Lane, Limits, Note, RequestIds, Session, Submission,
};
pub(super) use crate::client::testing::server::{Server, file, proof};
use crate::clock;
use crate::types::op::{Operation, Outcome};
use crate::types::{Caller, Errno, Leases, RequestId, Verifier};
use crate::wire::{Reply, Request};

/// One connection that is up: what is under way in each direction.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) requests: VecDeque<Request>,
    pub(super) replies: VecDeque<Reply>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) session: Session,
    pub(super) ids: RequestIds,
    pub(super) server: Server,
    pub(super) lines: HashMap<Lane, Line>,
    pub(super) asked: BTreeMap<RequestId, Operation>,
    pub(super) answers: HashMap<RequestId, Result<Outcome, Errno>>,
    pub(super) given_up: HashSet<RequestId>,
    pub(super) cancelled: Vec<RequestId>,
    pub(super) notes: Vec<Note>,
    pub(super) renewals: Vec<RequestId>,
    pub(super) extended: Vec<Duration>,
    pub(super) leases: HashMap<RequestId, Leases>,
    began: Instant,
}

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        let ids = RequestIds::default();
        Self {
            now: clock::now(),
            session: Session::new(
                Limits { control: 3, bulk: 2, pages: 2, lock_waits: 2 },
                ids.clone(),
            ),
            ids,
            server: Server::new(),
            lines: HashMap::new(),
            asked: BTreeMap::new(),
            answers: HashMap::new(),
            given_up: HashSet::new(),
            cancelled: Vec::new(),
            notes: Vec::new(),
            renewals: Vec::new(),
            extended: Vec::new(),
            leases: HashMap::new(),
            began: clock::now(),
        }
    }

    /// The clock of leases, which began with the world.
    pub(super) fn boot(&self) -> Duration {
        self.now.duration_since(self.began)
    }

    pub(super) fn step(&mut self, event: Event) {
        for action in self.session.step(self.now, self.boot(), event) {
            match action {
                Action::Send { lane, request, .. } => self
                    .lines
                    .get_mut(&lane)
                    .unwrap_or_else(|| unreachable!("sent over a connection that is down"))
                    .requests
                    .push_back(request),
                Action::Cancel(lane, id) => {
                    assert!(self.lines.contains_key(&lane));
                    self.cancelled.push(id);
                }
                Action::Renew(id) => self.renewals.push(id),
                Action::Extended(sent) => self.extended.push(sent),
                Action::Answer(id, answer) => {
                    self.leases.insert(id, answer.leases);
                    let result = answer.result;
                    assert!(!self.given_up.contains(&id), "{id} was given up, and answered");
                    let before = self.answers.insert(id, result);
                    assert_eq!(before, None, "{id} is answered twice");
                }
                Action::Close(lane) => self.cut(lane),
                Action::Note(note) => self.notes.push(note),
            }
        }
    }

    pub(super) fn submit(&mut self, operation: impl Into<Operation>) -> RequestId {
        self.submit_with(operation, Some(PATIENCE))
    }

    pub(super) fn submit_with(
        &mut self,
        operation: impl Into<Operation>,
        patience: Option<Duration>,
    ) -> RequestId {
        let operation = operation.into();
        let id = self.ids.draw();
        self.asked.insert(id, operation.clone());
        let caller = Arc::new(Caller::root());
        let ask = Ask::Operation(operation);
        self.step(Event::Submit(Submission { id, caller, ask, patience }));
        id
    }

    pub(super) fn give_up(&mut self, id: RequestId) {
        if !self.answers.contains_key(&id) && self.given_up.insert(id) {
            self.step(Event::GiveUp(id));
        }
    }

    /// A connection comes up.
    pub(super) fn connect(&mut self, lane: Lane) {
        if lane == Lane::Bulk && !self.lines.contains_key(&Lane::Control) {
            return; // the driver makes it only beside a control connection
        }
        if let Place::Vacant(place) = self.lines.entry(lane) {
            place.insert(Line::default());
            let welcome = Arc::new(self.server.welcome());
            self.step(Event::Up(lane, welcome));
        }
    }

    /// The server executes the oldest request under way.
    pub(super) fn serve(&mut self, lane: Lane) -> bool {
        let Some(line) = self.lines.get_mut(&lane) else { return false };
        let Some(request) = line.requests.pop_front() else { return false };
        let reply = self.server.serve(&request);
        line.replies.push_back(reply);
        true
    }

    /// The oldest reply under way arrives.
    pub(super) fn hear(&mut self, lane: Lane) -> bool {
        let reply = self.lines.get_mut(&lane).and_then(|line| line.replies.pop_front());
        let Some(reply) = reply else { return false };
        self.step(Event::Reply(reply));
        true
    }

    /// The server answers that it heard that the client lives.
    pub(super) fn answer_renewal(&mut self, id: RequestId) {
        let (verifier, leases) = (Verifier(self.server.verifier), Leases::empty());
        let result = Ok(Outcome::Done(()));
        self.step(Event::Reply(Reply { id, verifier, leases, result }));
    }

    /// The connection breaks; what is under way is lost in both directions.
    pub(super) fn cut(&mut self, lane: Lane) {
        if self.lines.remove(&lane).is_some() {
            self.step(Event::Down(lane));
        }
    }

    /// The connection breaks after the server has got, and executed, all that was sent.
    pub(super) fn cut_late(&mut self, lane: Lane) {
        while self.serve(lane) {}
        self.cut(lane);
    }

    pub(super) fn restart(&mut self) {
        self.server.restart();
        self.cut(Lane::Bulk);
        self.cut(Lane::Control);
    }

    /// Everything works from now on, until nothing is left to do.
    pub(super) fn run_dry(&mut self) {
        self.step(Event::Back);
        for _ in 0..10_000 {
            self.connect(Lane::Control);
            self.connect(Lane::Bulk);
            let mut moved = false;
            for lane in [Lane::Control, Lane::Bulk] {
                moved |= self.serve(lane) | self.hear(lane);
            }
            if !moved && self.lines.len() == 2 {
                return;
            }
        }
        unreachable!("the session does not come to rest: {:?}", self.session);
    }

    /// How often an operation was executed.
    pub(super) fn times_done(&self, operation: &Operation) -> usize {
        self.server.done.iter().filter(|done| *done == operation).count()
    }
}
