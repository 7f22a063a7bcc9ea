//! `Callers`: those who have waited for a while, and whether they still want to.
//!
//! Whether a caller has a signal pending is read from `/proc`. Read where requests are answered, 200 callers
//! that wait for one node would stand, five times a second, in the way of those that ask another. So one task
//! asks for all of them, on a thread for what may block, and seldom enough that it stays a small part of a
//! processor however many there are.
//!
//! Not here: what ends otherwise, by an answer or its time being over.
//!
//! Locks: `watched`, held for a look into a list, never while a caller is asked.

use std::future::pending;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::patience::Interrupted;
use crate::sync::Mutex;

/// A caller is first asked when it has waited this long, and then about as often.
const FIRST: Duration = Duration::from_millis(200);

/// However many wait, each is asked about as often as this: so late at most does a signal end a wait.
const LAST: Duration = Duration::from_secs(1);

/// After a round that took some time it rests for so many times that.
const REST: u32 = 20;

/// Those who have waited for a while.
#[derive(Default)]
pub(super) struct Callers {
    watched: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    callers: Vec<Watch>,
    /// Whether a task asks them.
    is_asked: bool,
}

/// One caller; gone when nobody listens any more.
struct Watch {
    interrupted: Interrupted,
    tell: oneshot::Sender<()>,
}

// === impl Callers ===

impl Callers {
    /// Ends when `interrupted` says so, asked from time to time; never without one. It costs a timer until
    /// the caller has waited for a while.
    pub(super) async fn interrupted(&self, interrupted: Option<&Interrupted>) {
        let Some(interrupted) = interrupted else { return pending().await };
        sleep(FIRST).await;
        let (tell, told) = oneshot::channel();
        self.add(Watch { interrupted: Arc::clone(interrupted), tell });
        if told.await.is_err() {
            // The runtime ends, and all that waits on it; or the caller cannot be asked.
            pending().await
        }
    }

    fn add(&self, watch: Watch) {
        let mut watched = self.watched.lock();
        watched.callers.push(watch);
        if !mem::replace(&mut watched.is_asked, true) {
            tokio::spawn(ask(Arc::clone(&self.watched)));
        }
    }
}

/// Asks all callers, round after round, until none is left.
async fn ask(watched: Arc<Mutex<Watched>>) {
    loop {
        let callers = mem::take(&mut watched.lock().callers);
        let begun = Instant::now();
        let round = tokio::task::spawn_blocking(|| round(callers));
        // A round that failed takes its callers along: they wait on, for an answer or for their time to be over.
        let mut left = round.await.unwrap_or_default();
        {
            let mut watched = watched.lock();
            watched.callers.append(&mut left);
            if watched.callers.is_empty() {
                watched.is_asked = false;
                return;
            }
        }
        sleep((begun.elapsed() * REST).clamp(FIRST, LAST)).await;
    }
}

/// Asks each caller; returns those that wait on.
fn round(callers: Vec<Watch>) -> Vec<Watch> {
    let mut left = Vec::with_capacity(callers.len());
    for watch in callers.into_iter().filter(|watch| !watch.tell.is_closed()) {
        if (watch.interrupted)() {
            // It may have got an answer this moment.
            let _ = watch.tell.send(());
        } else {
            left.push(watch);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// Sets the flag when it is to end.
    fn flagged(flag: &Arc<AtomicBool>) -> Interrupted {
        let flag = Arc::clone(flag);
        Arc::new(move || flag.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_heard_within_the_bound_and_the_asking_ends_with_the_last() {
        let callers = Callers::default();
        let flag = Arc::default();
        let begun = Instant::now();
        let (ended, ()) = tokio::join!(
            async {
                callers.interrupted(Some(&flagged(&flag))).await;
                begun.elapsed()
            },
            async {
                sleep(Duration::from_secs(60)).await;
                flag.store(true, Ordering::Relaxed);
            }
        );
        assert!(ended >= Duration::from_secs(60) && ended <= Duration::from_secs(60) + LAST);
        sleep(LAST).await;
        assert!(!callers.watched.lock().is_asked);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_an_answer_is_asked_no_more() {
        let callers = Callers::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let never: Interrupted = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            false
        });
        for wait in [FIRST / 2, FIRST * 10] {
            let waiting = callers.interrupted(Some(&never));
            assert!(tokio::time::timeout(wait, waiting).await.is_err());
        }
        sleep(LAST * 2).await;
        let before = asked.load(Ordering::Relaxed);
        assert!(before > 0, "who waits for long is asked");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(asked.load(Ordering::Relaxed), before);
        assert!(!callers.watched.lock().is_asked);
    }

    #[tokio::test(start_paused = true)]
    async fn no_caller_is_asked_on_a_thread_of_the_runtime() {
        let callers = Callers::default();
        let here = thread::current().id();
        let elsewhere: Interrupted = Arc::new(move || thread::current().id() != here);
        callers.interrupted(Some(&elsewhere)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_cannot_be_asked_takes_nobody_along_for_good() {
        let callers = Callers::default();
        let broken: Interrupted = Arc::new(|| panic!("no such caller"));
        let waiting = callers.interrupted(Some(&broken));
        assert!(tokio::time::timeout(LAST * 3, waiting).await.is_err());
        callers.interrupted(Some(&flagged(&Arc::new(AtomicBool::new(true))))).await;
    }
}
