//! `FilePages`: one file's pages in the kernel's cache, as a machine without I/O.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use mfs::client::Returns;
use mfs::types::{DataVersion, InodeNo, Leases};
use tokio::sync::oneshot;

use super::base::{Base, PAGE, Stored, add};

/// Bytes of a file.
pub(super) type Range = std::ops::Range<u64>;

/// Numbers the READs of a file, from 1.
type FillNo = u64;

/// A READ that has begun.
#[derive(Debug, Clone)]
pub(super) struct Fill {
    number: FillNo,
    /// How often everything had been lost by then.
    losses: u64,
    range: Range,
}

/// What a READ has brought that may not be kept.
#[derive(Debug)]
struct Stale {
    number: FillNo,
    range: Range,
    base: Base,
}

/// All of a file.
const WHOLE: Range = 0..u64::MAX;

/// How long a lease is kept at least, or two nodes that store by turns into one page would take it from
/// each other before a program has used it once.
const LEAST: Duration = Duration::from_millis(2);

/// One file.
#[derive(Debug)]
pub(super) struct FilePages {
    /// The numbers under which the kernel knows it.
    numbers: Vec<InodeNo>,
    /// The leases on its data.
    held: Leases,
    /// When the last lease was granted.
    granted_at: Duration,
    /// The latest version that is known under the lease to store, until what was stored under it is written.
    version: Option<DataVersion>,
    /// How often everything was lost.
    losses: u64,
    /// The opens through which it was read to be kept.
    opens: usize,
    /// READs under way, as they were numbered.
    fills: BTreeSet<FillNo>,
    /// The number of the last READ.
    last_fill: FillNo,
    /// What came without a lease, or while it was being let go.
    stale: Vec<Stale>,
    /// What of that is being dropped.
    dropping: Vec<Stale>,
    phase: Phase,
    /// What is to be given back.
    recalls: Vec<(u64, Leases, Returns)>,
    /// READs that wait until it is given back.
    waiting: Vec<oneshot::Sender<()>>,
    /// Who waits until what READs up to this one have brought without a lease is gone.
    settling: Vec<(FillNo, oneshot::Sender<()>)>,
    /// The numbers of which it was told that their pages are kept unchanged.
    told: usize,
    /// Somebody does what [`FilePages::next`] says.
    worked_on: bool,
}

/// How far the file is let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Not at all.
    #[default]
    Kept,
    /// All of it is to be dropped.
    ToDrop,
    /// All of it is being dropped.
    Dropping,
    /// All was dropped once, and nothing new begins until it is returned.
    Finishing,
}

/// Whether a READ may begin.
#[derive(Debug)]
pub(super) enum Start {
    /// It has begun.
    Now(Fill),
    /// It is to be tried again after this.
    After(oneshot::Receiver<()>),
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing yet.
    Sleep(Duration),
    /// Drop these.
    Drop(Vec<InodeNo>, Vec<Range>),
    /// READs under way must end first.
    Wait,
    /// It is done; give this back.
    Return(Vec<(u64, Leases, Returns)>),
}

// === impl FilePages ===

impl Default for FilePages {
    fn default() -> Self {
        Self {
            numbers: Vec::new(),
            held: Leases::empty(),
            granted_at: Duration::ZERO,
            version: None,
            losses: 0,
            opens: 0,
            fills: BTreeSet::new(),
            last_fill: 0,
            stale: Vec::new(),
            dropping: Vec::new(),
            phase: Phase::Kept,
            recalls: Vec::new(),
            waiting: Vec::new(),
            settling: Vec::new(),
            told: 0,
            worked_on: false,
        }
    }
}

