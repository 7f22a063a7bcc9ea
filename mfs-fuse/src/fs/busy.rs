//! Files that are written and cannot be run, or run and cannot be written (ETXTBSY).
//!
//! On one machine a file is free when close(2), or the wait(2) for the program, has returned. A mount learns
//! of the last close a moment later, and nobody waits for it. So a refusal counts only if it lasts.

use std::time::Duration;

use mfs::types::Errno;

use super::MountedFs;

/// First pause before asking again, and the longest; about half a second in all.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(256));

// === impl MountedFs ===

impl MountedFs {
    /// Asks, and asks again while the file is in use for something that excludes it and may be over already.
    pub(crate) async fn when_settled<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, Errno>
    where
        F: Future<Output = Result<T, Errno>>,
    {
        let (mut pause, longest) = PAUSES;
        loop {
            match ask().await {
                Err(Errno::TxtBsy) if pause <= longest => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answer => return answer,
            }
        }
    }
}
