//! `Settling`: after a restart, who may have changed pages of before that are not written back yet.
//!
//! A mount that greets again has forgotten its leases, but what programs have stored under them reaches this
//! node only afterwards. Until it says that it has (ReturnLease without files), or cannot come any more, what
//! a file holds is not known: whoever reads data waits. Changes do not, beyond the grace of the leases: the
//! writing back is one.
//!
//! Lock order: `Settling::inner` is a leaf; what waited goes on without it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mfs::lease::Grace;
use mfs::sync::Mutex;

/// How long after the grace of the leases it is waited: a change that waited for that takes its time.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// Readers that wait for the mounts of before.
pub(super) struct Settling {
    /// Most reads come long after any restart.
    over: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Those who have not settled, unless it is not known who.
    awaited: HashSet<u64>,
    /// Whether they are all known.
    known: bool,
    until: Duration,
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

// === impl Settling ===

impl Settling {
    /// After a daemon that left this behind.
    pub(super) fn after(grace: Option<&Grace>) -> Self {
        let awaited = grace.map(|grace| grace.awaited.clone()).unwrap_or_default();
        let until = grace.map_or(Duration::ZERO, |grace| grace.until + AFTERWARDS);
        let inner = Inner { known: !awaited.is_empty(), awaited, until, waiting: Vec::new() };
        Self { over: AtomicBool::new(grace.is_none()), inner: Mutex::new(inner) }
    }

    /// Gives `job` back if it may read data now; else it goes on by `resume` when it may. `fills`: its client
    /// keeps what it reads; then one that has not settled does not wait, since it may have to read before it
    /// can write back.
    pub(super) fn delay<J: Send + 'static>(
        &self,
        client: u64,
        fills: bool,
        job: J,
        resume: impl FnOnce(J) + Send + 'static,
    ) -> Option<J> {
        if self.over.load(Ordering::Acquire) {
            return Some(job);
        }
        let mut inner = self.inner.lock();
        let is_over = self.over.load(Ordering::Acquire);
        if is_over || fills && (!inner.known || inner.awaited.contains(&client)) {
            return Some(job);
        }
        inner.waiting.push(Box::new(move || resume(job)));
        None
    }

    /// A client has written back what it kept, or kept nothing.
    pub(super) fn settled(&self, client: u64) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.awaited.remove(&client) && inner.awaited.is_empty() && inner.known {
            self.end(inner);
        }
    }

    /// Time has passed.
    pub(super) fn tick(&self, now: Duration) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        let inner = self.inner.lock();
        if now >= inner.until {
            self.end(inner);
        }
    }

    fn end(&self, mut inner: mfs::sync::MutexGuard<'_, Inner>) {
        self.over.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(|go_on| go_on());
    }
}

impl std::fmt::Debug for Settling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Settling").field(&self.over).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const UNTIL: Duration = Duration::from_secs(10);

    /// What a read comes to: whether it runs at once, and how many have run.
    fn read(settling: &Settling, client: u64, fills: bool, ran: &Arc<AtomicUsize>) -> bool {
        let resumed = Arc::clone(ran);
        let go_on = move |()| {
            resumed.fetch_add(1, Ordering::Relaxed);
        };
        settling.delay(client, fills, (), go_on).is_some()
    }

    #[test]
    fn readers_wait_for_all_who_may_have_changed_something() {
        let ran = Arc::default();
        assert!(read(&Settling::after(None), 1, false, &ran), "nobody was there before");
        let grace = Grace { awaited: [5, 6].into(), until: UNTIL };
        let settling = Settling::after(Some(&grace));
        assert!(!read(&settling, 1, false, &ran) && !read(&settling, 5, false, &ran));
        assert!(!read(&settling, 1, true, &ran) && read(&settling, 5, true, &ran));
        settling.settled(5);
        settling.settled(7);
        assert_eq!(ran.load(Ordering::Relaxed), 0);
        settling.settled(6);
        assert_eq!(ran.load(Ordering::Relaxed), 3);
        assert!(read(&settling, 1, false, &ran));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let ran = Arc::default();
        let settling = Settling::after(Some(&Grace { awaited: [].into(), until: UNTIL }));
        assert!(!read(&settling, 1, false, &ran), "it is not known who");
        settling.tick(UNTIL);
        assert_eq!(ran.load(Ordering::Relaxed), 0);
        settling.tick(UNTIL + AFTERWARDS);
        assert_eq!(ran.load(Ordering::Relaxed), 1);
    }
}
