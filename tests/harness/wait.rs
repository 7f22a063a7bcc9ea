//! Waiting for what other processes do.

use std::time::Duration;

use mfs::clock;

/// Asks `done` again and again until it says yes; panics with `what` when `limit` has passed.
///
/// The states of other processes and machines send no event that a test could wait for; so this asks, with
/// a short pause between. The limit is generous: it ends a test that hangs, it never decides one.
#[allow(clippy::disallowed_methods)]
pub fn eventually(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let begin = clock::now();
    while !done() {
        assert!(begin.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
