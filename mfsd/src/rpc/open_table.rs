//! The open files of one session, by the numbers its client chose.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use mfs::clock;
use mfs::types::{InodeNo, OpenId};
use tokio::sync::OwnedSemaphorePermit;

use super::coherence::ChangeHold;
use super::run::Run;

/// The table; `O` is the open file itself, which it owns.
#[derive(Debug)]
pub(super) struct OpenTable<O> {
    opens: HashMap<OpenId, State<O>>,
    /// How many opens for writing a file has, or is about to have.
    writers: HashMap<InodeNo, usize>,
    ended: bool,
}

#[derive(Debug)]
enum State<O> {
    /// Being opened.
    Opening {
        run: Arc<Run>,
        /// The client gave it up meanwhile: it is closed as soon as it is open.
        released: bool,
        permit: OwnedSemaphorePermit,
    },
    Open(Held<O>),
}

/// An open file and what belongs to it.
#[derive(Debug)]
pub(super) struct Held<O> {
    pub(super) file: O,
    /// Its number, once its attributes were seen; names it to the queue of waiting locks.
    pub(super) ino: Option<InodeNo>,
    pub(super) since: Instant,
    /// It is open for writing.
    writes: bool,
    /// Its session keeps pages that were read through it.
    pub(super) fills: bool,
    /// Its data may be written past this daemon while it is open.
    pub(super) writes_past: Option<ChangeHold>,
    /// Its share of the peer's open files.
    _permit: OwnedSemaphorePermit,
}

/// What to do with a request that opens a file.
#[derive(Debug)]
pub(super) enum Opening {
    /// Open it, [`OpenTable::add`] it, and finish this run.
    New(Arc<Run>),
    /// It is being opened: join this run.
    Running(Arc<Run>),
    /// It is open.
    Open,
}

// === impl OpenTable ===

impl<O: Clone> OpenTable<O> {
    pub(super) fn new() -> Self {
        Self { opens: HashMap::new(), writers: HashMap::new(), ended: false }
    }

    /// Enters a request that opens a file under `id`; `permit` is asked for a share of the limit where
    /// one is needed.
    ///
    /// # Errors
    /// Those of `permit`.
    pub(super) fn begin<E>(
        &mut self,
        id: OpenId,
        permit: impl FnOnce() -> Result<OwnedSemaphorePermit, E>,
    ) -> Result<Opening, E> {
        match self.opens.get(&id) {
            Some(State::Open(_)) => Ok(Opening::Open),
            Some(State::Opening { run, .. }) => Ok(Opening::Running(Arc::clone(run))),
            None => {
                let run = Arc::new(Run::new());
                let state =
                    State::Opening { run: Arc::clone(&run), released: false, permit: permit()? };
                self.opens.insert(id, state);
                Ok(Opening::New(run))
            }
        }
    }

    /// Takes the file that was opened for `id`. Gives it back, to be closed, if the session ended or the
    /// client released it meanwhile.
    pub(super) fn add(&mut self, id: OpenId, file: O) -> Result<(), O> {
        match self.opens.remove(&id) {
            Some(State::Opening { released: false, permit, .. }) if !self.ended => {
                let since = clock::now();
                let held = Held {
                    file,
                    ino: None,
                    since,
                    writes: false,
                    fills: false,
                    writes_past: None,
                    _permit: permit,
                };
                self.opens.insert(id, State::Open(held));
                Ok(())
            }
            Some(State::Opening { .. }) | None => Err(file),
            Some(open @ State::Open(_)) => {
                self.opens.insert(id, open);
                Err(file)
            }
        }
    }

    /// Ends what `begin` began, if no file came of it.
    pub(super) fn give_up(&mut self, id: OpenId) {
        if let Some(State::Opening { .. }) = self.opens.get(&id) {
            self.opens.remove(&id);
        }
    }

    /// The open file `id`.
    pub(super) fn find(&self, id: OpenId) -> Option<O> {
        self.held(id).map(|held| held.file.clone())
    }

    /// The number of the file that is open as `id`.
    pub(super) fn ino(&self, id: OpenId) -> Option<InodeNo> {
        self.held(id)?.ino
    }

    /// All that are open, and since when.
    pub(super) fn all(&self) -> Vec<(O, Instant)> {
        let open = self.opens.values().filter_map(|state| match state {
            State::Open(held) => Some((held.file.clone(), held.since)),
            State::Opening { .. } => None,
        });
        open.collect()
    }

    /// Says which file `id` is, and whether it is open for writing.
    pub(super) fn identify(&mut self, id: OpenId, ino: InodeNo, writes: bool) {
        if let Some(State::Open(held)) = self.opens.get_mut(&id)
            && held.ino.is_none()
        {
            (held.ino, held.writes) = (Some(ino), writes);
            if writes {
                *self.writers.entry(ino).or_default() += 1;
            }
        }
    }

