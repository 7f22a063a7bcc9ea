//! The requests that wait for a lock.
//!
//! A lock on the real file is tried without waiting; what does not get it queues here, by file, and is
//! tried again when a peer releases one and at each tick (a process of this node releases its locks
//! without telling). So no thread waits. Expects that trying does not wait and does not panic.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mfs::sync::Mutex;
use mfs::telemetry::instruments::Held as Counted;
use mfs::telemetry::metrics::SERVER_LOCKS_WAITING;
use mfs::types::{Errno, InodeNo};
use mfs::wire::Failure;

/// The queues of all files.
#[derive(Debug, Default)]
pub(super) struct LockWaiters {
    queues: Mutex<HashMap<InodeNo, Queue>>,
}

/// The queue of one file, in the order of coming.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiter>,
    /// Somebody goes through the queue at the moment; the waiters are with it.
    swept: bool,
    /// Something was released meanwhile: go through it once more.
    again: bool,
}

/// One request that waits.
pub(super) struct Waiter {
    deadline: Instant,
    given_up: Arc<AtomicBool>,
    attempt: Box<dyn FnMut() -> Result<(), Failure> + Send>,
    answer: Box<dyn FnOnce(Result<(), Failure>) + Send>,
    _counted: Counted,
}

// === impl LockWaiters ===

impl LockWaiters {
    /// Lets a request wait. Sweep the file afterwards: its lock may have been released since it was tried.
    pub(super) fn add(&self, ino: InodeNo, waiter: Waiter) {
        self.queues.lock().entry(ino).or_default().waiting.push(waiter);
    }

    /// The files for which somebody waits.
    pub(super) fn files(&self) -> Vec<InodeNo> {
        self.queues.lock().keys().copied().collect()
    }

    /// Whether somebody waits for `ino`.
    pub(super) fn is_awaited(&self, ino: InodeNo) -> bool {
        self.queues.lock().contains_key(&ino)
    }

    /// Tries the locks of those who wait for `ino`, in their order; answers those who get it, gave up, or
    /// whose time is over at `now`. Makes system calls. Sweeps of one file do not run side by side.
    pub(super) fn sweep(&self, ino: InodeNo, now: Instant) {
        let Some(mut waiting) = self.begin(ino) else { return };
        loop {
            let left = waiting.into_iter().filter_map(|waiter| waiter.step(now)).collect();
            match self.end(ino, left) {
                Some(once_more) => waiting = once_more,
                None => return,
            }
        }
    }

    /// Takes the queue of `ino` for a sweep; `None` if there is none, or it is being swept.
    fn begin(&self, ino: InodeNo) -> Option<Vec<Waiter>> {
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(&ino)?;
        if queue.swept {
            queue.again = true;
            return None;
        }
        queue.swept = true;
        Some(std::mem::take(&mut queue.waiting))
    }

    /// Gives back who is left; takes all again if something was released meanwhile.
    fn end(&self, ino: InodeNo, mut left: Vec<Waiter>) -> Option<Vec<Waiter>> {
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(&ino)?;
        left.append(&mut queue.waiting);
        if std::mem::take(&mut queue.again) {
            return Some(left);
        }
        if left.is_empty() {
            queues.remove(&ino);
            return None;
        }
        queue.waiting = left;
        queue.swept = false;
        None
    }
}

// === impl Waiter ===

impl Waiter {
    /// A request that waits until `deadline`, or until `given_up` is set. `attempt` tries the lock, EAGAIN
    /// if it is held; `answer` takes the outcome: EAGAIN when the time is over, EINTR when it was given up.
    pub(super) fn new(
        deadline: Instant,
        given_up: Arc<AtomicBool>,
        attempt: impl FnMut() -> Result<(), Failure> + Send + 'static,
        answer: impl FnOnce(Result<(), Failure>) + Send + 'static,
    ) -> Self {
        let (attempt, answer) = (Box::new(attempt), Box::new(answer));
        Self { deadline, given_up, attempt, answer, _counted: SERVER_LOCKS_WAITING.hold() }
    }

