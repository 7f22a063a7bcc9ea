//! `Marks`: which file systems and files are watched, since when, and for which readings. Makes no system
//! calls; whoever does holds its lock meanwhile, so that this is what the kernel has.
//!
//! Changes of names and attributes are reported for whole file systems. What a write changes is reported for
//! single files only, those that somebody wants to hear of: else each write to whatever file of the file
//! system would pay for the report.
//!
//! Moments are counted, not measured: one begins with each mark and each reading.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::clock;
use crate::export::mounts::FsKey;
use crate::types::{FileId, InodeNo};

/// What is watched.
#[derive(Debug)]
pub(super) struct Marks {
    /// The moment.
    now: u64,
    /// How many readings are under way, by when they began.
    readings: BTreeMap<u64, usize>,
    last_reading: Instant,
    /// Since when; `None`: this one cannot be watched.
    file_systems: HashMap<FsKey, Option<u64>>,
    /// Those that have a mark or had one, by the `f_fsid` in events.
    by_fsid: HashMap<u64, FsKey>,
    files: HashMap<InodeNo, FileMark>,
    /// Most files.
    most: usize,
}

/// A file of which writes are noticed.
#[derive(Debug)]
struct FileMark {
    file: FileId,
    since: u64,
    /// The beginning of the youngest reading that relies on it.
    used: u64,
}

/// A file on which no reading under way relies.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) ino: InodeNo,
    pub(super) file: FileId,
    used: u64,
}

// === impl Marks ===

impl Marks {
    /// Nothing is watched; at most so many files will be.
    pub(super) fn new(most: usize) -> Self {
        Self {
            now: 0,
            readings: BTreeMap::new(),
            last_reading: clock::now(),
            file_systems: HashMap::new(),
            by_fsid: HashMap::new(),
            files: HashMap::new(),
            most,
        }
    }

    /// The moment.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// A reading begins; until it ends, no mark goes that it uses.
    pub(super) fn begin(&mut self) -> u64 {
        self.now += 1;
        self.last_reading = clock::now();
        *self.readings.entry(self.now).or_default() += 1;
        self.now
    }

    /// A reading ends.
    pub(super) fn end(&mut self, began: u64) {
        self.last_reading = clock::now();
        if let Some(count) = self.readings.get_mut(&began) {
            *count -= 1;
            if *count == 0 {
                self.readings.remove(&began);
            }
        }
    }

    /// Since when a file system is watched; `None` within: it cannot be. Without: not decided.
    pub(super) fn file_system(&self, fs: FsKey) -> Option<Option<u64>> {
        self.file_systems.get(&fs).copied()
    }

    /// A file system that is going to get a mark: an event that comes at once must be understood.
    pub(super) fn expect(&mut self, fsid: u64, fs: FsKey) {
        self.by_fsid.insert(fsid, fs);
    }

    /// A file system got a mark. Since when it has one: another may have been faster.
    pub(super) fn add_file_system(&mut self, fs: FsKey) -> u64 {
        self.now += 1;
        *self.file_systems.entry(fs).or_default().get_or_insert(self.now)
    }

    /// A file system cannot be watched.
    pub(super) fn refuse(&mut self, fs: FsKey) {
        self.file_systems.insert(fs, None);
    }

    /// The file system that an event names.
    pub(super) fn named(&self, fsid: u64) -> Option<FsKey> {
        self.by_fsid.get(&fsid).copied()
    }

    /// Since when writes to a file are noticed, for a reading that relies on it from now on.
    pub(super) fn use_file(&mut self, ino: InodeNo, began: u64) -> Option<u64> {
        let mark = self.files.get_mut(&ino)?;
        mark.used = mark.used.max(began);
        Some(mark.since)
    }