impl FilePages {
    /// A READ of `range` for the kernel's file `ino`.
    pub(super) fn begin(&mut self, ino: InodeNo, range: &Range) -> Start {
        if !self.numbers.contains(&ino) {
            self.numbers.push(ino);
        }
        let mut to_drop = self.stale.iter().chain(&self.dropping);
        let waits_for_it =
            |stale: &Stale| stale.range.start < range.end && range.start < stale.range.end;
        if self.phase == Phase::Finishing && !to_drop.any(waits_for_it) {
            let (sender, receiver) = oneshot::channel();
            self.waiting.push(sender);
            return Start::After(receiver);
        }
        self.last_fill += 1;
        self.fills.insert(self.last_fill);
        Start::Now(Fill { number: self.last_fill, losses: self.losses, range: range.clone() })
    }

    /// A READ was answered with these leases and this data. Whether there is work now.
    pub(super) fn end(&mut self, now: Duration, fill: &Fill, leases: Leases, data: &Bytes) -> bool {
        self.fills.remove(&fill.number);
        let counts = self.phase == Phase::Kept && fill.losses == self.losses;
        if counts && !leases.is_empty() {
            self.held |= leases;
            self.granted_at = now;
        }
        if !counts || self.held.is_empty() {
            let (number, range) = (fill.number, fill.range.clone());
            self.stale.push(Stale { number, base: Base::new(range.start, data.clone()), range });
        }
        self.settled();
        let is_wanted = !self.stale.is_empty() || self.phase == Phase::Finishing;
        is_wanted && self.begin_work()
    }

    /// What programs have stored here of a piece of the file that the kernel writes back, as ranges of
    /// `data`.
    pub(super) fn stored(&mut self, offset: u64, data: &Bytes) -> Vec<Stored> {
        let mut stored = Vec::new();
        for start in (0..data.len()).step_by(PAGE) {
            let page = data.slice(start..data.len().min(start + PAGE));
            let at = offset + start as u64;
            // The last one that brought it: nothing is read again before it was dropped.
            let stale = self.dropping.iter_mut().chain(&mut self.stale);
            match stale.filter(|stale| stale.range.contains(&at)).max_by_key(|s| s.number) {
                Some(stale) => {
                    for piece in stale.base.update(at, page) {
                        let piece = piece.start + start..piece.end + start;
                        add(&mut stored, Stored { piece, known: None });
                    }
                }
                // Under a lease, be it one that was lost, all of it is what the file is to be.
                None => {
                    let piece = start..start + page.len();
                    add(&mut stored, Stored { piece, known: self.version });
                }
            }
        }
        stored
    }

    /// Takes note of a version that nobody but this client has made since it holds the lease to store.
    pub(super) fn knows(&mut self, version: Option<DataVersion>) {
        let stores = self.version.is_some() || self.held.contains(Leases::DATA_WRITE);
        let known = |known: DataVersion| version.is_some_and(|new| new.ctime < known.ctime);
        if stores && version.is_some() && !self.version.is_some_and(known) {
            self.version = version;
        }
    }

    /// Waits for what was read without a lease until now to be gone; `None` if there is nothing of it.
    pub(super) fn settle(&mut self) -> Option<oneshot::Receiver<()>> {
        // What is read under a lease is as new as the lease.
        let reads = self.held.is_empty() && !self.fills.is_empty();
        if !reads && self.stale.is_empty() && self.dropping.is_empty() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.settling.push((self.last_fill, sender));
        Some(receiver)
    }

    /// Wakes those who wait for nothing any more.
    fn settled(&mut self) {
        let left = self.stale.iter().chain(&self.dropping).map(|stale| stale.number);
        let oldest = left.chain(self.fills.first().copied()).min();
        self.settling.retain(|(last, _)| oldest.is_some_and(|oldest| oldest <= *last)); // wakes them
    }

    /// The home asks for `leases`. Whether somebody must begin to work on it.
    pub(super) fn recall(&mut self, recall: u64, leases: Leases, returns: &Returns) -> bool {
        self.recalls.push((recall, leases, returns.clone()));
        if self.phase == Phase::Kept {
            self.phase = Phase::ToDrop;
        }
        self.begin_work()
    }

    /// It is read to be kept, through one more open.
    pub(super) fn open(&mut self) {
        self.opens += 1;
    }

