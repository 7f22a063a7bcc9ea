//! `Intents`: what is about to be executed only once, and what came of it, where a kill of this process leaves
//! it to the next daemon.
//!
//! A once-only request is noted before it is executed, and its answer before it is sent. The next daemon looks,
//! before it serves anybody, what became of those that have no answer ([`Evidence`]); so in the end each
//! request of a session that was noted was answered, was never begun, or is one of which nobody knows. Of a
//! session that is not noted, or is over, nobody knows anything.
//!
//! Lives in the runtime directory, which a boot empties. It says what files are named, and holds pieces of
//! them: it is root's alone.
//!
//! Lock order: `Intents::inner` is a leaf.

mod evidence;
mod sample;
mod store;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::{fs, io};

use mfs::sync::Mutex;
use mfs::types::op::Outcome;
use mfs::types::{FileId, Leases, RequestId, Sequence, SessionId, Slot, Verifier};
use mfs::wire::{Failure, Origin, Reply, ServerMessage};
use mfs_proto::v1;
use prost::Message;

use super::kept;
use super::run::Answer;
use super::session::Owner;
use super::tree::Tree;
use evidence::Verdict;
pub(super) use evidence::{Evidence, finds_its_own};
use store::{Held, Index, RECORDS, SESSIONS, Store, WORDS};

/// The notes of this daemon, with those that matter of the ones before.
pub(super) struct Intents {
    inner: Mutex<Inner>,
}

/// What became of a request of a session that is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was answered so.
    Answered(Answer),
    /// It was never begun, and is whoever's asks first.
    New,
    /// Nobody knows.
    Unknown,
}

struct Inner {
    /// `None`: nothing is noted, in tests of what does not restart, and where there is no room for it.
    store: Option<Store>,
    sessions: HashMap<SessionId, Noted>,
    free_sessions: Vec<Index>,
    free_records: Vec<Index>,
    /// The sessions that were noted so far; tells the older of two.
    order: u64,
}

/// A session all of whose once-only requests are noted.
struct Noted {
    at: Index,
    owner: Owner,
    order: u64,
    /// It was over when this daemon began.
    over: bool,
    /// The last request of each slot.
    slots: HashMap<Slot, Last>,
}

struct Last {
    at: Index,
    sequence: Sequence,
    has_reply: bool,
}

// === impl Intents ===

