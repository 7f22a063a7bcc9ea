//! A model of the server: sessions, epochs, opens, locks and the reply cache, and no file system.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use crate::client::session::nature;
use crate::types::op::{
    Entry, HeldLock, Listing, LockKind, Opened, Operation, Outcome, ReadData, SetLock, Written,
};
use crate::types::{
    Attr, Epoch, Errno, FileId, FileKind, InodeNo, Leases, LockOwner, NodeId, NodeName, NodeNumber,
    OpenId, OpenProof, Sequence, SessionId, Slot, StatFs, Timestamp, Verifier,
};
use crate::wire::{
    Failure, MAX_IO, Origin, ProtocolCode, Refusal, Reply, Request, ReturnLease, Welcome, features,
};

/// What a server does with requests.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    pub(crate) session: u64,
    pub(crate) verifier: u64,
    pub(crate) opens: BTreeMap<OpenId, FileId>,
    pub(crate) locks: HashSet<(OpenId, LockOwner)>,
    /// Locks that another client holds.
    pub(crate) foreign_locks: HashSet<OpenId>,
    /// Files that are gone.
    pub(crate) gone: HashSet<FileId>,
    /// The features that it has.
    pub(crate) features: u64,
    /// What it grants with every answer to a client that asked for leases.
    pub(crate) leases: Leases,
    /// What was given back to it.
    pub(crate) returned: Vec<ReturnLease>,
    /// How often a client said that it lives.
    pub(crate) renewed: usize,
    cache: HashMap<Slot, (Sequence, Reply)>,
    /// What it notes of requests, by the names that they had first.
    noted: HashMap<Origin, Reply>,
    /// The sessions that were over when it began, of which all is noted.
    over: HashSet<SessionId>,
    /// What was executed, in order.
    pub(crate) done: Vec<Operation>,
}

pub(crate) fn file(name: &str) -> FileId {
    FileId::from_bytes(Bytes::copy_from_slice(name.as_bytes())).expect("short and not empty")
}

/// The proof with which every open is answered.
pub(crate) fn proof() -> Option<OpenProof> {
    OpenProof::from_bytes(Bytes::from_static(b"proof"))
}

fn opened(file: FileId) -> Opened {
    Opened { entry: Entry { file, ..entry("opened") }, proof: proof() }
}

