//! Whether a node that lends itself only when it is idle does so now.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// To whom a node lends itself, as its administrator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lending {
    /// To every node.
    #[default]
    Always,
    /// To every node, while its own users do not need it (`mfs block --when-busy`).
    WhenIdle,
    /// To none: it takes no guests (`mfs block`).
    Never,
}

/// Watches whether a node's own users need it, with guests left out of account.
///
/// A node is idle when its own processes have wanted less than a quarter of its processors for a minute; it is
/// busy when they have wanted more than half of them for ten seconds. Between the two it stays what it was, so
/// that it does not change with every key that is pressed.
#[derive(Debug, Clone, Default)]
pub struct Idleness {
    idle: bool,
    /// Since when it would be the other.
    other_since: Option<Duration>,
}

/// Own load below which a node is idle, thousandths of its processors.
const IDLE_BELOW: u64 = 250;

/// Own load above which it is busy, the same.
const BUSY_ABOVE: u64 = 500;

/// How long it must be idle to be taken for idle: as a screen saver waits.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// How long it must be busy to be taken for busy: a `make` counts, `ls` does not.
const BUSY_FOR: Duration = Duration::from_secs(10);

// === impl Idleness ===

impl Idleness {
    /// The node's own processes want so many processors of those there are, thousandths both. Whether it is idle.
    pub fn look(&mut self, now: Duration, own_running: u32, processors: u32) -> bool {
        let share = u64::from(own_running) * 1_000 / u64::from(processors.max(1));
        let (other, patience) =
            if self.idle { (share > BUSY_ABOVE, BUSY_FOR) } else { (share < IDLE_BELOW, IDLE_FOR) };
        if !other {
            self.other_since = None;
        } else if now.saturating_sub(*self.other_since.get_or_insert(now)) >= patience {
            self.idle = !self.idle;
            self.other_since = None;
        }
        self.idle
    }

    /// Whether it was idle at the last look. Before the first it was not.
    pub const fn is_idle(&self) -> bool {
        self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_changes_only_after_a_while_and_not_to_and_fro() {
        let mut node = Idleness::default();
        let mut now = Duration::ZERO;
        let mut look = |running, seconds: u64| {
            let mut idle = false;
            for _ in 0..seconds {
                now += Duration::from_secs(1);
                idle = node.look(now, running, 2_000);
            }
            idle
        };
        assert!(!look(100, 60), "a minute is not over yet");
        assert!(look(100, 2));
        assert!(look(900, 100), "between the two it stays what it was");
        assert!(look(2_000, 9) && look(100, 1) && look(2_000, 9), "a short burst is nothing");
        assert!(!look(2_000, 3));
        assert!(!look(900, 100));
        assert!(!look(100, 30) && !look(900, 1) && !look(100, 60));
        assert!(look(100, 2));
    }
}