impl Intents {
    /// Takes over what the daemon before has left in a file, and looks in `tree` for what it leaves open.
    /// Blocks.
    pub(super) fn open<T: Tree>(path: Option<&Path>, boot: Verifier, tree: &T) -> Self {
        let inner = match path {
            None => Inner::new(None),
            Some(path) => Inner::take_over(path, boot, tree).unwrap_or_else(|error| {
                tracing::warn!(
                    "cannot write {}: {error}; if mfsd is killed, changes that are under way then fail",
                    path.display()
                );
                // What is older than this daemon must not be taken for what it did.
                let _ = fs::remove_file(path);
                Inner::new(None)
            }),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// Whether anything is noted.
    pub(super) fn is_kept(&self) -> bool {
        self.inner.lock().store.is_some()
    }

    /// A session begins.
    pub(super) fn begin(&self, session: SessionId, owner: Owner) {
        self.inner.lock().begin(session, owner, None);
    }

    /// A session is over, and its client will ask for nothing of it.
    pub(super) fn end(&self, session: SessionId, owner: &Owner) {
        let mut inner = self.inner.lock();
        let over = |(id, noted): (&SessionId, &Noted)| {
            (*id == session || noted.over && noted.owner == *owner).then_some(*id)
        };
        let ended: Vec<_> = inner.sessions.iter().filter_map(over).collect();
        for id in ended {
            inner.forget(id);
        }
    }

    /// What became of a request that was sent first in a session which is over now.
    pub(super) fn ask(&self, owner: &Owner, first: &Origin) -> Fate {
        self.inner.lock().ask(owner, first)
    }

    /// A request is about to be executed.
    pub(super) fn intend(&self, first: &Origin, evidence: &Evidence) {
        let mut inner = self.inner.lock();
        if inner.store.is_none() {
            return;
        }
        let text = postcard::to_allocvec(evidence).unwrap_or_default();
        let noted = match inner.record(first) {
            Some(at) => inner.store.as_ref().is_some_and(|store| store.intend(at, first, &text)),
            None => false,
        };
        if !noted {
            inner.forget(first.session);
        }
    }

    /// It was executed, or refused without that.
    pub(super) fn finish(&self, first: &Origin, answer: &Answer) {
        let mut inner = self.inner.lock();
        let Inner { store: Some(store), sessions, free_records, .. } = &mut *inner else { return };
        let Some(noted) = sessions.get_mut(&first.session) else { return };
        // A newer request may have the slot by now.
        let Some(last) = noted.slots.get_mut(&first.slot).filter(|l| l.sequence == first.sequence)
        else {
            return;
        };
        if let Err(Failure::Protocol(_)) = answer {
            store.clear(last.at);
            free_records.push(last.at);
            noted.slots.remove(&first.slot);
        } else {
            last.has_reply = store.reply(last.at, &encode(answer));
        }
    }
}

// === impl Inner ===

impl Inner {
    fn new(store: Option<Store>) -> Self {
        Self {
            store,
            sessions: HashMap::new(),
            free_sessions: (0..SESSIONS).rev().collect(),
            free_records: (0..RECORDS).rev().collect(),
            order: 0,
        }
    }

    fn take_over<T: Tree>(path: &Path, boot: Verifier, tree: &T) -> io::Result<Self> {
        let left = kept::Left::read(path, WORDS);
        let left = left.and_then(|left| Store::open(Box::new(left), boot.0));
        let mut inner = Self::new(Some(Store::create(kept::make(path, WORDS)?, boot.0)));
        if let Some(left) = left {
            inner.inherit(&left, tree);
        }
        kept::put(path)?;
        Ok(inner)
    }

    fn inherit<T: Tree>(&mut self, left: &Store, tree: &T) {
        let mut sessions: Vec<_> = (0..SESSIONS).filter_map(|at| left.session(at)).collect();
        sessions.sort_unstable_by_key(|(.., order)| *order);
        for (id, owner, order) in sessions {
            self.begin(id, owner, Some(order));
        }
        let records: Vec<_> = (0..RECORDS).filter_map(|at| left.record(at)).collect();
        let mut made: HashSet<FileId> = records
            .iter()
            .filter_map(|(_, held)| match held {
                Held::Reply(text) => made_by(&decode(text)?),
                Held::Intent(_) | Held::Unknown => None,
            })
            .collect();
        for (first, held) in records {
            let reply = match held {
                Held::Intent(text) => match postcard::from_bytes::<Evidence>(&text) {
                    Ok(evidence) => match evidence.judge(tree, &mut made) {
                        Verdict::Done(outcome) => Some(encode(&Ok(outcome))),
                        Verdict::NotDone => continue,
                        Verdict::Unknown => None,
                    },
                    Err(_) => None,
                },
                Held::Reply(text) => Some(text),
                Held::Unknown => None,
            };
            self.keep(&first, reply.as_deref());
        }
    }

    /// Notes again what is known of a request of a session that is over.
    fn keep(&mut self, first: &Origin, reply: Option<&[u8]>) {
        let Some(at) = self.record(first) else { return self.forget(first.session) };
        let Some(store) = &self.store else { return };
        store.intend(at, first, &[]);
        let has_reply = reply.is_some_and(|reply| store.reply(at, reply));
        if !has_reply {
            store.give_up(at);
        }
        let noted = self.sessions.get_mut(&first.session);
        if let Some(last) = noted.and_then(|noted| noted.slots.get_mut(&first.slot)) {
            last.has_reply = has_reply;
        }
    }

    fn begin(&mut self, session: SessionId, owner: Owner, before: Option<u64>) {
        if self.free_sessions.is_empty() {
            self.forget_oldest();
        }
        let (Some(store), Some(at)) = (&self.store, self.free_sessions.pop()) else { return };
        let order = before.unwrap_or(self.order + 1);
        self.order = self.order.max(order);
        store.add_session(at, session, &owner, order);
        let noted = Noted { at, owner, order, over: before.is_some(), slots: HashMap::new() };
        self.sessions.insert(session, noted);
    }

    /// The session first: a request of it that is not there any more must not be taken for a new one.
    fn forget(&mut self, session: SessionId) {
        let (Some(store), Some(noted)) = (&self.store, self.sessions.remove(&session)) else {
            return;
        };
        store.remove_session(noted.at);
        self.free_sessions.push(noted.at);
        for last in noted.slots.into_values() {
            store.clear(last.at);
            self.free_records.push(last.at);
        }
    }

    /// Makes room: what is over longest is asked for least.
    fn forget_oldest(&mut self) {
        let over = self.sessions.iter().filter(|(_, noted)| noted.over);
        if let Some(oldest) = over.min_by_key(|(_, noted)| noted.order).map(|(id, _)| *id) {
            self.forget(oldest);
        }
    }

    /// The record of a request, which takes the place of the one before it in its slot. `None` if there is
    /// no room, or its session is not noted.
    fn record(&mut self, first: &Origin) -> Option<Index> {
        if self.free_records.is_empty() {
            self.forget_oldest();
        }
        let noted = self.sessions.get_mut(&first.session)?;
        let at = match noted.slots.get(&first.slot) {
            Some(last) => last.at,
            None => self.free_records.pop()?,
        };
        noted.slots.insert(first.slot, Last { at, sequence: first.sequence, has_reply: false });
        Some(at)
    }

    fn ask(&mut self, owner: &Owner, first: &Origin) -> Fate {
        let Some(noted) = self.sessions.get(&first.session) else { return Fate::Unknown };
        if noted.owner != *owner || !noted.over {
            return Fate::Unknown;
        }
        match noted.slots.get(&first.slot) {
            Some(last) if last.sequence > first.sequence => Fate::Unknown,
            Some(last) if last.sequence == first.sequence => self.reply(last),
            Some(_) | None => {
                // From now on it is begun: whoever else asks for it, too, must not begin it again.
                if self.record(first).is_none() {
                    self.forget(first.session);
                }
                Fate::New
            }
        }
    }

    fn reply(&self, last: &Last) -> Fate {
        let held = self.store.as_ref().filter(|_| last.has_reply).and_then(|s| s.record(last.at));
        match held {
            Some((_, Held::Reply(text))) => decode(&text).map_or(Fate::Unknown, Fate::Answered),
            _ => Fate::Unknown,
        }
    }
}

/// The file that a request has made, if that is what it did.
fn made_by(answer: &Answer) -> Option<FileId> {
    match answer {
        Ok(Outcome::Entry(entry)) => Some(entry.file.clone()),
        Ok(Outcome::Opened(opened)) => Some(opened.entry.file.clone()),
        _ => None,
    }
}

fn encode(answer: &Answer) -> Vec<u8> {
    let (id, verifier, leases) = (RequestId::FIRST, Verifier(0), Leases::empty());
    let reply = Reply { id, verifier, leases, result: answer.clone() };
    v1::Reply::from(ServerMessage::Reply(reply)).encode_to_vec()
}

fn decode(text: &[u8]) -> Option<Answer> {
    match ServerMessage::try_from(v1::Reply::decode(text).ok()?).ok()? {
        ServerMessage::Reply(reply) => Some(reply.result),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
