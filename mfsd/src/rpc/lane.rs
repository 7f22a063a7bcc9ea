//! A peer's part of the threads that file operations run on.
//!
//! The threads are few, and operations may take long: a slow disk, another's kernel lease. A peer that
//! has many under way must not keep the others' from beginning; its own wait their turn here.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mfs::sync::Mutex;

/// A piece of work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The jobs of one peer, at most so many of them on threads at a time.
#[derive(Clone)]
pub(super) struct Lane(Arc<Mutex<Inner>>);

struct Inner {
    free: usize,
    waiting: VecDeque<Job>,
}

// === impl Lane ===

impl Lane {
    /// A lane with room for so many jobs at a time.
    pub(super) fn new(width: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { free: width.max(1), waiting: VecDeque::new() })))
    }

    /// Runs `job` by `spawn`, now or when one of those before it is done. Does not wait.
    pub(super) fn submit(&self, job: Job, spawn: impl FnOnce(Job)) {
        let mut inner = self.0.lock();
        if inner.free == 0 {
            return inner.waiting.push_back(job);
        }
        inner.free -= 1;
        drop(inner);
        let lane = self.clone();
        spawn(Box::new(move || lane.work(job)));
    }

    /// Runs a job, and then those that wait.
    fn work(&self, mut job: Job) {
        loop {
            // A panic must not take the place in the lane with it.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a request failed inside mfsd, which is a bug; it is not answered");
            }
            let mut inner = self.0.lock();
            match inner.waiting.pop_front() {
                Some(next) => job = next,
                None => {
                    inner.free += 1;
                    return;
                }
            }
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.0.lock();
        f.debug_struct("Lane")
            .field("free", &inner.free)
            .field("waiting", &inner.waiting.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn no_more_run_at_a_time_than_the_lane_is_wide() {
        let lane = Lane::new(2);
        let (done, all_done) = mpsc::channel();
        let spawned = Arc::new(Mutex::new(Vec::new()));
        for number in 0..5 {
            let done = done.clone();
            let spawned = Arc::clone(&spawned);
            let job: Job = Box::new(move || done.send(number).unwrap());
            lane.submit(job, |job| spawned.lock().push(job));
        }
        let begun = std::mem::take(&mut *spawned.lock());
        assert_eq!(begun.len(), 2);
        // The first thread does what waits, too; the second finds nothing left.
        for job in begun {
            job();
        }
        assert_eq!(all_done.try_iter().collect::<Vec<_>>(), [0, 2, 3, 4, 1]);
        lane.submit(Box::new(|| {}), |job| spawned.lock().push(job));
        assert_eq!(spawned.lock().len(), 1, "there is room again");
    }
}
