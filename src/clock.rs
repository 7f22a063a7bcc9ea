//! The only door to time, so that tests can drive it.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic time; the one place that asks the operating system for it.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Time since the machine was booted, the time that it slept included (CLOCK_BOOTTIME): for terms that
/// another machine counts, too.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// The time of day; for certificates and messages, never to measure a duration.
#[allow(clippy::disallowed_methods)]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970-01-01T00:00:00Z; 0 on a machine whose clock stands before that.
pub fn unix_seconds() -> u64 {
    time_of_day().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d: Duration| d.as_secs())
}
