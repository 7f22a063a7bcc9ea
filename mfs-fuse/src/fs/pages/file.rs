//! `FilePages`: one file's pages in the kernel's cache, as a machine without I/O.

use std::time::Duration;

use mfs::client::Returns;
use mfs::types::{InodeNo, Leases};
use tokio::sync::oneshot;

/// Bytes of a file.
pub(super) type Range = std::ops::Range<u64>;

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
    /// How often everything was lost.
    losses: u64,
    /// READs under way.
    fills: usize,
    /// What came without a lease, or while it was being let go.
    stale: Vec<Range>,
    /// What of that is being dropped.
    dropping: Vec<Range>,
    phase: Phase,
    /// What is to be given back.
    recalls: Vec<(u64, Leases, Returns)>,
    /// READs that wait until it is given back.
    waiting: Vec<oneshot::Sender<()>>,
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
    /// It has begun, at so many losses.
    Now(u64),
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
            losses: 0,
            fills: 0,
            stale: Vec::new(),
            dropping: Vec::new(),
            phase: Phase::Kept,
            recalls: Vec::new(),
            waiting: Vec::new(),
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
        let waits_for_it = |other: &Range| other.start < range.end && range.start < other.end;
        if self.phase == Phase::Finishing && !to_drop.any(waits_for_it) {
            let (sender, receiver) = oneshot::channel();
            self.waiting.push(sender);
            return Start::After(receiver);
        }
        self.fills += 1;
        Start::Now(self.losses)
    }

    /// A READ that began at so many losses was answered with these leases. Whether there is work now.
    pub(super) fn end(&mut self, now: Duration, began: u64, range: &Range, leases: Leases) -> bool {
        self.fills -= 1;
        let counts = self.phase == Phase::Kept && began == self.losses;
        if counts && !leases.is_empty() {
            self.held |= leases;
            self.granted_at = now;
        }
        if !counts || self.held.is_empty() {
            self.stale.push(range.clone());
        }
        let is_wanted = !self.stale.is_empty() || self.phase == Phase::Finishing;
        is_wanted && self.begin_work()
    }

    /// The home asks for `leases`. Whether somebody must begin to work on it.
    pub(super) fn recall(&mut self, recall: u64, leases: Leases, returns: &Returns) -> bool {
        self.recalls.push((recall, leases, returns.clone()));
        if self.phase == Phase::Kept {
            self.phase = Phase::ToDrop;
        }
        self.begin_work()
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
        if self.phase == Phase::Dropping {
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
                self.stale.clear();
                Step::Drop(self.numbers.clone(), vec![WHOLE])
            }
            Phase::Kept | Phase::Dropping | Phase::Finishing if !self.stale.is_empty() => {
                self.dropping = merged(std::mem::take(&mut self.stale));
                Step::Drop(self.numbers.clone(), self.dropping.clone())
            }
            Phase::Finishing if self.fills > 0 => {
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

    /// Whether nothing protects what is answered without a lease to a READ that began at so many losses.
    pub(super) fn is_unprotected(&self, began: u64) -> bool {
        self.phase == Phase::Kept && (self.held.is_empty() || began != self.losses)
    }

    /// Whether data is held on lease.
    pub(super) fn is_leased(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether nothing is known of it that matters.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
            && self.fills == 0
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
mod tests {
    use super::*;

    const PAGE: Range = 0..4096;
    const LATE: Duration = Duration::from_secs(1);

    fn begun(file: &mut FilePages, range: Range) -> u64 {
        match file.begin(InodeNo::FIRST, &range) {
            Start::Now(began) => began,
            Start::After(_) => panic!("it waits"),
        }
    }

    /// A file with a page under a lease.
    fn held() -> FilePages {
        let mut file = FilePages::default();
        let began = begun(&mut file, PAGE);
        assert!(!file.end(Duration::ZERO, began, &PAGE, Leases::DATA_READ));
        file
    }

    #[test]
    fn what_comes_without_a_lease_is_dropped() {
        let mut file = FilePages::default();
        let began = begun(&mut file, PAGE);
        assert!(file.end(Duration::ZERO, began, &PAGE, Leases::empty()));
        assert!(matches!(file.next(LATE), Step::Drop(_, ranges) if ranges == [PAGE]));
        assert!(matches!(file.next(LATE), Step::Return(returned) if returned.is_empty()));
        assert!(file.is_idle());
    }

    #[test]
    fn a_lease_is_kept_for_a_moment_and_returned_when_all_is_dropped() {
        let (mut file, (returns, _)) = (held(), Returns::new());
        assert!(file.recall(7, Leases::DATA_READ, &returns));
        assert!(matches!(file.next(Duration::ZERO), Step::Sleep(LEAST)));
        assert!(matches!(file.next(LATE), Step::Drop(_, ranges) if ranges == [WHOLE]));
        // What comes meanwhile is answered, and dropped before the return.
        let began = begun(&mut file, PAGE);
        assert!(matches!(file.next(LATE), Step::Wait));
        assert!(matches!(file.begin(InodeNo::FIRST, &PAGE), Start::After(_)));
        assert!(file.end(LATE, began, &PAGE, Leases::DATA_READ), "a grant that was overtaken");
        assert!(matches!(file.next(LATE), Step::Drop(_, ranges) if ranges == [PAGE]));
        // A page that is being dropped must not wait for its own return.
        let again = begun(&mut file, PAGE);
        assert!(!file.end(LATE, again, &PAGE, Leases::empty()));
        assert!(matches!(file.next(LATE), Step::Drop(..)));
        assert!(matches!(file.next(LATE), Step::Return(given) if given.len() == 1));
        assert!(file.is_idle() && !file.is_leased());
    }

    #[test]
    fn what_is_lost_is_dropped_and_holds_nobody_up() {
        let (mut file, (returns, _)) = (held(), Returns::new());
        let began = begun(&mut file, PAGE);
        file.recall(7, Leases::DATA_READ, &returns);
        while !matches!(file.next(LATE), Step::Wait) {}
        let Start::After(mut waits) = file.begin(InodeNo::FIRST, &(8192..9000)) else { panic!() };
        assert!(file.lost());
        assert!(waits.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
        assert!(matches!(file.next(LATE), Step::Return(given) if given.is_empty()));
        // Its answer is of a time before.
        assert!(file.end(LATE, began, &PAGE, Leases::DATA_READ));
        assert!(!file.is_leased());
    }

    #[test]
    fn ranges_are_merged() {
        assert_eq!(merged(vec![8..12, 0..4, 4..6, 9..10]), [0..6, 8..12]);
    }
}
