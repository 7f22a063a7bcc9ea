//! `Past`: jobs of this node that have ended, as long as they are remembered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mfs::clock;
use mfs_proto::v1;

/// How many are remembered: more than anybody looks through.
const MOST: usize = 1_000;

/// For how long.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The last of them, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Past(VecDeque<Gone>);

#[derive(Debug)]
struct Gone {
    number: u64,
    job: v1::Job,
    at: Instant,
}

// === impl Past ===

impl Past {
    /// One has just ended.
    pub(super) fn remember(&mut self, number: u64, job: v1::Job) {
        self.forget();
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Gone { number, job, at: clock::now() });
    }

    /// How one has ended.
    pub(super) fn ended(&mut self, number: u64) -> Option<v1::JobEnded> {
        self.forget();
        self.0.iter().find(|gone| gone.number == number)?.job.ended.clone()
    }

    /// All of them.
    pub(super) fn all(&mut self) -> Vec<(u64, v1::Job)> {
        self.forget();
        let told = |gone: &Gone| {
            let ended_ms = millis(gone.at.elapsed());
            (gone.number, v1::Job { ended_ms, ..gone.job.clone() })
        };
        self.0.iter().map(told).collect()
    }

    fn forget(&mut self) {
        while self.0.front().is_some_and(|oldest| oldest.at.elapsed() > KEPT) {
            self.0.pop_front();
        }
    }
}

/// A length of time, as it is told.
pub(super) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered() {
        let mut past = Past::default();
        for number in 1..=MOST as u64 + 1 {
            let ended = v1::JobEnded { how: Some(v1::job_ended::How::Exited(number as u32)) };
            past.remember(number, v1::Job { ended: Some(ended), ..v1::Job::default() });
        }
        assert_eq!(past.all().len(), MOST);
        assert_eq!(past.ended(1), None);
        assert!(past.ended(2).is_some());
    }
}
