//! How fast a processor of this machine is: a short loop, measured against a fixed yardstick.

use std::hint::black_box;
use std::time::Duration;

use mfs::load::Speed;
use rustix::time::{ClockId, clock_gettime};

/// The yardstick: a processor that does so many rounds of the loop in a second has [`Speed::YARDSTICK`]. A
/// processor of 3 GHz of the 2020s does three to four times as many in a build with optimisation; in one
/// without, all nodes seem slower alike.
const ROUNDS_PER_SECOND: u64 = 100_000_000;

/// Rounds between two looks at the clock: a millisecond or two.
const ROUNDS: u32 = 200_000;

/// For how long one try measures. Short enough for a start, long enough for a processor to reach its speed.
const TRY: Duration = Duration::from_millis(30);

/// Tries; the fastest counts, as everything that disturbs one makes it slower.
const TRIES: u32 = 3;

/// Words of the table that the loop walks: 32 KiB, the data cache of about every processor.
const WORDS: usize = 4_096;

/// Measures; takes a tenth of a second of this thread. Waiting for a processor does not count, so a busy node
/// measures itself as fast as an idle one.
pub(super) fn measure() -> Speed {
    let mut table = vec![0_u64; WORDS];
    let mut state = 1;
    for word in &mut table {
        state = turn(state, 0);
        *word = state;
    }
    let best = (0..TRIES).map(|_| one_try(&table)).max().unwrap_or(0);
    let yardstick = u64::from(Speed::YARDSTICK.units());
    Speed::nearest(best.saturating_mul(yardstick) / ROUNDS_PER_SECOND)
}

/// Rounds per second.
fn one_try(table: &[u64]) -> u64 {
    let began = processor_time();
    let mut rounds = 0_u64;
    loop {
        let mut state = black_box(rounds);
        for _ in 0..ROUNDS {
            let at = (state >> 33) as usize % WORDS;
            state = turn(state, table.get(at).copied().unwrap_or(0));
        }
        black_box(state);
        rounds += u64::from(ROUNDS);
        let taken = processor_time().saturating_sub(began);
        if taken >= TRY {
            return (rounds as f64 / taken.as_secs_f64()) as u64;
        }
    }
}

/// One round: a multiplication, an addition and a shift, each waiting for the one before, as in most programs.
const fn turn(state: u64, word: u64) -> u64 {
    let state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(word | 1);
    state ^ (state >> 29)
}

/// The time that this thread has run.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_comes_out() {
        let speed = measure();
        assert!(speed > Speed::nearest(0) && speed.units() < *Speed::RANGE.end(), "{speed}");
    }
}