    /// One of those opens is closed.
    pub(super) fn close(&mut self) {
        self.opens = self.opens.saturating_sub(1);
    }

    /// The numbers under which the kernel knows it.
    pub(super) fn numbers(&self) -> Vec<InodeNo> {
        self.numbers.clone()
    }

    /// The leases are gone, and nothing need be returned. Whether somebody must begin to work on it.
    pub(super) fn lost(&mut self) -> bool {
        self.losses += 1;
        self.held = Leases::empty();
        self.recalls.clear();
        self.waiting.clear();
        match self.phase {
            Phase::Kept => self.phase = Phase::ToDrop,
            Phase::Finishing => self.phase = Phase::Kept,
            Phase::ToDrop | Phase::Dropping => {}
        }
        self.begin_work()
    }

    /// What is to be done next, by who began to work on it.
    pub(super) fn next(&mut self, now: Duration) -> Step {
        self.dropping.clear();
        self.settled();
        if self.phase == Phase::Dropping {
            self.version = None;
            self.phase = if self.recalls.is_empty() { Phase::Kept } else { Phase::Finishing };
        }
        match self.phase {
            Phase::ToDrop => {
                let kept_for = now.saturating_sub(self.granted_at);
                if !self.recalls.is_empty() && kept_for < LEAST {
                    return Step::Sleep(LEAST - kept_for);
                }
                self.phase = Phase::Dropping;
                // One range beside it would be a second one, for which nothing waits.
                self.dropping = std::mem::take(&mut self.stale);
                Step::Drop(self.numbers.clone(), vec![WHOLE])
            }
            Phase::Kept | Phase::Dropping | Phase::Finishing if !self.stale.is_empty() => {
                self.dropping = std::mem::take(&mut self.stale);
                let ranges = self.dropping.iter().map(|stale| stale.range.clone()).collect();
                Step::Drop(self.numbers.clone(), merged(ranges))
            }
            Phase::Finishing if !self.fills.is_empty() => {
                self.worked_on = false;
                Step::Wait
            }
            Phase::Kept | Phase::Dropping | Phase::Finishing => {
                let returned = self.recalls.iter().map(|(_, leases, _)| *leases);
                self.held = returned.fold(self.held, |held, leases| held - leases);
                self.phase = Phase::Kept;
                self.worked_on = false;
                self.waiting.clear(); // wakes them
                Step::Return(std::mem::take(&mut self.recalls))
            }
        }
    }

    /// Whether nothing protects what is answered without a lease to a READ.
    pub(super) fn is_unprotected(&self, fill: &Fill) -> bool {
        self.phase == Phase::Kept && (self.held.is_empty() || fill.losses != self.losses)
    }

    /// Whether somebody works on it.
    pub(super) const fn is_worked_on(&self) -> bool {
        self.worked_on
    }

    /// Whether data is held on lease.
    pub(super) fn is_leased(&self) -> bool {
        !self.held.is_empty()
    }

    /// The numbers of which it is to be told that their pages are kept, or not any more. Pages that may have
    /// been stored into are not meant: to drop them takes more than the kernel.
    pub(super) fn newly_kept(&mut self) -> Option<(&[InodeNo], bool)> {
        let kept = self.is_leased() && !self.held.contains(Leases::DATA_WRITE);
        let before = std::mem::replace(&mut self.told, if kept { self.numbers.len() } else { 0 });
        match (kept, before) {
            (true, before) if before < self.numbers.len() => Some((&self.numbers[before..], true)),
            (false, 1..) => Some((&self.numbers[..before], false)),
            _ => None,
        }
    }

    /// Whether nothing is known of it that matters.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
            && self.opens == 0
            && self.fills.is_empty()
            && self.stale.is_empty()
            && self.phase == Phase::Kept
            && !self.worked_on
    }

    fn begin_work(&mut self) -> bool {
        !std::mem::replace(&mut self.worked_on, true)
    }
}

/// The same bytes, each once.
fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut whole: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match whole.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => whole.push(range),
        }
    }
    whole
}

#[cfg(test)]
mod tests;
