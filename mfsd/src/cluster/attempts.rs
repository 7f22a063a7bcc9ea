//! `Attempts`: how often one address may try to join.
//!
//! A secret of 128 bits is not guessed; this bounds the work that strangers can cause.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Attempts that an address may make at once.
const BURST: u32 = 10;

/// One more attempt is allowed after each of these.
const REFILL: Duration = Duration::from_secs(3);

/// Most addresses that are remembered; beyond it those that have waited long enough are forgotten.
const MAX_ADDRESSES: usize = 4_096;

/// The attempts of each address.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    buckets: HashMap<IpAddr, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    since: Instant,
}

// === impl Attempts ===

impl Attempts {
    /// Whether the address may try at the time `now`; counts the attempt.
    pub(crate) fn allow(&mut self, address: IpAddr, now: Instant) -> bool {
        if self.buckets.len() >= MAX_ADDRESSES && !self.buckets.contains_key(&address) {
            self.buckets.retain(|_, bucket| bucket.refilled(now).left < BURST);
            if self.buckets.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let bucket = self.buckets.entry(address).or_insert(Bucket { left: BURST, since: now });
        *bucket = bucket.refilled(now);
        let allowed = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        allowed
    }

    /// Forgets the attempts of an address: it had a good token.
    pub(crate) fn forgive(&mut self, address: IpAddr) {
        self.buckets.remove(&address);
    }
}

// === impl Bucket ===

impl Bucket {
    fn refilled(self, now: Instant) -> Self {
        let waited = now.saturating_duration_since(self.since);
        let gained = u32::try_from(waited.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        match gained {
            0 => self,
            _ if self.left.saturating_add(gained) >= BURST => Self { left: BURST, since: now },
            _ => Self { left: self.left + gained, since: self.since + REFILL * gained },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mfs::clock;

    #[test]
    fn an_address_that_tries_too_often_must_wait_and_others_need_not() {
        let (mut attempts, start) = (Attempts::default(), clock::now());
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!((0..BURST).all(|_| attempts.allow(a, start)));
        assert!(!attempts.allow(a, start));
        assert!(attempts.allow(b, start));
        assert!(attempts.allow(a, start + REFILL));
        assert!(!attempts.allow(a, start + REFILL));
        attempts.forgive(a);
        assert!(attempts.allow(a, start + REFILL));
    }

    #[test]
    fn a_flood_of_addresses_does_not_fill_the_memory() {
        let (mut attempts, start) = (Attempts::default(), clock::now());
        for i in 0..10_000_u32 {
            attempts.allow(IpAddr::from(i.to_be_bytes()), start);
        }
        assert!(attempts.buckets.len() <= MAX_ADDRESSES);
        let later = start + REFILL * 2;
        assert!(attempts.allow(IpAddr::from([255, 0, 0, 1]), later), "old ones make room");
    }
}
