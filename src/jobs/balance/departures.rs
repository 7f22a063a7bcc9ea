//! `Departures`: the jobs that a node has sent away in the last seconds, as its knowledge is corrected by them.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Asks, Move};
use crate::load::{ClusterLoad, FRESH, Load, Mebibytes, NodeLoad};
use crate::types::NodeName;

/// The jobs that were sent away in the last seconds.
#[derive(Debug, Clone, Default)]
pub struct Departures {
    recent: VecDeque<(Duration, NodeName, Asks)>,
}

/// How long it takes until a load shows that a job has gone or come: it is a mean of some seconds, and a job stands
/// still for a while first.
const SEEN_AFTER: Duration = Duration::from_secs(5);

// === impl Departures ===

impl Departures {
    /// A job goes.
    pub fn note(&mut self, step: &Move, now: Duration) {
        let old =
            |(at, ..): &(Duration, NodeName, Asks)| now.saturating_sub(*at) > SEEN_AFTER + FRESH;
        while self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, step.to.clone(), step.asks));
    }

    /// What is known, as it will be when those that are under way have arrived: this node has fewer to run, their
    /// targets have more.
    #[must_use]
    pub fn seen(&self, view: &ClusterLoad, now: Duration) -> ClusterLoad {
        let Some(own) = view.own().filter(|_| !self.recent.is_empty()) else { return view.clone() };
        let corrected = |node: &NodeLoad| {
            let known_at = now.saturating_sub(node.age);
            let mut load = node.load;
            for (at, to, asks) in &self.recent {
                if *at + SEEN_AFTER <= known_at {
                    continue;
                }
                if node.tag == own.tag {
                    load = without(load, asks);
                } else if node.name == *to {
                    load = with(load, asks);
                }
            }
            NodeLoad { load, ..node.clone() }
        };
        ClusterLoad::new(own.tag, view.nodes().iter().map(corrected))
    }
}

fn without(load: Load, asks: &Asks) -> Load {
    let freed = Mebibytes::of_bytes(asks.resident).0;
    let memory_free = Mebibytes(load.memory_free.0.saturating_add(freed)).min(load.memory_total);
    Load { running: load.running.saturating_sub(asks.demand), memory_free, ..load }
}

fn with(load: Load, asks: &Asks) -> Load {
    let taken = Mebibytes::of_bytes(asks.resident).0;
    let memory_free = Mebibytes(load.memory_free.0.saturating_sub(taken));
    Load { running: load.running.saturating_add(asks.demand), memory_free, ..load }
}