    /// Pages that are read through `id` are kept from now on. The number of the file, if that is new.
    pub(super) fn fill(&mut self, id: OpenId) -> Option<InodeNo> {
        match self.opens.get_mut(&id) {
            Some(State::Open(held)) if !held.fills => {
                held.fills = held.ino.is_some();
                held.ino
            }
            _ => None,
        }
    }

    /// The file is about to be opened for writing, until [`Self::forgo`].
    pub(super) fn intend(&mut self, ino: InodeNo) {
        *self.writers.entry(ino).or_default() += 1;
    }

    /// Ends what `intend` began.
    pub(super) fn forgo(&mut self, ino: InodeNo) {
        if let Some(count) = self.writers.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                self.writers.remove(&ino);
            }
        }
    }

    /// Whether the file is open for writing, or about to be.
    pub(super) fn writes(&self, ino: InodeNo) -> bool {
        self.writers.contains_key(&ino)
    }

    /// Lets a change go on until `id` is closed. Gives it back if it is not open.
    pub(super) fn writes_past(&mut self, id: OpenId, change: ChangeHold) -> Option<ChangeHold> {
        match self.opens.get_mut(&id) {
            Some(State::Open(held)) => held.writes_past.replace(change),
            Some(State::Opening { .. }) | None => Some(change),
        }
    }

    /// Takes `id` out, to be closed. One that is being opened is closed when it is open.
    pub(super) fn remove(&mut self, id: OpenId) -> Option<Held<O>> {
        if let Some(State::Opening { released, .. }) = self.opens.get_mut(&id) {
            *released = true;
            return None;
        }
        match self.opens.remove(&id) {
            Some(State::Open(held)) => {
                if held.writes
                    && let Some(ino) = held.ino
                {
                    self.forgo(ino);
                }
                Some(held)
            }
            Some(State::Opening { .. }) | None => None,
        }
    }

    /// Takes everything out, to be closed; from now on nothing is added.
    pub(super) fn end(&mut self) -> Vec<Held<O>> {
        self.ended = true;
        self.writers.clear();
        let opens = std::mem::take(&mut self.opens);
        opens
            .into_values()
            .filter_map(|state| match state {
                State::Open(held) => Some(held),
                State::Opening { .. } => None,
            })
            .collect()
    }

    fn held(&self, id: OpenId) -> Option<&Held<O>> {
        match self.opens.get(&id) {
            Some(State::Open(held)) => Some(held),
            Some(State::Opening { .. }) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::Semaphore;

    use super::*;

    const ID: OpenId = OpenId::FIRST;

    fn begin(table: &mut OpenTable<&'static str>, room: &Arc<Semaphore>) -> Opening {
        let permit = || Ok::<_, Infallible>(Arc::clone(room).try_acquire_owned().expect("room"));
        match table.begin(ID, permit) {
            Ok(opening) => opening,
            Err(never) => match never {},
        }
    }

    #[test]
    fn an_open_that_comes_again_joins_the_first() {
        let (mut table, room) = (OpenTable::new(), Arc::new(Semaphore::new(1)));
        let Opening::New(run) = begin(&mut table, &room) else { panic!("not new") };
        let Opening::Running(again) = begin(&mut table, &room) else { panic!("not running") };
        assert!(Arc::ptr_eq(&run, &again));
        assert_eq!(table.find(ID), None);
        table.add(ID, "file").unwrap();
        assert!(matches!(begin(&mut table, &room), Opening::Open));
        assert_eq!(table.find(ID), Some("file"));
    }

    #[test]
    fn a_release_gives_the_share_back() {
        let (mut table, room) = (OpenTable::new(), Arc::new(Semaphore::new(1)));
        begin(&mut table, &room);
        table.add(ID, "file").unwrap();
        assert_eq!(room.available_permits(), 0);
        assert_eq!(table.remove(ID).map(|held| held.file), Some("file"));
        assert_eq!(room.available_permits(), 1);
        begin(&mut table, &room);
        table.give_up(ID);
        assert_eq!(room.available_permits(), 1);
    }

    #[test]
    fn what_is_released_while_it_is_opened_does_not_stay() {
        let (mut table, room) = (OpenTable::new(), Arc::new(Semaphore::new(1)));
        begin(&mut table, &room);
        assert!(table.remove(ID).is_none());
        assert_eq!(table.add(ID, "file"), Err("file"));
        assert_eq!(room.available_permits(), 1);
    }

    #[test]
    fn an_ended_table_takes_nothing() {
        let (mut table, room) = (OpenTable::new(), Arc::new(Semaphore::new(2)));
        begin(&mut table, &room);
        assert!(table.end().is_empty());
        assert_eq!(table.add(ID, "file"), Err("file"));
        begin(&mut table, &room);
        assert_eq!(table.add(ID, "file"), Err("file"), "begun after the end");
    }
}
