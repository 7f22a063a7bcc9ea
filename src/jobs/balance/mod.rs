//! Balancing: whether a job that runs is better moved to another node, as a pure function of what is known.
//!
//! The daemon of the node that *runs* jobs decides about them, once a second: it knows best how busy it is and what
//! each job takes, and it can act when it is short of memory without waiting for a home. It goes so:
//!
//! 1. [`Departures::seen`] corrects what is known by the moves of the last seconds, which no measurement shows yet.
//! 2. [`decide`] says which job goes where, and why; one job at most.
//! 3. The target is asked whether it takes the job ([`Admission::admit`], with [`Move::asks`]): it knows itself
//!    better than anybody, and of two that choose it at once it takes the second only if that still gains.
//! 4. The job's home is told to have it moved, with the reason; and [`Departures::note`] is told.
//!
//! openMosix's aims are these: even load, faster nodes, no swapping, and jobs near their data. One estimate holds
//! them all, how long a second of the job's life here would take there (`estimate`); memory goes before it, and
//! what an administrator wants before both.
//!
//! Not here: how a job is moved, and what is measured. Time is an argument, and so is chance.

mod admission;
mod departures;
mod estimate;
mod reason;

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

pub use admission::{Admission, Asks, Refusal};
pub use departures::Departures;
pub use reason::Reason;

use self::estimate::{Estimate, demand, pace, reserve, shortage};
use super::JobId;
use crate::load::{ClusterLoad, NodeFlags, NodeLoad};
use crate::types::NodeName;

/// A job that runs on this node, as far as it counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movable {
    /// Which; its home is in the name.
    pub id: JobId,
    /// Processors that it took, mean of the last seconds, thousandths.
    pub cpu: u32,
    /// Memory that has to go along, bytes.
    pub resident: u64,
    /// Bytes of file data that it read and wrote in a second, mean of the last interval, by the home of the files.
    pub traffic: Vec<(NodeName, u64)>,
    /// How long it has run.
    pub age: Duration,
    /// How long ago it was moved last; `None` if it never was.
    pub moved: Option<Duration>,
    /// How often it was moved.
    pub migrations: u32,
    /// Why it cannot or must not be moved; a sentence.
    pub held: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Which job goes.
    pub job: JobId,
    /// Where to.
    pub to: NodeName,
    /// Why.
    pub reason: Reason,
    /// What is asked of the target.
    pub asks: Asks,
}

/// By what it is decided. [`Rules::default`] is what holds; the simulation tries others, to show what each is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// How fast memory and file data travel between nodes, bytes per second.
    pub bandwidth: u64,
    /// What a move takes beside the travel of its memory: stopping, restoring, and the pages that are touched first.
    pub standstill: Duration,
    /// A younger job is not moved: most jobs end soon.
    pub least_age: Duration,
    /// A job that was moved rests for so long, and twice as long after each further move.
    pub rest: Duration,
    /// How much faster a job must be elsewhere.
    pub least_gain: f64,
    /// How many times what a move costs it must save, at least.
    pub least_return: f64,
    /// In which share of the seconds a node decides about its load at all: so nodes that know the same do not all do
    /// the same.
    pub turn: f64,
}

/// Longest life that a job is thought to have before it.
const LONGEST_LIFE: Duration = Duration::from_secs(3_600);

/// After so many moves the rest is not doubled any more: it is 21 minutes then.
const MOST_DOUBLINGS: u32 = 6;

/// How long a job that was moved is left alone even where memory is short.
const REST_FROM_MEMORY: Duration = Duration::from_secs(10);

/// A job with less memory is no relief.
const LEAST_RELIEF: u64 = 16 << 20;

/// Choices that are nearly as good as the best are as good as it: among them chance decides, so that not all
/// nodes choose the same target.
const NEARLY: f64 = 0.9;

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Self {
            bandwidth: 100 << 20,
            standstill: Duration::from_secs(1),
            least_age: Duration::from_secs(5),
            rest: Duration::from_secs(20),
            least_gain: 1.2,
            least_return: 2.0,
            turn: 0.5,
        }
    }
}

impl Rules {
    /// How long a job of this size stands still while it is moved.
    pub fn cost(&self, resident: u64) -> Duration {
        self.standstill + Duration::from_secs_f64(resident as f64 / self.bandwidth.max(1) as f64)
    }

    /// Whether a job may be moved to gain something.
    fn is_ripe(&self, job: &Movable) -> bool {
        let rest = self.rest * 2_u32.pow(job.migrations.saturating_sub(1).min(MOST_DOUBLINGS));
        job.age >= self.least_age && job.moved.is_none_or(|moved| moved >= rest)
    }
}

// === the decision ===

