//! The world of the tests: one session, a server with a reply cache, two connections that can break
//! before or after what is under way, and a clock that stands until it is moved.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::session::{
    Action, Ask, Event, Lane, Limits, Note, RequestIds, Session, Submission,
};
use crate::clock;
use crate::types::op::{Entry, LockKind, Operation, Outcome, ReadData, SetLock, Written};
use crate::types::{
    Attr, Caller, Epoch, Errno, FileId, FileKind, InodeNo, Leases, LockOwner, NodeId, NodeName,
    NodeNumber, OpenId, RequestId, Sequence, SessionId, Slot, Timestamp, Verifier,
};
use crate::wire::{Failure, ProtocolCode, Refusal, Reply, Request, Welcome};

/// What a server does with requests.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) epoch: u64,
    pub(super) session: u64,
    pub(super) verifier: u64,
    pub(super) opens: BTreeMap<OpenId, FileId>,
    pub(super) locks: HashSet<(OpenId, LockOwner)>,
    /// Locks that another client holds.
    pub(super) foreign_locks: HashSet<OpenId>,
    /// Files that are gone.
    pub(super) gone: HashSet<FileId>,
    cache: HashMap<Slot, (Sequence, Reply)>,
    /// What was executed, in order.
    pub(super) done: Vec<Operation>,
}

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
}

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn file(name: &str) -> FileId {
    FileId::from_bytes(Bytes::copy_from_slice(name.as_bytes())).expect("short and not empty")
}

pub(super) fn entry(name: &str) -> Entry {
    let time = Timestamp::default();
    let attr = Attr {
        ino: InodeNo::new(77).expect("not 0"),
        kind: FileKind::Regular,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        block_size: 4_096,
        rdev: (0, 0),
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
    };
    Entry { file: file(name), attr }
}

// === impl Server ===

impl Server {
    fn new() -> Self {
        Self {
            epoch: 1,
            session: 1,
            verifier: 1,
            opens: BTreeMap::new(),
            locks: HashSet::new(),
            foreign_locks: HashSet::new(),
            gone: HashSet::new(),
            cache: HashMap::new(),
            done: Vec::new(),
        }
    }

    /// mfsd was restarted: nothing of the session is left.
    pub(super) fn restart(&mut self) {
        self.epoch += 1;
        self.forget_session();
    }

    /// The session is over, mfsd is not.
    pub(super) fn forget_session(&mut self) {
        self.session += 1;
        self.opens.clear();
        self.locks.clear();
        self.cache.clear();
    }

    fn welcome(&self) -> Welcome {
        Welcome {
            version: 1,
            features: 0,
            session: SessionId::new(self.session).expect("not 0"),
            resumed: true,
            epoch: Epoch::new(self.epoch).expect("not 0"),
            verifier: Verifier(self.verifier),
            lease_term: Duration::from_secs(10),
            max_io: 1 << 20,
            slots: 4,
            max_in_flight: 64,
            root: entry("root"),
            node: NodeId::from_digest([1; 32]),
            name: NodeName::parse("n1").expect("a good name"),
            number: NodeNumber::new(1).expect("not 0"),
            software: String::new(),
        }
    }

    /// Executes a request, or answers it from the reply cache.
    fn serve(&mut self, request: &Request) -> Reply {
        let reply = |result| Reply {
            id: request.id,
            verifier: Verifier(self.verifier),
            leases: Leases::empty(),
            result,
        };
        if request.epoch.get() != self.epoch {
            return reply(Err(refusal(ProtocolCode::StaleEpoch)));
        }
        assert_eq!(request.once.is_some(), request.operation.is_once_only(), "{request:?}");
        if let Some((slot, sequence)) = request.once
            && let Some((last, remembered)) = self.cache.get(&slot)
        {
            assert!(sequence >= *last, "an old sequence number in {request:?}");
            if sequence == *last {
                assert_eq!(remembered.id, request.id, "a repeat is another request");
                return remembered.clone();
            }
        }
        let result = self.execute(&request.operation);
        let reply = Reply {
            id: request.id,
            verifier: Verifier(self.verifier),
            leases: Leases::empty(),
            result,
        };
        if let Some((slot, sequence)) = request.once {
            self.cache.insert(slot, (sequence, reply.clone()));
        }
        reply
    }

    fn execute(&mut self, operation: &Operation) -> Result<Outcome, Failure> {
        for open in crate::client::session::nature::opens_of(operation) {
            if !self.opens.contains_key(&open) {
                return Err(refusal(ProtocolCode::UnknownOpen));
            }
        }
        self.done.push(operation.clone());
        Ok(match operation {
            Operation::MakeDir(_) => Outcome::Entry(entry("made")),
            Operation::Lookup(_) => Outcome::Entry(entry("found")),
            Operation::Open(o) => {
                if self.gone.contains(&o.file) {
                    return Err(Errno::Stale.into());
                }
                self.opens.insert(o.open, o.file.clone());
                Outcome::Attr(entry("opened").attr)
            }
            Operation::Create(o) => {
                self.opens.insert(o.open, file("created"));
                Outcome::Created(entry("created"))
            }
            Operation::Release(o) => {
                self.opens.remove(&o.open);
                self.locks.retain(|(open, _)| *open != o.open);
                Outcome::Done(())
            }
            Operation::Read(_) => Outcome::Data(ReadData { data: Bytes::new() }),
            Operation::Write(o) => Outcome::Written(Written { size: 1, offset: o.offset }),
            Operation::Sync(_) | Operation::Flush(_) => Outcome::Done(()),
            Operation::SetLock(SetLock { open, owner, kind, .. }) => {
                if self.foreign_locks.contains(open) {
                    return Err(Errno::Again.into());
                }
                match kind {
                    LockKind::Unlock => self.locks.remove(&(*open, *owner)),
                    _ => self.locks.insert((*open, *owner)),
                };
                Outcome::Done(())
            }
            other => unreachable!("the tests do not use {other:?}"),
        })
    }
}

fn refusal(code: ProtocolCode) -> Failure {
    Refusal { code, message: String::new() }.into()
}

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        let ids = RequestIds::default();
        Self {
            now: clock::now(),
            session: Session::new(Limits { control: 3, bulk: 2, lock_waits: 2 }, ids.clone()),
            ids,
            server: Server::new(),
            lines: HashMap::new(),
            asked: BTreeMap::new(),
            answers: HashMap::new(),
            given_up: HashSet::new(),
            cancelled: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, event: Event) {
        for action in self.session.step(self.now, event) {
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
                Action::Answer(id, result) => {
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
