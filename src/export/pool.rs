//! The threads on which file operations run: they wait for disks and for other processes, which the
//! threads of a runtime must not.
//!
//! Each has its own umask and only the capabilities that serving files takes.
//!
//! Lock order: `Shared::queue` is a leaf.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::impersonate::keep_only_file_capabilities;
use crate::sync::{Condvar, Mutex};
use crate::types::Errno;

/// Threads for file operations. They end when the last clone is dropped and the work is done.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Owner>);

/// Ends the threads when dropped.
#[derive(Debug)]
struct Owner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most_threads: usize,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

type Job = Box<dyn FnOnce() + Send>;

// === impl Pool ===

impl Pool {
    /// Enough threads that some may wait for a slow disk or for another's lease while others work.
    pub const USUAL_THREADS: usize = 64;

    /// A pool of at most so many threads, begun as they are needed.
    pub fn new(most_threads: usize) -> Self {
        let queue = Mutex::default();
        let shared = Shared { most_threads: most_threads.max(1), queue, wake: Condvar::new() };
        Self(Arc::new(Owner(Arc::new(shared))))
    }

    /// Runs `job` on a thread of the pool and answers what it answers. If the future is dropped, the
    /// job still runs to its end.
    ///
    /// # Errors
    /// The job's own; EIO if it panicked or no thread could be begun.
    pub async fn run<T, F>(&self, job: F) -> Result<T, Errno>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Errno> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.submit(move || {
            // Nobody waits any more if the session has ended.
            let _ = answer.send(job());
        });
        // A job that panicked, or could not be run, drops its end.
        answered.await.unwrap_or(Err(Errno::Io))
    }

    /// Runs `job` on a thread of the pool some time.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let shared = &self.0.0;
        let mut queue = shared.queue.lock();
        queue.jobs.push_back(Box::new(job));
        if queue.idle >= queue.jobs.len() || queue.threads >= shared.most_threads {
            shared.wake.notify_one();
            return;
        }
        let of_thread = Arc::clone(shared);
        let begun = std::thread::Builder::new()
            .name("mfs-export".to_owned())
            .spawn(move || of_thread.work());
        match begun {
            Ok(_) => queue.threads += 1,
            Err(error) if queue.threads == 0 => {
                tracing::error!("cannot begin a thread for file operations: {error}");
                queue.jobs.clear();
            }
            Err(_) => {
                shared.wake.notify_one();
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.wake.notify_all();
    }
}

// === impl Shared ===

impl Shared {
    fn work(&self) {
        if let Err(errno) = keep_only_file_capabilities() {
            // It would serve with more rights than it needs: not a reason to stop, but to be known.
            tracing::warn!("a thread for file operations keeps all capabilities: {errno}");
        }
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a file operation panicked; its caller gets an input/output error");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                queue.threads -= 1;
                return None;
            }
            queue.idle += 1;
            self.wake.wait(&mut queue);
            queue.idle -= 1;
        }
    }
}

// === impl Queue ===

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("jobs", &self.jobs.len())
            .field("threads", &self.threads)
            .field("idle", &self.idle)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn jobs_are_answered_and_a_panic_is_an_error() {
        let pool = Pool::new(2);
        assert_eq!(block_on(pool.run(|| Ok(7))), Ok(7));
        assert_eq!(block_on(pool.run(|| Err::<(), _>(Errno::Stale))), Err(Errno::Stale));
        let panicked = block_on(pool.run(|| -> Result<(), Errno> { panic!("on purpose") }));
        assert_eq!(panicked, Err(Errno::Io));
        assert_eq!(block_on(pool.run(|| Ok(8))), Ok(8));
    }

    #[test]
    fn as_many_jobs_wait_at_once_as_there_are_threads() {
        let pool = Pool::new(3);
        let meeting = Arc::new(std::sync::Barrier::new(3));
        let all: Vec<_> = (0..3)
            .map(|_| {
                let (pool, meeting) = (pool.clone(), Arc::clone(&meeting));
                std::thread::spawn(move || {
                    block_on(pool.run(move || {
                        meeting.wait();
                        Ok(())
                    }))
                })
            })
            .collect();
        for one in all {
            assert_eq!(one.join().unwrap(), Ok(()));
        }
    }
}
