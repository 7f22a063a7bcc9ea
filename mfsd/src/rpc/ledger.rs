//! `Ledger`: which clients may hold leases, written down before the first is granted, so that this node's
//! next daemon knows whom to wait for.
//!
//! Lives in the runtime directory, which a boot empties; what was granted before a boot is over a term
//! after it. Blocks: belongs on threads for that.
//!
//! Lock order: `Ledger::names` is a leaf.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use mfs::failpoint::{self, Point};
use mfs::lease::Grace;
use mfs::sync::Mutex;

use super::session::Owner;

/// The file.
#[derive(Debug)]
pub(super) struct Ledger {
    /// `None`: nothing is written, in tests of what does not restart.
    path: Option<PathBuf>,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// Of the daemon before this one; they have not greeted yet.
    before: BTreeSet<u64>,
    /// And how many of their sessions did not say goodbye.
    now: BTreeMap<u64, usize>,
}

/// More clients than this are not named one by one. A mount that ends says so and is taken out.
const MOST: usize = 4_096;

/// Stands for clients that are not named.
const MANY: &str = "many";

// === impl Ledger ===

impl Ledger {
    /// Opens what the daemon before left, and says whom to wait for, and until when: a `term` from `now`,
    /// or from the boot where nothing was left.
    pub(super) fn open(
        path: Option<PathBuf>,
        now: Duration,
        term: Duration,
    ) -> (Self, Option<Grace>) {
        let text = path.as_ref().map(fs::read_to_string);
        let (before, grace) = match text {
            None => (BTreeSet::new(), None),
            Some(Err(_)) => {
                let grace = Grace { awaited: HashSet::new(), until: term };
                (BTreeSet::new(), (now < term).then_some(grace))
            }
            Some(Ok(text)) => {
                let names: Option<BTreeSet<u64>> =
                    text.lines().map(|line| u64::from_str_radix(line, 16).ok()).collect();
                let until = now + term;
                match names {
                    Some(names) if names.is_empty() => (names, None),
                    Some(names) => {
                        let awaited = names.iter().copied().collect();
                        (names, Some(Grace { awaited, until }))
                    }
                    // Not all are named, or it was not written to its end.
                    None => (BTreeSet::new(), Some(Grace { awaited: HashSet::new(), until })),
                }
            }
        };
        let names = Mutex::new(Names { before, now: BTreeMap::new() });
        (Self { path, names }, grace)
    }

    /// A session of a client may hold leases from now on.
    ///
    /// # Errors
    /// That it could not be written down: then it must not be granted any.
    pub(super) fn add(&self, client: u64) -> io::Result<()> {
        let mut names = self.names.lock();
        names.before.remove(&client);
        let sessions = names.now.entry(client).or_default();
        *sessions += 1;
        if *sessions > 1 {
            return Ok(());
        }
        let written = self.write(&names);
        if written.is_err() {
            names.now.remove(&client);
        }
        written
    }

    /// A client has said goodbye in one of its sessions.
    pub(super) fn remove(&self, client: u64) {
        let mut names = self.names.lock();
        let Some(sessions) = names.now.get_mut(&client) else { return };
        *sessions -= 1;
        if *sessions == 0 {
            names.now.remove(&client);
            self.rewrite(&names);
        }
    }

    /// The clients of before cannot hold anything any more.
    pub(super) fn forget_before(&self) {
        let mut names = self.names.lock();
        if !names.before.is_empty() {
            names.before.clear();
            self.rewrite(&names);
        }
    }

    /// As [`Self::write`], where too many names only make the next daemon wait longer than it had to.
    fn rewrite(&self, names: &Names) {
        if let Err(error) = self.write(names) {
            tracing::warn!("cannot write down who remembers: {error}");
        }
    }

    fn write(&self, names: &Names) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut text = String::new();
        if names.before.len() + names.now.len() > MOST {
            text.push_str(MANY);
        } else {
            for name in names.before.iter().chain(names.now.keys()) {
                let _ = writeln!(text, "{name:x}");
            }
        }
        let new = path.with_extension("new");
        failpoint::reach(Point::Journal, || "");
        fs::write(&new, text)?;
        fs::rename(new, path)?;
        failpoint::reach(Point::Journaled, || "");
        Ok(())
    }
}

/// What a client is called in the ledger. The same in the next daemon; in one of another version perhaps
/// not: then it waits for the whole term.
pub(super) fn name_of(owner: &Owner) -> u64 {
    let mut hasher = DefaultHasher::new();
    owner.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(10);
    const LATE: Duration = Duration::from_secs(1_000);

    fn open(path: &std::path::Path, now: Duration) -> (Ledger, Option<(Vec<u64>, Duration)>) {
        let (ledger, grace) = Ledger::open(Some(path.to_owned()), now, TERM);
        let grace = grace.map(|grace| {
            let mut awaited: Vec<_> = grace.awaited.into_iter().collect();
            awaited.sort_unstable();
            (awaited, grace.until)
        });
        (ledger, grace)
    }

    #[test]
    fn the_next_daemon_waits_for_those_who_may_hold_something() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        let (first, grace) = open(&path, LATE);
        assert_eq!(grace, None, "nobody was ever granted anything");
        for client in [3, 1, 2] {
            first.add(client).unwrap();
        }
        first.remove(2);
        first.add(3).unwrap();
        first.remove(3); // one of two sessions
        let (second, grace) = open(&path, LATE);
        assert_eq!(grace, Some((vec![1, 3], LATE + TERM)));
        // Killed before all of them have come, it leaves them to the one after it.
        second.add(3).unwrap();
        second.add(4).unwrap();
        let (third, grace) = open(&path, LATE);
        assert_eq!(grace.unwrap().0, [1, 3, 4]);
        third.add(4).unwrap();
        third.forget_before();
        assert_eq!(open(&path, LATE).1.unwrap().0, [4]);
        third.remove(4);
        assert_eq!(open(&path, LATE).1, None);
    }

    #[test]
    fn who_is_not_known_is_waited_for_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        assert_eq!(open(&path, TERM / 2).1, Some((vec![], TERM)), "the machine was just booted");
        for text in [MANY, "1\nx\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(open(&path, LATE).1, Some((vec![], LATE + TERM)));
        }
        let (ledger, _) = open(&path, LATE);
        for client in 0..=MOST as u64 {
            ledger.names.lock().now.insert(client, 1);
        }
        ledger.add(u64::MAX).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), MANY);
        fs::remove_file(&path).unwrap();
        fs::remove_dir(dir.path()).unwrap();
        assert!(ledger.add(0).is_ok() && ledger.add(7_000).is_err());
    }
}
