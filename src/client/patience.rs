//! `Patience`: how long a caller waits, and what makes it stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Says whether the caller should stop waiting, for instance because it has a signal pending. Called from
/// time to time while the caller waits, never for answers that come at once; not for long.
pub type Interrupted = Arc<dyn Fn() -> bool + Send + Sync>;

/// How long a caller waits.
#[derive(Clone)]
pub struct Patience {
    /// At most so long for an operation, the waiting for a restarting mfsd included. Not for a lock that
    /// is held by others, which is waited for until `interrupted`.
    pub timeout: Duration,
    /// Waits for ever instead, also while the node is away.
    pub hard: bool,
    /// What ends the waiting with EINTR.
    pub interrupted: Option<Interrupted>,
}

// === impl Patience ===

impl Patience {
    /// The default of `timeo=`: longer than a recall and a grace period.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// Waits for at most `timeout`.
    pub const fn soft(timeout: Duration) -> Self {
        Self { timeout, hard: false, interrupted: None }
    }

    /// How long an answer may take; `None`: for ever.
    pub(super) fn limit(&self) -> Option<Duration> {
        (!self.hard).then_some(self.timeout)
    }

    /// Whether the caller is to stop now.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.as_ref().is_some_and(|interrupted| interrupted())
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::soft(Self::DEFAULT_TIMEOUT)
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("timeout", &self.timeout)
            .field("hard", &self.hard)
            .field("interruptible", &self.interrupted.is_some())
            .finish()
    }
}