/// Which job of this node is to be moved where, and why. `seed`: chance; another one for each second and node.
pub fn decide(rules: &Rules, view: &ClusterLoad, jobs: &[Movable], seed: u64) -> Option<Move> {
    let own = view.own()?;
    if own.load.flags.contains(NodeFlags::STAY) {
        return None;
    }
    let movable: Vec<&Movable> = jobs.iter().filter(|job| job.held.is_none()).collect();
    let mut random = SmallRng::seed_from_u64(seed);
    if own.load.flags.contains(NodeFlags::GUESTS_GO) {
        return send_home_or_away(rules, view, own, &movable);
    }
    if let Some(shortage) = shortage(&own.load) {
        return relieve(view, own, &movable, shortage);
    }
    if !random.random_bool(rules.turn.clamp(0.0, 1.0)) {
        return None;
    }
    improve(rules, view, own, &movable, &mut random)
}

/// Where a job can go: nodes that take it, and have the memory for it.
fn targets<'a>(
    view: &'a ClusterLoad,
    own: &'a NodeLoad,
    job: &'a Movable,
) -> impl Iterator<Item = &'a NodeLoad> {
    view.fresh().filter(move |node| {
        node.tag != own.tag
            && (!node.load.flags.contains(NodeFlags::BLOCKED) || node.name == job.id.home)
            && node.load.memory_free.bytes() >= job.resident.saturating_add(2 * reserve(&node.load))
    })
}

/// The target on which the job gets on fastest.
fn fastest<'a>(view: &'a ClusterLoad, own: &'a NodeLoad, job: &'a Movable) -> Option<&'a NodeLoad> {
    let demand = demand(&own.load, job.cpu);
    targets(view, own, job).max_by(|a, b| pace(&a.load, demand).total_cmp(&pace(&b.load, demand)))
}

/// The node's own users need it: its guests go, the largest eater first.
fn send_home_or_away(
    rules: &Rules,
    view: &ClusterLoad,
    own: &NodeLoad,
    jobs: &[&Movable],
) -> Option<Move> {
    let settled = |job: &Movable| job.moved.is_none_or(|moved| moved >= rules.standstill);
    let guests = jobs.iter().filter(|job| job.id.home != own.name && settled(job));
    let job = guests.max_by_key(|job| job.cpu)?;
    let home = || view.nodes().iter().find(|node| node.alive && node.name == job.id.home);
    let to = fastest(view, own, job).or_else(home)?;
    let reason = Reason::Wanted { from: own.name.clone() };
    Some(moved(own, job, to, reason, 0.0))
}

/// The node is about to swap: the smallest job goes that is relief enough, or the largest.
fn relieve(view: &ClusterLoad, own: &NodeLoad, jobs: &[&Movable], shortage: u64) -> Option<Move> {
    let rested = |job: &&&Movable| job.moved.is_none_or(|moved| moved >= REST_FROM_MEMORY);
    let mut large: Vec<(&Movable, &NodeLoad)> = jobs
        .iter()
        .filter(|job| job.resident >= LEAST_RELIEF)
        .filter(rested)
        .filter_map(|job| Some((*job, fastest(view, own, job)?)))
        .collect();
    large.sort_by_key(|(job, _)| job.resident);
    let enough = large.iter().find(|(job, _)| job.resident >= shortage);
    let (job, to) = enough.or(large.last())?;
    Some(moved(own, job, to, Reason::Memory { from: own.name.clone() }, 0.0))
}

/// A job gets on so much faster elsewhere that it is worth the move.
fn improve(
    rules: &Rules,
    view: &ClusterLoad,
    own: &NodeLoad,
    jobs: &[&Movable],
    random: &mut SmallRng,
) -> Option<Move> {
    let mut choices: Vec<(f64, &Movable, &NodeLoad, Estimate)> = Vec::new();
    for job in jobs.iter().filter(|job| rules.is_ripe(job)) {
        // Of two jobs of the same age one has as long to live as the other: about as long as it has lived
        // (Harchol-Balter and Downey, Exploiting Process Lifetime Distributions for Dynamic Load Balancing, 1997).
        let life = job.age.min(LONGEST_LIFE).as_secs_f64();
        let cost = rules.cost(job.resident).as_secs_f64();
        for node in targets(view, own, job) {
            let estimate = Estimate::of(rules, own, node, job);
            let saved = life * (1.0 - 1.0 / estimate.gain());
            if estimate.gain() >= rules.least_gain && saved >= rules.least_return * cost {
                choices.push((saved - cost, job, node, estimate));
            }
        }
    }
    let best = choices.iter().map(|(saved, ..)| *saved).max_by(f64::total_cmp)?;
    choices.retain(|(saved, ..)| *saved >= NEARLY * best);
    let (_, job, node, estimate) = choices.choose(random)?;
    let reason = estimate.reason(own, node);
    Some(moved(own, job, node, reason, estimate.least_pace(rules)))
}

fn moved(own: &NodeLoad, job: &Movable, to: &NodeLoad, reason: Reason, least_pace: f64) -> Move {
    let demand = demand(&own.load, job.cpu);
    let asks = Asks { demand, resident: job.resident, least_pace };
    Move { job: job.id.clone(), to: to.name.clone(), reason, asks }
}

#[cfg(test)]
mod tests;
