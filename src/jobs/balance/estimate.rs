//! What a job would make of another node: how long a second of its life here would take there.
//!
//! A second of a job's life is made of three parts: it runs or waits for a processor, it waits for file data of
//! other nodes, and it sleeps. The first part shrinks with the pace of the other node, the second with the data that
//! is local there, the third stays.

use super::{Movable, Reason, Rules};
use crate::load::{Load, NodeLoad};
use crate::types::NodeName;

/// The estimate for one job and one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    /// How fast a process of the job gets on here and would there: units of speed, for each process.
    pace_here: f64,
    pace_there: f64,
    /// Share of its time in which it runs or waits for a processor.
    computing: f64,
    /// Share in which it waits for data of other nodes, here and there.
    fetching_here: f64,
    fetching_there: f64,
    /// Processes of the job that want a processor, thousandths.
    demand: u32,
}

/// Pressure of memory from which on a node that has used swap space is about to swap more: one tenth of the time,
/// hundredths of a per cent.
const PRESSED: u16 = 1_000;

/// A node that is less than a tenth faster is as fast.
const FASTER: f64 = 1.1;

/// Which share of a processor each process gets.
fn share(load: &Load, running: u32) -> f64 {
    f64::from(load.processors) / f64::from(running.max(load.processors).max(1))
}

/// How fast one more job with so many processes (thousandths) would get on, for each of them.
pub(super) fn pace(load: &Load, demand: u32) -> f64 {
    f64::from(load.speed.units()) * share(load, load.running.saturating_add(demand))
}

/// How many processes of a job want a processor (thousandths), if it takes so much of this node: where it gets half
/// of what it wants, it wants twice as much as it takes.
pub(super) fn demand(load: &Load, cpu: u32) -> u32 {
    // A mean that is a little behind may say less than the job itself takes.
    (f64::from(cpu) / share(load, load.running)).min(f64::from(load.running.max(cpu))) as u32
}

/// Memory that a node keeps free: a twentieth, and 64 MiB at least.
pub(super) fn reserve(load: &Load) -> u64 {
    (load.memory_total.bytes() / 20).max(64 << 20)
}

/// How much memory a node is short of; `None`: it has enough.
pub(super) fn shortage(load: &Load) -> Option<u64> {
    let free = load.memory_free.bytes();
    let swaps = load.swap_free < load.swap_total && load.pressure.memory >= PRESSED;
    let short = free < reserve(load) || swaps && free < 2 * reserve(load);
    short.then(|| (2 * reserve(load)).saturating_sub(free))
}

// === impl Estimate ===

impl Estimate {
    pub(super) fn of(rules: &Rules, own: &NodeLoad, node: &NodeLoad, job: &Movable) -> Self {
        let demand = demand(&own.load, job.cpu);
        let fetching = |at: &NodeName| {
            let remote = job.traffic.iter().filter(|(home, _)| home != at).map(|(_, bytes)| bytes);
            let seconds = remote.sum::<u64>() as f64 / rules.bandwidth.max(1) as f64;
            seconds.min(1.0)
        };
        Self {
            pace_here: f64::from(own.load.speed.units()) * share(&own.load, own.load.running),
            pace_there: pace(&node.load, demand),
            // A job of several processes gets on as each of them does.
            computing: (f64::from(demand) / 1_000.0).min(1.0),
            fetching_here: fetching(&own.name),
            fetching_there: fetching(&node.name),
            demand,
        }
    }

    /// How long a second here would take there.
    fn time(&self) -> f64 {
        let sleeping = (1.0 - self.computing - self.fetching_here).max(0.0);
        let here = sleeping + self.computing + self.fetching_here;
        let computing = self.computing * self.pace_here / self.pace_there.max(f64::MIN_POSITIVE);
        (sleeping + computing + self.fetching_there) / here
    }

    /// How much faster the job would get on there.
    pub(super) fn gain(&self) -> f64 {
        1.0 / self.time().max(0.001)
    }

    /// The least pace at which the move is still worth it, for the target to compare with what it knows of itself.
    pub(super) fn least_pace(&self, rules: &Rules) -> f64 {
        // What is gained by data needs no faster processor.
        let saved = self.fetching_here - self.fetching_there;
        if saved > 0.0 { 0.0 } else { self.pace_here * rules.least_gain }
    }

    /// What most of it comes from.
    pub(super) fn reason(&self, own: &NodeLoad, node: &NodeLoad) -> Reason {
        let on = node.name.clone();
        let by_data = self.fetching_here - self.fetching_there;
        let by_pace = self.computing * (1.0 - self.pace_here / self.pace_there.max(1.0));
        if by_data > by_pace {
            return Reason::Data { on };
        }
        let there = node.load.running.saturating_add(self.demand);
        let crowded = own.load.running > own.load.processors;
        if crowded && there <= node.load.processors {
            Reason::Free { on }
        } else if share(&node.load, there) > FASTER * share(&own.load, own.load.running) {
            Reason::LessBusy { on }
        } else {
            Reason::Faster { on }
        }
    }
}
