//! Exponential backoff with jitter. A pure sequence of durations: whoever uses it waits.

use std::time::Duration;

/// How a [`Backoff`] grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffSettings {
    min: Duration,
    max: Duration,
    jitter: f64,
}

/// Why settings make no sense.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BackoffError {
    /// A minimum of 0 would try again without any pause.
    #[error("the shortest wait between attempts must be longer than 0")]
    NoMinimum,
    /// The bounds are the wrong way round.
    #[error(
        "the longest wait between attempts ({max:?}) must not be shorter than the shortest ({min:?})"
    )]
    MaxBelowMin {
        /// The minimum asked for.
        min: Duration,
        /// The maximum asked for.
        max: Duration,
    },
    /// Not a share of the wait.
    #[error("the jitter must be a share between 0 and 1, it is {0}")]
    Jitter(f64),
}

/// The waits between attempts: each twice as long as the one before, up to a maximum, and made shorter
/// by a random share, so that many clients of one server do not come back at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    settings: BackoffSettings,
    base: Duration,
}

// === impl BackoffSettings ===

impl BackoffSettings {
    /// Checks and takes the settings. A wait is between `(1 - jitter)` of its length and all of it.
    pub fn try_new(min: Duration, max: Duration, jitter: f64) -> Result<Self, BackoffError> {
        if min.is_zero() {
            return Err(BackoffError::NoMinimum);
        }
        if max < min {
            return Err(BackoffError::MaxBelowMin { min, max });
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(BackoffError::Jitter(jitter));
        }
        Ok(Self { min, max, jitter })
    }

    /// For connections to nodes: a restart of mfsd takes about a second, so the first attempts come
    /// quickly; 2 s at most, so that a node that is back is noticed.
    pub const RECONNECT: Self =
        Self { min: Duration::from_millis(50), max: Duration::from_secs(2), jitter: 0.3 };
}

// === impl Backoff ===

impl Backoff {
    /// A sequence that begins with the shortest wait.
    pub const fn new(settings: BackoffSettings) -> Self {
        Self { settings, base: settings.min }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.next_wait_with(rand::random())
    }

    /// Begins anew, after an attempt that succeeded.
    pub const fn reset(&mut self) {
        self.base = self.settings.min;
    }

    /// The next wait, for a given point of chance in `0.0..1.0`.
    fn next_wait_with(&mut self, chance: f64) -> Duration {
        let wait = self.base.mul_f64(1.0 - self.settings.jitter * chance);
        self.base = self.base.saturating_mul(2).min(self.settings.max);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(BackoffSettings::try_new(Duration::ZERO, MS, 0.1), Err(BackoffError::NoMinimum));
        assert_eq!(
            BackoffSettings::try_new(2 * MS, MS, 0.1),
            Err(BackoffError::MaxBelowMin { min: 2 * MS, max: MS })
        );
        for jitter in [-0.1, 1.1, f64::INFINITY] {
            assert_eq!(BackoffSettings::try_new(MS, MS, jitter), Err(BackoffError::Jitter(jitter)));
        }
        assert!(BackoffSettings::try_new(MS, MS, f64::NAN).is_err());
    }

    #[test]
    fn waits_double_up_to_the_maximum_and_start_anew() {
        let settings = BackoffSettings::try_new(10 * MS, 35 * MS, 0.5).unwrap();
        let mut backoff = Backoff::new(settings);
        let waits: Vec<_> = (0..4).map(|_| backoff.next_wait_with(0.0)).collect();
        assert_eq!(waits, [10 * MS, 20 * MS, 35 * MS, 35 * MS]);
        backoff.reset();
        assert_eq!(backoff.next_wait_with(1.0), 5 * MS);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let mut backoff = Backoff::new(BackoffSettings::try_new(8 * MS, 8 * MS, 0.25).unwrap());
        for _ in 0..200 {
            let wait = backoff.next_wait();
            assert!((6 * MS..=8 * MS).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn the_constants_are_sensible() {
        let BackoffSettings { min, max, jitter } = BackoffSettings::RECONNECT;
        assert!(BackoffSettings::try_new(min, max, jitter).is_ok());
    }
}
