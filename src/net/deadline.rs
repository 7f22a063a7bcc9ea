//! `Deadline`: until when something may take; a point in time, or never.

use std::time::{Duration, Instant};

/// A point in time after which nobody waits any more. `NEVER` is for waits that another way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline(Option<Instant>);

// === impl Deadline ===

impl Deadline {
    /// Does not pass.
    pub const NEVER: Self = Self(None);

    /// Passes `timeout` after `now`; a timeout beyond what the clock can express never passes.
    pub fn after(now: Instant, timeout: Duration) -> Self {
        Self(now.checked_add(timeout))
    }

    /// The point in time; `None` if it never passes.
    pub const fn at(self) -> Option<Instant> {
        self.0
    }

    /// Whether it has passed at `now`.
    pub fn has_passed(self, now: Instant) -> bool {
        self.0.is_some_and(|at| at <= now)
    }

    /// The time that is left at `now`; `None` if it never passes.
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn it_passes_at_its_moment() {
        let now = clock::now();
        let deadline = Deadline::after(now, Duration::from_secs(2));
        assert!(!deadline.has_passed(now + Duration::from_millis(1_999)));
        assert!(deadline.has_passed(now + Duration::from_secs(2)));
        assert_eq!(deadline.remaining(now + Duration::from_secs(1)), Some(Duration::from_secs(1)));
        assert_eq!(deadline.remaining(now + Duration::from_secs(9)), Some(Duration::ZERO));
    }

    #[test]
    fn never_never_passes() {
        let now = clock::now();
        assert!(!Deadline::NEVER.has_passed(now + Duration::from_secs(1 << 30)));
        assert_eq!(Deadline::NEVER.remaining(now), None);
        assert_eq!(Deadline::after(now, Duration::MAX), Deadline::NEVER);
    }
}
