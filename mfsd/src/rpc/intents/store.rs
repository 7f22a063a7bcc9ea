//! `Store`: where intents and replies are in the file, and in which order its words are written, so that a
//! kill between any two of them leaves what is true.
//!
//! A header, then the sessions for which the file is complete, then the records: one for each slot that is
//! used. The word that says what a record holds is taken back first and written last.

use mfs::types::{Incarnation, NodeId, Sequence, SessionId, Slot};
use mfs::wire::Origin;

use super::super::kept::{self, Memory};
use super::super::session::Owner;

/// The file.
pub(super) struct Store(Box<dyn Memory>);

/// Place of a session or a record, counted from 0.
pub(super) type Index = usize;

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// What is about to be executed, and what tells whether it was.
    Intent(Vec<u8>),
    /// What came of it.
    Reply(Vec<u8>),
    /// Nobody knows whether it was done.
    Unknown,
}

/// Says that it is such a file, and which form of it.
const MAGIC: u64 = u64::from_be_bytes(*b"mfsint\0\x01");

const HEADER: usize = 8;

/// Sessions, and the words of each: number, node, client, order.
pub(super) const SESSIONS: usize = 512;
const SESSION: usize = 8;

/// Records, and the words of each: state, session, slot, place in it, lengths, and two texts.
pub(super) const RECORDS: usize = 4_096;
const RECORD: usize = 128;
const INTENT: usize = 8;
const REPLY: usize = 88;

/// Longest texts, bytes. What is longer is not written: a rename between names of 255 bytes in directories
/// with the longest ids that Linux can have.
const MAX_INTENT: usize = (REPLY - INTENT) * 8;
const MAX_REPLY: usize = (RECORD - REPLY) * 8;

const RECORDS_AT: usize = HEADER + SESSIONS * SESSION;

/// Length of the file, words.
pub(super) const WORDS: usize = RECORDS_AT + RECORDS * RECORD;

/// What the first word of a record says.
const FREE: u64 = 0;
const INTENDED: u64 = 1;
const REPLIED: u64 = 2;
const UNKNOWN: u64 = 3;

// === impl Store ===

impl Store {
    /// An empty store in memory that is all zero, for the boot that `verifier` stands for.
    pub(super) fn create(memory: Box<dyn Memory>, verifier: u64) -> Self {
        memory.set(1, verifier);
        memory.set(0, MAGIC);
        Self(memory)
    }

    /// What a daemon of the same boot has left, if this is it.
    pub(super) fn open(memory: Box<dyn Memory>, verifier: u64) -> Option<Self> {
        (memory.get(0) == MAGIC && memory.get(1) == verifier).then_some(Self(memory))
    }

    /// From now on a request of the session that is not among the records was never begun.
    pub(super) fn add_session(&self, at: Index, id: SessionId, owner: &Owner, order: u64) {
        let place = HEADER + at * SESSION;
        let (words, _) = owner.node.as_bytes().as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            self.0.set(place + 1 + index, u64::from_ne_bytes(*word));
        }
        self.0.set(place + 5, owner.incarnation.get());
        self.0.set(place + 6, u64::from(owner.local));
        self.0.set(place + 7, order);
        self.0.set(place, id.get());
    }

    /// Of a request of the session nothing is known any more.
    pub(super) fn remove_session(&self, at: Index) {
        self.0.set(HEADER + at * SESSION, 0);
    }

    pub(super) fn session(&self, at: Index) -> Option<(SessionId, Owner, u64)> {
        let place = HEADER + at * SESSION;
        let id = SessionId::new(self.0.get(place))?;
        let mut node = [0; 32];
        let (parts, _) = node.as_chunks_mut::<8>();
        for (index, part) in parts.iter_mut().enumerate() {
            *part = self.0.get(place + 1 + index).to_ne_bytes();
        }
        let incarnation = Incarnation::new(self.0.get(place + 5))?;
        let local = self.0.get(place + 6) != 0;
        let owner = Owner { node: NodeId::from_digest(node), local, incarnation };
        Some((id, owner, self.0.get(place + 7)))
    }

    /// A request is about to be executed. Whether there was room for it.
    pub(super) fn intend(&self, at: Index, origin: &Origin, text: &[u8]) -> bool {
        let place = RECORDS_AT + at * RECORD;
        self.0.set(place, FREE);
        if text.len() > MAX_INTENT {
            return false;
        }
        self.0.set(place + 1, origin.session.get());
        self.0.set(place + 2, u64::from(origin.slot.0));
        self.0.set(place + 3, origin.sequence.get());
        self.0.set(place + 4, text.len() as u64);
        kept::write(&*self.0, place + INTENT, text);
        self.0.set(place, INTENDED);
        true
    }

    /// It was executed, with this reply. One that is too long is not written.
    pub(super) fn reply(&self, at: Index, text: &[u8]) -> bool {
        let place = RECORDS_AT + at * RECORD;
        if text.len() > MAX_REPLY {
            return false;
        }
        self.0.set(place + 5, text.len() as u64);
        kept::write(&*self.0, place + REPLY, text);
        self.0.set(place, REPLIED);
        true
    }

    /// Nobody knows whether it was executed.
    pub(super) fn give_up(&self, at: Index) {
        self.0.set(RECORDS_AT + at * RECORD, UNKNOWN);
    }

    /// It was not executed, or nobody will ask.
    pub(super) fn clear(&self, at: Index) {
        self.0.set(RECORDS_AT + at * RECORD, FREE);
    }

    pub(super) fn record(&self, at: Index) -> Option<(Origin, Held)> {
        let place = RECORDS_AT + at * RECORD;
        let text = |length: usize, limit: usize, from: usize| {
            let length = usize::try_from(self.0.get(place + length)).ok()?;
            (length <= limit).then(|| kept::read(&*self.0, place + from, length))
        };
        let held = match self.0.get(place) {
            INTENDED => Held::Intent(text(4, MAX_INTENT, INTENT)?),
            REPLIED => Held::Reply(text(5, MAX_REPLY, REPLY)?),
            UNKNOWN => Held::Unknown,
            _ => return None,
        };
        let session = SessionId::new(self.0.get(place + 1))?;
        let slot = Slot(u32::try_from(self.0.get(place + 2)).ok()?);
        let sequence = Sequence::new(self.0.get(place + 3))?;
        Some((Origin { session, slot, sequence }, held))
    }
}
