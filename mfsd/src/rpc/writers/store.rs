//! `Store`: where writers are written down for the next daemon.
//!
//! A header, then the records, one for each writer of a file. The word that says that a record is used is written
//! last. Of a change that a kill cuts in two the versions may be of neither side: then they are those of no file,
//! and what was stored goes into a conflict copy.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mfs::types::{DataVersion, Incarnation, InodeNo, NodeId, SessionId, Timestamp};

use super::super::kept::{self, Memory};
use super::super::session::Owner;
use super::writer::{Known, Others};

/// The file.
pub(in crate::rpc) struct Store(Box<dyn Memory>);

/// Says that it is such a file, and which form of it.
const MAGIC: u64 = u64::from_be_bytes(*b"mfswrt\0\x01");

const HEADER: usize = 8;

/// How many writers there is room for, and the words of each.
pub(in crate::rpc) const RECORDS: usize = 4_096;
const RECORD: usize = 128;

/// Length of the file, words.
pub(in crate::rpc) const WORDS: usize = HEADER + RECORDS * RECORD;

/// Where in a record something is.
const USED: usize = 0;
const INO: usize = 1;
const NODE: usize = 2;
const INCARNATION: usize = 6;
const FLAGS: usize = 7;
const SESSION: usize = 8;
const OTHERS: usize = 9;
const AT: usize = 10;
const SINCE: usize = 11;
const LATEST: usize = 16;
const COPY: usize = 22;
const PLACE: usize = 75;

/// Longest path, bytes; a longer one is not written.
const MAX_PATH: usize = (PLACE - COPY - 1) * 8;

const LOCAL: u64 = 1;
const RENEWED: u64 = 2;
const REMOVED: u64 = 4;

// === impl Store ===

impl Store {
    /// An empty store in memory that is all zero, for the boot that `verifier` stands for.
    pub(in crate::rpc) fn create(memory: Box<dyn Memory>, verifier: u64) -> Self {
        memory.set(1, verifier);
        memory.set(0, MAGIC);
        Self(memory)
    }

    /// What a daemon of the same boot has left, if this is it.
    pub(in crate::rpc) fn open(memory: Box<dyn Memory>, verifier: u64) -> Option<Self> {
        (memory.get(0) == MAGIC && memory.get(1) == verifier).then_some(Self(memory))
    }

    /// Writes a record that is not used.
    pub(super) fn add(&self, at: usize, ino: InodeNo, known: &Known) {
        let place = HEADER + at * RECORD;
        let Owner { node, local, incarnation } = &known.owner;
        self.0.set(place + INO, ino.get());
        kept::write(&*self.0, place + NODE, node.as_bytes());
        self.0.set(place + INCARNATION, incarnation.get());
        self.set_state(place, *local, known);
        self.set_path(place + COPY, known.copy.as_deref());
        self.set_path(place + PLACE, known.place.as_deref());
        self.0.set(place + USED, 1);
    }

    /// Writes what has changed.
    pub(super) fn change(&self, at: usize, before: &Known, known: &Known) {
        let place = HEADER + at * RECORD;
        self.set_state(place, known.owner.local, known);
        if before.copy != known.copy {
            self.set_path(place + COPY, known.copy.as_deref());
        }
        if before.place != known.place {
            self.set_path(place + PLACE, known.place.as_deref());
        }
    }

    pub(super) fn remove(&self, at: usize) {
        self.0.set(HEADER + at * RECORD + USED, 0);
    }

    pub(super) fn record(&self, at: usize) -> Option<(InodeNo, Known)> {
        let place = HEADER + at * RECORD;
        let word = |offset: usize| self.0.get(place + offset);
        if word(USED) == 0 {
            return None;
        }
        let node: [u8; 32] = kept::read(&*self.0, place + NODE, 32).try_into().ok()?;
        let has = |flag| word(FLAGS) & flag != 0;
        let owner = Owner {
            node: NodeId::from_digest(node),
            local: has(LOCAL),
            incarnation: Incarnation::new(word(INCARNATION))?,
        };
        let known = Known {
            owner,
            session: SessionId::new(word(SESSION))?,
            since: self.version(place + SINCE)?,
            latest: self.version(place + LATEST)?,
            others: match word(OTHERS) {
                0 => Others::Nothing,
                1 => Others::Perhaps,
                _ => Others::Changed,
            },
            renewed: has(RENEWED),
            removed: has(REMOVED),
            at: Duration::from_secs(word(AT)),
            copy: self.path(place + COPY),
            place: self.path(place + PLACE),
        };
        Some((InodeNo::new(word(INO))?, known))
    }

    fn set_state(&self, place: usize, local: bool, known: &Known) {
        // Before what follows: it is told before it is done.
        self.0.set(place + OTHERS, known.others as u64);
        self.0.set(place + SESSION, known.session.get());
        let flags = [(local, LOCAL), (known.renewed, RENEWED), (known.removed, REMOVED)];
        let flags = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag);
        self.0.set(place + FLAGS, flags.sum());
        self.0.set(place + AT, known.at.as_secs());
        self.set_version(place + SINCE, known.since);
        self.set_version(place + LATEST, known.latest);
    }

    fn set_version(&self, at: usize, version: DataVersion) {
        for (index, time) in [version.ctime, version.mtime].iter().enumerate() {
            self.0.set(at + 2 * index, time.seconds.cast_unsigned());
            self.0.set(at + 2 * index + 1, time.nanos.into());
        }
        self.0.set(at + 4, version.size);
    }

    fn version(&self, at: usize) -> Option<DataVersion> {
        let time = |at| {
            let (seconds, nanos) = (self.0.get(at).cast_signed(), self.0.get(at + 1));
            Some(Timestamp { seconds, nanos: nanos.try_into().ok()? })
        };
        Some(DataVersion { ctime: time(at)?, mtime: time(at + 2)?, size: self.0.get(at + 4) })
    }

    fn set_path(&self, at: usize, path: Option<&Path>) {
        let bytes = path.map_or(&[][..], |path| path.as_os_str().as_bytes());
        let bytes = if bytes.len() <= MAX_PATH { bytes } else { &[] };
        self.0.set(at, 0);
        kept::write(&*self.0, at + 1, bytes);
        self.0.set(at, bytes.len() as u64);
    }

    fn path(&self, at: usize) -> Option<PathBuf> {
        let length = usize::try_from(self.0.get(at)).ok()?;
        let is_path = (1..=MAX_PATH).contains(&length);
        is_path.then(|| OsString::from_vec(kept::read(&*self.0, at + 1, length)).into())
    }
}
