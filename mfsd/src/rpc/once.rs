//! Once-only requests around their execution: what is noted of them (`intents`), and what is answered from
//! notes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use mfs::sync::Mutex;
use mfs::types::op::{Operation, Outcome};
use mfs::types::{Caller, InodeNo};
use mfs::wire::{Failure, Origin, ProtocolCode, Refusal, Request};

use super::dispatch::Dispatch;
use super::intents::{Evidence, Fate, Intents, finds_its_own};
use super::run::Answer;
use super::session::{Owner, Session};
use super::tree::{Opens, Tree};

/// A once-only request by the name under which it is noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    first: Origin,
    /// It was sent first in a session that is over.
    again: bool,
}

/// An answer, and when it was true.
pub(super) enum Answered {
    /// Just now.
    Now(Answer),
    /// When its request was executed, by the daemon before: nothing of it may be remembered.
    Before(Answer),
}

/// The requests that are executed only once.
pub(super) struct Once {
    pub(super) intents: Intents,
    appends: Turns,
}

/// One at a time of those that append to a file through this daemon: only then does the length that it had
/// before tell whose the end is. The kernel writes one after the other anyway.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<InodeNo, Queue>>);

/// Those who append to one file.
#[derive(Debug, Default)]
struct Queue {
    /// How many have a turn or wait for one.
    users: usize,
    lock: Arc<Mutex<()>>,
}

/// One who has a turn, or waits for it.
struct Turn<'a> {
    turns: &'a Turns,
    ino: InodeNo,
    lock: Arc<Mutex<()>>,
}

// === impl Named ===

impl Named {
    /// The name of a request; `None` if it may be executed at will.
    pub(super) fn of<T: Tree>(session: &Session<T>, request: &Request) -> Option<Self> {
        let (slot, sequence) = request.once?;
        let here = Origin { session: session.id, slot, sequence };
        let first = request.first.as_deref().copied();
        Some(Self { first: first.unwrap_or(here), again: first.is_some() })
    }
}

// === impl Once ===

impl Once {
    pub(super) fn new(intents: Intents) -> Self {
        Self { intents, appends: Turns::default() }
    }

    /// Has a request executed, unless it was before.
    pub(super) fn attempt<T: Tree>(
        &self,
        dispatch: &Dispatch<T>,
        (owner, named): (&Owner, Named),
        (caller, operation): (&Caller, Operation),
        opens: &dyn Opens<T>,
        execute: impl FnOnce(Operation) -> Answer,
    ) -> Answered {
        let appended = match &operation {
            Operation::Write(write) => opens.find(write.open).filter(T::appends),
            _ => None,
        };
        let turn = appended.map(|open| self.appends.turn(T::file_of(&open).1));
        let _mine = turn.as_ref().map(|turn| turn.lock.lock());
        let Named { first, again } = named;
        let tree = &dispatch.tree;
        if !self.intents.is_kept() && !again {
            return Answered::Now(execute(operation));
        }
        let Some(evidence) = Evidence::of(tree, caller, &operation, opens) else {
            return Answered::Now(execute(operation));
        };
        if again {
            match self.intents.ask(owner, &first) {
                Fate::New => {}
                Fate::Unknown if finds_its_own(&operation) => {
                    return Answered::Now(execute(operation));
                }
                Fate::Unknown => return Answered::Now(Err(Failure::Protocol(unknown()))),
                Fate::Answered(answer) => {
                    return Answered::Before(again_open(tree, caller, &operation, opens, answer));
                }
            }
        }
        self.intents.intend(&first, &evidence);
        let answer = execute(operation);
        self.intents.finish(&first, &answer);
        Answered::Now(answer)
    }
}

/// An answer from before; the file that it says is open is opened in this session, too.
fn again_open<T: Tree>(
    tree: &T,
    caller: &Caller,
    operation: &Operation,
    opens: &dyn Opens<T>,
    answer: Answer,
) -> Answer {
    match (operation, answer) {
        (Operation::Create(create), Ok(Outcome::Opened(opened))) => {
            let taken = tree.take_up(caller, create, &opened.entry.file, opens);
            taken.map(Outcome::Opened).map_err(Failure::File)
        }
        (_, answer) => answer,
    }
}

fn unknown() -> Refusal {
    Refusal::new(
        ProtocolCode::OutcomeUnknown,
        "mfsd was restarted while this was under way, and nothing tells whether it was done",
    )
}

// === impl Turns ===

impl Turns {
    fn turn(&self, ino: InodeNo) -> Turn<'_> {
        let mut files = self.0.lock();
        let queue = files.entry(ino).or_default();
        queue.users += 1;
        Turn { turns: self, ino, lock: Arc::clone(&queue.lock) }
    }
}

// === impl Turn ===

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut files = self.turns.0.lock();
        let Entry::Occupied(mut file) = files.entry(self.ino) else { return };
        file.get_mut().users -= 1;
        if file.get().users == 0 {
            file.remove();
        }
    }
}