    /// Whether no more files can be watched.
    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= self.most
    }

    /// A file got a mark, for a reading that began then. Since when.
    pub(super) fn add_file(&mut self, ino: InodeNo, file: FileId, began: u64) -> u64 {
        self.now += 1;
        self.files.insert(ino, FileMark { file, since: self.now, used: began });
        self.now
    }

    /// How many files are watched.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The files on which no reading under way relies.
    pub(super) fn idle_files(&self) -> Vec<Idle> {
        let oldest = self.oldest_reading();
        let idle = self.files.iter().filter(|(_, mark)| mark.used < oldest);
        idle.map(|(ino, mark)| Idle { ino: *ino, file: mark.file.clone(), used: mark.used })
            .collect()
    }

    /// Forgets the mark of a file, unless a reading has used it since it was idle.
    pub(super) fn remove_idle(&mut self, idle: &Idle) -> bool {
        let unused = self.files.get(&idle.ino).is_some_and(|mark| mark.used == idle.used);
        if unused {
            self.files.remove(&idle.ino);
        }
        unused
    }

    /// Whether something is watched and no reading was under way for so long.
    pub(super) fn is_idle(&self, time: Duration) -> bool {
        self.file_systems.values().any(Option::is_some)
            && self.readings.is_empty()
            && clock::now().duration_since(self.last_reading) >= time
    }

    /// Forgets all marks, and what cannot be watched.
    pub(super) fn forget(&mut self) {
        self.file_systems.clear();
        self.files.clear();
    }

    fn oldest_reading(&self) -> u64 {
        self.readings.keys().next().copied().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn ino(number: u64) -> InodeNo {
        InodeNo::new(number).unwrap()
    }

    fn file() -> FileId {
        FileId::from_bytes(Bytes::from_static(b"file")).unwrap()
    }

    fn idle(marks: &Marks) -> Vec<u64> {
        let mut idle: Vec<_> = marks.idle_files().iter().map(|idle| idle.ino.get()).collect();
        idle.sort_unstable();
        idle
    }

    #[test]
    fn a_file_stays_watched_while_a_reading_relies_on_it() {
        let mut marks = Marks::new(2);
        let old = marks.begin();
        marks.add_file(ino(1), file(), old);
        assert!(idle(&marks).is_empty());
        let young = marks.begin();
        assert_eq!(marks.use_file(ino(1), young), Some(2), "since before it began");
        marks.end(young);
        assert!(idle(&marks).is_empty(), "the old one may be using it");
        marks.add_file(ino(2), file(), old);
        assert!(marks.is_full());
        marks.end(old);
        assert_eq!(idle(&marks), [1, 2]);
        let later = marks.begin();
        assert_eq!(idle(&marks), [1, 2], "who began later has not used them");
        let all = marks.idle_files();
        marks.use_file(ino(1), later);
        let removed = all.iter().filter(|idle| marks.remove_idle(idle)).map(|idle| idle.ino.get());
        assert_eq!(removed.collect::<Vec<_>>(), [2]);
        assert_eq!(marks.len(), 1);
    }

    #[test]
    fn what_was_marked_again_is_watched_from_then_on_only() {
        let mut marks = Marks::new(2);
        let began = marks.begin();
        let fs = FsKey(1);
        assert_eq!(marks.file_system(fs), None);
        let since = marks.add_file_system(fs);
        assert_eq!(marks.add_file_system(fs), since, "another was faster");
        let read_from = marks.now();
        assert!(since <= read_from);
        marks.forget();
        assert!(marks.add_file_system(fs) > read_from);
        marks.refuse(FsKey(2));
        assert_eq!(marks.file_system(FsKey(2)), Some(None));
        marks.end(began);
    }

    #[test]
    fn it_is_idle_when_something_is_watched_for_nobody() {
        let mut marks = Marks::new(2);
        assert!(!marks.is_idle(Duration::ZERO), "nothing is watched");
        marks.add_file_system(FsKey(1));
        assert!(marks.is_idle(Duration::ZERO) && !marks.is_idle(Duration::from_secs(3600)));
        let began = marks.begin();
        assert!(!marks.is_idle(Duration::ZERO));
        marks.end(began);
        assert!(marks.is_idle(Duration::ZERO));
    }
}
