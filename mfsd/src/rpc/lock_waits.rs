//! `LockWaits`: the requests of one session that wait for a lock, so that they can be given up, and shown.
//!
//! A client asks again when the longest wait is over; who looks sees one wait, from its first request on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mfs::types::op::{LockFamily, LockKind, LockRange, SetLock};
use mfs::types::{LockOwner, OpenId, RequestId};

/// The waits of a session.
#[derive(Debug, Default)]
pub(super) struct LockWaits {
    waiting: HashMap<RequestId, LockWait>,
    /// Waits that ended with their request: since when, and when it ended.
    before: HashMap<Wanted, (Instant, Instant)>,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct LockWait {
    pub(super) lock: SetLock,
    /// The process, as its node numbers it.
    pub(super) pid: u32,
    pub(super) since: Instant,
    given_up: Arc<AtomicBool>,
}

/// What tells one wait from another.
type Wanted = (OpenId, LockOwner, LockFamily, LockKind, LockRange);

/// A client that still wants the lock asks again within this.
const AGAIN: Duration = Duration::from_secs(1);

// === impl LockWaits ===

impl LockWaits {
    /// A request begins to wait; the flag is set when its client gives it up.
    pub(super) fn begin(
        &mut self,
        id: RequestId,
        lock: &SetLock,
        pid: u32,
        now: Instant,
    ) -> Arc<AtomicBool> {
        self.before.retain(|_, (_, ended)| now.saturating_duration_since(*ended) < AGAIN);
        let since = self.before.remove(&wanted(lock)).map_or(now, |(since, _)| since);
        let wait = LockWait { lock: lock.clone(), pid, since, given_up: Arc::default() };
        let given_up = Arc::clone(&wait.given_up);
        self.waiting.insert(id, wait);
        given_up
    }

    /// A request has been answered.
    pub(super) fn end(&mut self, id: RequestId, now: Instant) {
        if let Some(LockWait { lock, since, .. }) = self.waiting.remove(&id) {
            self.before.insert(wanted(&lock), (since, now));
        }
    }

    /// The client gives a request up. Whether it waited.
    pub(super) fn give_up(&self, id: RequestId) -> bool {
        let wait = self.waiting.get(&id);
        if let Some(wait) = wait {
            wait.given_up.store(true, Ordering::Release);
        }
        wait.is_some()
    }

    /// All that wait.
    pub(super) fn all(&self) -> Vec<LockWait> {
        self.waiting.values().cloned().collect()
    }
}

fn wanted(lock: &SetLock) -> Wanted {
    (lock.open, lock.owner, lock.family, lock.kind, lock.range)
}

#[cfg(test)]
mod tests {
    use mfs::clock;
    use mfs::types::op::Taking;

    use super::*;

    #[test]
    fn who_asks_again_at_once_waits_since_the_first_time() {
        let lock = SetLock {
            open: OpenId::FIRST,
            owner: LockOwner(1),
            family: LockFamily::Range,
            kind: LockKind::Shared,
            range: LockRange::ALL,
            wait: true,
            taking: Taking::default(),
        };
        let (mut waits, start) = (LockWaits::default(), clock::now());
        let at = |millis| start + Duration::from_millis(millis);
        let id = |number| RequestId::new(number).unwrap();
        waits.begin(id(1), &lock, 7, start);
        waits.end(id(1), at(9_000));
        let given_up = waits.begin(id(2), &lock, 7, at(9_020));
        assert_eq!(waits.all()[0].since, start);
        assert!(waits.give_up(id(2)) && !waits.give_up(id(1)));
        assert!(given_up.load(Ordering::Acquire));
        waits.end(id(2), at(9_100));
        waits.begin(id(3), &lock, 7, at(11_000));
        assert_eq!(waits.all()[0].since, at(11_000), "that is another wait");
    }
}
