//! `Tree`: what the server serves, and what a reader must see of it.
//!
//! A file's attributes and a directory's names are objects with a version, which each change raises. So
//! linearizability is easily said: a read that begins after somebody was told of a version, by the answer
//! to a change or to a read, never returns a lower one. What local processes change past the server is
//! told to nobody before the server took note of it and all who were asked for their leases have answered.

use std::collections::BTreeMap;

use mfs::lease::Touch;
use mfs::types::{InodeNo, Leases};

/// What is read and changed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Object {
    /// The attributes of a file.
    File(u64),
    /// The names in a directory.
    Names(u64),
}

#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Tree {
    states: BTreeMap<Object, State>,
    /// What the one name in each directory means.
    names: BTreeMap<u64, Option<u64>>,
    created: u64,
    /// What local processes changed and the server did not take note of.
    pub(crate) queue: Vec<Object>,
}

#[derive(Debug, Clone, Default, Hash)]
struct State {
    version: u32,
    /// The highest version that somebody was told of.
    told: u32,
    /// The first and the last change of a local process that may not be told of yet.
    local: Option<(u32, u32)>,
    /// A server died before it took note of a local change: nothing is promised of that.
    unnoticed: bool,
}

/// What everybody who begins to read now must see.
pub(crate) type Told = BTreeMap<Object, u32>;

/// Objects, as they were read.
pub(crate) type Values = Vec<(Object, u32)>;

// === impl Object ===

impl Object {
    pub(crate) fn ino(self) -> InodeNo {
        let (Self::File(number) | Self::Names(number)) = self;
        InodeNo::new(number).expect("numbers begin at 1")
    }

    pub(crate) fn lease(self) -> Leases {
        match self {
            Self::File(_) => Leases::ATTRIBUTES,
            Self::Names(_) => Leases::DIRECTORY,
        }
    }

    pub(crate) fn touch(self) -> Touch {
        (self.ino(), self.lease())
    }

    /// All that leases cover.
    pub(crate) fn covered_by((ino, leases): Touch) -> impl Iterator<Item = Self> {
        let both = [Self::File(ino.get()), Self::Names(ino.get())];
        both.into_iter().filter(move |object| leases.contains(object.lease()))
    }
}

// === impl Tree ===

impl Tree {
    /// A tree of directories that have one name each, which means the file at the same place, if there is.
    pub(crate) fn new(directories: &[(u64, Option<u64>)]) -> Self {
        Self { names: directories.iter().copied().collect(), ..Self::default() }
    }

    pub(crate) fn version(&self, object: Object) -> u32 {
        self.states.get(&object).map_or(0, |state| state.version)
    }

    pub(crate) fn victim(&self, directory: u64) -> Option<u64> {
        self.names[&directory]
    }

    pub(crate) fn told(&self) -> Told {
        self.states.iter().map(|(object, state)| (*object, state.told)).collect()
    }

    pub(crate) fn read(&self, objects: impl IntoIterator<Item = Object>) -> Values {
        objects.into_iter().map(|object| (object, self.version(object))).collect()
    }

    /// A change by the server, which waited until nobody remembers the object.
    pub(crate) fn change(&mut self, object: Object) {
        let state = self.states.entry(object).or_default();
        state.version += 1;
        (state.local, state.unnoticed) = (None, false);
    }

    /// Gives the directory's name to a new file.
    pub(crate) fn create(&mut self, directory: u64) -> u64 {
        self.created += 1;
        let file = 1_000 + self.created;
        self.names.insert(directory, Some(file));
        file
    }

    pub(crate) fn unlink(&mut self, directory: u64) {
        self.names.insert(directory, None);
    }

    /// A change by a local process, past the server.
    pub(crate) fn change_locally(&mut self, object: Object) {
        let state = self.states.entry(object).or_default();
        state.version += 1;
        let (first, _) = state.local.unwrap_or((state.version, 0));
        state.local = Some((first, state.version));
        self.queue.push(object);
    }

    /// The server dies, and what was queued for it is lost.
    pub(crate) fn lose_queue(&mut self) {
        self.queue.clear();
        for state in self.states.values_mut().filter(|state| state.local.is_some()) {
            state.unnoticed = true;
        }
    }

    /// What local processes changed is told, where nobody is asked for it any more.
    pub(crate) fn settle(&mut self, is_asked: impl Fn(Object) -> bool) {
        for (object, state) in &mut self.states {
            if let Some((_, last)) = state.local
                && !state.unnoticed
                && !self.queue.contains(object)
                && !is_asked(*object)
            {
                state.told = state.told.max(last);
                state.local = None;
            }
        }
    }

    /// Somebody was told of versions.
    pub(crate) fn tell(&mut self, values: &Values) {
        for (object, version) in values {
            let state = self.states.entry(*object).or_default();
            let promised = state.local.map_or(*version, |(first, _)| (*version).min(first - 1));
            state.told = state.told.max(promised);
        }
    }
}
