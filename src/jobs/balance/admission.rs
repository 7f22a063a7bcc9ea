//! `Admission`: whether a node takes a job that another wants to move to it.
//!
//! What others know of a node is some seconds old, and several may choose it at once. So the last word is its own:
//! it counts those that it has just taken, and takes one more only if that still gains.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::estimate::{pace, reserve};
use crate::load::{Load, NodeFlags};

/// What a job that is to be moved needs of its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asks {
    /// Processes of it that want a processor, thousandths.
    pub demand: u32,
    /// Its memory, bytes.
    pub resident: u64,
    /// The pace for each of its processes below which it is better where it is, units of speed.
    pub least_pace: f64,
}

/// The jobs that a node has taken in the last seconds.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    recent: VecDeque<(Duration, Asks)>,
}

/// Why a node does not take a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It takes no guests.
    Blocked,
    /// It would be no faster there any more.
    Busy,
    /// There is not enough memory any more.
    Memory,
}

/// How long a job that was taken is in no measurement: it has to arrive, and a load is a mean of some seconds.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

// === impl Admission ===

impl Admission {
    /// Takes a job, or says why not. `own`: this node's load as it was measured last; `is_own`: the job's home is
    /// here, so it is let in whatever the node's users want.
    ///
    /// # Errors
    /// The reason.
    pub fn admit(
        &mut self,
        own: &Load,
        asks: Asks,
        is_own: bool,
        now: Duration,
    ) -> Result<(), Refusal> {
        while self.recent.front().is_some_and(|(at, _)| now.saturating_sub(*at) > ARRIVES_WITHIN) {
            self.recent.pop_front();
        }
        if own.flags.contains(NodeFlags::BLOCKED) && !is_own {
            return Err(Refusal::Blocked);
        }
        let arriving =
            |of: fn(&Asks) -> u64| self.recent.iter().map(|(_, asks)| of(asks)).sum::<u64>();
        let memory = own.memory_free.bytes().saturating_sub(arriving(|asks| asks.resident));
        if memory < asks.resident.saturating_add(reserve(own)) && !is_own {
            return Err(Refusal::Memory);
        }
        let demand = arriving(|asks| asks.demand.into()).saturating_add(asks.demand.into());
        if pace(own, u32::try_from(demand).unwrap_or(u32::MAX)) < asks.least_pace {
            return Err(Refusal::Busy);
        }
        self.recent.push_back((now, asks));
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "it takes no guests",
            Self::Busy => "it is busier by now than it was",
            Self::Memory => "it has less memory by now than it had",
        })
    }
}
