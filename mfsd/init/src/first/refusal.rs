//! `Refusal`: why a job cannot be run, as its user is told.

use std::fmt::Display;

use mfs_init::Report;

/// A sentence, and the exit status that a shell would give.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What happened, to what.
    pub sentence: String,
    /// 126 or 127.
    pub status: u8,
}

/// Says of an error what was tried.
pub(super) trait OrRefuse<T> {
    /// The value; or "it cannot WHAT: ERROR", with status 126.
    fn or_refuse(self, what: impl Display) -> Result<T, Refusal>;
}

// === impl Refusal ===

impl Refusal {
    /// With status 126: it is there, but cannot be run.
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), status: 126 }
    }
}

impl From<Refusal> for Report {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal.sentence, refusal.status)
    }
}

impl<T, E: Display> OrRefuse<T> for Result<T, E> {
    fn or_refuse(self, what: impl Display) -> Result<T, Refusal> {
        self.map_err(|error| Refusal::new(format!("the job cannot {what}: {error}")))
    }
}