    /// One step; gives the waiter back if it goes on waiting.
    fn step(mut self, now: Instant) -> Option<Self> {
        let result = if self.given_up.load(Ordering::Acquire) {
            Err(Failure::File(Errno::Intr))
        } else {
            (self.attempt)()
        };
        if result == Err(Failure::File(Errno::Again)) && now < self.deadline {
            return Some(self);
        }
        let Self { attempt, answer, .. } = self;
        // What the attempt shares with the answer is the answer's alone from here on.
        drop(attempt);
        answer(result);
        None
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mfs::clock;

    use super::*;

    const INO: InodeNo = InodeNo::FIRST;

    /// Who was told, and what.
    type Told = (u32, Result<(), Failure>);

    /// A lock that one may hold, and the record of what waiters were told.
    #[derive(Clone, Default)]
    struct Lock {
        held: Arc<AtomicBool>,
        told: Arc<Mutex<Vec<Told>>>,
    }

    impl Lock {
        fn waiter(&self, who: u32, deadline: Instant, given_up: &Arc<AtomicBool>) -> Waiter {
            let (held, told) = (Arc::clone(&self.held), Arc::clone(&self.told));
            let attempt = move || match held.swap(true, Ordering::AcqRel) {
                true => Err(Failure::File(Errno::Again)),
                false => Ok(()),
            };
            let answer = move |result| told.lock().push((who, result));
            Waiter::new(deadline, Arc::clone(given_up), attempt, answer)
        }

        fn told(&self) -> Vec<Told> {
            std::mem::take(&mut *self.told.lock())
        }
    }

    #[test]
    fn a_released_lock_goes_to_the_first_who_waits() {
        let (waiters, lock, now) = (LockWaiters::default(), Lock::default(), clock::now());
        let later = now + Duration::from_secs(1);
        let given_up = Arc::new(AtomicBool::new(false));
        lock.held.store(true, Ordering::Release);
        for who in 1..=3 {
            waiters.add(INO, lock.waiter(who, later, &given_up));
        }
        waiters.sweep(INO, now);
        assert_eq!(lock.told(), []);
        for who in 1..=3 {
            lock.held.store(false, Ordering::Release);
            waiters.sweep(INO, now);
            assert_eq!(lock.told(), [(who, Ok(()))]);
        }
        assert!(!waiters.is_awaited(INO), "an empty queue is forgotten");
    }

    #[test]
    fn who_waits_too_long_is_told_to_try_again() {
        let (waiters, lock, now) = (LockWaiters::default(), Lock::default(), clock::now());
        let given_up = Arc::new(AtomicBool::new(false));
        lock.held.store(true, Ordering::Release);
        waiters.add(INO, lock.waiter(1, now + Duration::from_secs(1), &given_up));
        waiters.sweep(INO, now + Duration::from_millis(999));
        assert_eq!(lock.told(), []);
        waiters.sweep(INO, now + Duration::from_secs(1));
        assert_eq!(lock.told(), [(1, Err(Failure::File(Errno::Again)))]);
    }

    #[test]
    fn who_gave_up_gets_no_lock() {
        let (waiters, lock, now) = (LockWaiters::default(), Lock::default(), clock::now());
        let given_up = Arc::new(AtomicBool::new(false));
        waiters.add(INO, lock.waiter(1, now + Duration::from_secs(1), &given_up));
        given_up.store(true, Ordering::Release);
        waiters.sweep(INO, now);
        assert_eq!(lock.told(), [(1, Err(Failure::File(Errno::Intr)))]);
        assert!(!lock.held.load(Ordering::Acquire));
    }

    #[test]
    fn a_release_during_a_sweep_is_not_missed() {
        let (waiters, lock, now) =
            (Arc::new(LockWaiters::default()), Lock::default(), clock::now());
        let later = now + Duration::from_secs(1);
        let given_up = Arc::new(AtomicBool::new(false));
        // The first attempt finds the lock held; while it looks, another sweep is asked for.
        let (inner, mut first) = (Arc::clone(&waiters), true);
        let told = Arc::clone(&lock.told);
        let attempt = move || {
            if std::mem::take(&mut first) {
                inner.sweep(INO, now);
                return Err(Failure::File(Errno::Again));
            }
            Ok(())
        };
        let answer = move |result| told.lock().push((1, result));
        waiters.add(INO, Waiter::new(later, given_up, attempt, answer));
        waiters.sweep(INO, now);
        assert_eq!(lock.told(), [(1, Ok(()))]);
    }
}
