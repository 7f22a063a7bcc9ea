//! Tells on standard error how a longer piece of work gets on.

use std::cell::Cell;
use std::time::{Duration, Instant};

use mfs::clock;

use crate::out::tell;

/// The progress of one command.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    last: Cell<Instant>,
}

/// Nobody waits longer than this without being told what for.
const SILENCE: Duration = Duration::from_secs(1);

// === impl Progress ===

impl Progress {
    /// Begins now.
    pub(super) fn begin() -> Self {
        let now = clock::now();
        Self { started: now, last: Cell::new(now) }
    }

    /// Says that a new part begins.
    pub(super) fn step(&self, what: &str) {
        tell(format_args!("[{:4.1} s] {what}", self.seconds()));
        self.last.set(clock::now());
    }

    /// Says how far a part is, when nothing was said for a while.
    pub(super) fn count(&self, done: &str, count: usize, of: usize) {
        if clock::now().duration_since(self.last.get()) >= SILENCE {
            self.step(&format!("  {count} of {of} {done}"));
        }
    }

    /// Seconds since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        clock::now().duration_since(self.started).as_secs_f64()
    }
}