pub(crate) fn entry(name: &str) -> Entry {
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
    pub(crate) fn new() -> Self {
        Self {
            node: NodeId::from_digest([1; 32]),
            epoch: 1,
            session: 1,
            verifier: 1,
            opens: BTreeMap::new(),
            locks: HashSet::new(),
            foreign_locks: HashSet::new(),
            gone: HashSet::new(),
            features: 0,
            leases: Leases::empty(),
            returned: Vec::new(),
            renewed: 0,
            cache: HashMap::new(),
            noted: HashMap::new(),
            over: HashSet::new(),
            done: Vec::new(),
        }
    }

    /// mfsd was restarted: nothing of the session is left.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.over.insert(SessionId::new(self.session).expect("not 0"));
        self.forget_session();
    }

    /// The session is over, mfsd is not.
    pub(crate) fn forget_session(&mut self) {
        self.session += 1;
        self.opens.clear();
        self.locks.clear();
        self.cache.clear();
    }

    pub(crate) fn welcome(&self) -> Welcome {
        Welcome {
            version: 1,
            features: self.features,
            session: SessionId::new(self.session).expect("not 0"),
            resumed: true,
            trusts_root: true,
            epoch: Epoch::new(self.epoch).expect("not 0"),
            verifier: Verifier(self.verifier),
            lease_term: Duration::from_secs(10),
            max_io: MAX_IO,
            slots: 4,
            max_in_flight: 64,
            root: entry("root"),
            node: self.node,
            name: NodeName::parse("n1").expect("a good name"),
            number: NodeNumber::new(1).expect("not 0"),
            software: String::new(),
        }
    }

    /// Executes a request, or answers it from the reply cache.
    pub(crate) fn serve(&mut self, request: &Request) -> Reply {
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
        let noted = is_noted(&request.operation);
        let settled =
            request.first.as_deref().filter(|_| noted).and_then(|first| self.settled(first));
        let result = match &settled {
            Some(result) => result.clone(),
            None => self.execute(&request.operation),
        };
        if let (Operation::Create(o), Ok(_)) = (&request.operation, &result) {
            self.opens.insert(o.open, file("created"));
        }
        let reply = Reply {
            id: request.id,
            verifier: Verifier(self.verifier),
            leases: self.leases,
            result,
        };
        if let Some((slot, sequence)) = request.once {
            self.cache.insert(slot, (sequence, reply.clone()));
            let session = SessionId::new(self.session).expect("not 0");
            let first = request.first.as_deref().copied();
            let first = first.unwrap_or(Origin { session, slot, sequence });
            if noted && !matches!(reply.result, Err(Failure::Protocol(_))) {
                self.noted.insert(first, reply.clone());
            }
        }
        reply
    }

    /// What became of a request of a session that is over; `None` if it was never begun.
    fn settled(&self, first: &Origin) -> Option<Result<Outcome, Failure>> {
        assert_ne!(self.features & features::REPLIES, 0, "it was not said that it knows");
        match self.noted.get(first) {
            _ if !self.over.contains(&first.session) => {
                Some(Err(refusal(ProtocolCode::OutcomeUnknown)))
            }
            Some(noted) => Some(noted.result.clone()),
            None => None,
        }
    }

    fn execute(&mut self, operation: &Operation) -> Result<Outcome, Failure> {
        for open in nature::opens_of(operation) {
            if !self.opens.contains_key(&open) {
                return Err(refusal(ProtocolCode::UnknownOpen));
            }
        }
        self.done.push(operation.clone());
        Ok(match operation {
            Operation::MakeDir(_)
            | Operation::MakeNode(_)
            | Operation::MakeSymlink(_)
            | Operation::Link(_)
            | Operation::Lookup(_) => Outcome::Entry(entry("made")),
            Operation::Unlink(_)
            | Operation::RemoveDir(_)
            | Operation::Rename(_)
            | Operation::CheckAccess(_)
            | Operation::SetXattr(_)
            | Operation::RemoveXattr(_)
            | Operation::Fallocate(_)
            | Operation::Sync(_)
            | Operation::Flush(_) => Outcome::Done(()),
            Operation::GetAttr(_) | Operation::SetAttributes(_) => Outcome::Attr(entry("x").attr),
            Operation::ReadLink(_) => Outcome::Target(Bytes::from_static(b"target")),
            Operation::ReadDir(_) => Outcome::Listing(Listing { entries: Vec::new(), end: true }),
            Operation::StatFsOf(_) => Outcome::StatFs(StatFs::default()),
            Operation::GetXattr(_) => Outcome::Value(Bytes::from_static(b"value")),
            Operation::ListXattr(_) => Outcome::Names(Vec::new()),
            Operation::Seek(o) => Outcome::Offset(o.offset),
            Operation::CopyRange(o) => Outcome::Copied(o.length),
            Operation::GetLock(o) => {
                Outcome::Lock(HeldLock { kind: LockKind::Unlock, range: o.range, pid: 0 })
            }
            Operation::Open(o) => {
                if self.gone.contains(&o.file) {
                    return Err(Errno::Stale.into());
                }
                self.opens.insert(o.open, o.file.clone());
                Outcome::Opened(opened(o.file.clone()))
            }
            Operation::Create(o) => {
                self.opens.insert(o.open, file("created"));
                Outcome::Opened(opened(file("created")))
            }
            Operation::Release(o) => {
                self.opens.remove(&o.open);
                self.locks.retain(|(open, _)| *open != o.open);
                Outcome::Done(())
            }
            Operation::Read(_) => {
                Outcome::Data(ReadData { data: Bytes::from_static(b"data"), version: None })
            }
            Operation::Write(o) => Outcome::Written(Written {
                size: o.data.len() as u32,
                offset: o.offset,
                ..Written::default()
            }),
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
        })
    }
}

fn is_noted(operation: &Operation) -> bool {
    let exclusive = matches!(operation, Operation::Create(_));
    exclusive || operation.is_once_only() && !nature::may_repeat(operation, |_| true)
}

fn refusal(code: ProtocolCode) -> Failure {
    Refusal { code, message: String::new() }.into()
}
