//! `Cluster`: nodes that run jobs, in virtual time, with the product's own windows, placement and balancing.
//!
//! A job is a number of seconds of a processor of the yardstick. Processors are shared evenly among the jobs of a
//! node; a job that is moved stands still for as long as the rules say that it costs. Everything random comes from
//! one seed.

use std::time::Duration;

use mfs::jobs::JobId;
use mfs::jobs::balance::{Admission, Departures, Movable, Rules, decide};
use mfs::jobs::placement::{Placed, candidates};
use mfs::load::{ClusterLoad, Load, Mebibytes, NodeFlags, NodeLoad, Pressure, Speed, Window};
use mfs::membership::Tag;
use mfs::types::{NodeId, NodeName};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// What of the product is switched on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) rules: Rules,
    /// Jobs begin where placement says; else at home.
    pub(crate) place: bool,
    /// Jobs are moved.
    pub(crate) balance: bool,
    /// What has just gone is counted, and targets are asked.
    pub(crate) careful: bool,
}

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) settings: Settings,
    pub(crate) nodes: Vec<Node>,
    pub(crate) jobs: Vec<Job>,
    /// Whose turn is when in each second.
    order: Vec<usize>,
    pub(crate) now: u64,
    pub(crate) random: SmallRng,
    pub(crate) moves: usize,
    pub(crate) refused: usize,
}

/// A node.
pub(crate) struct Node {
    id: NodeId,
    name: NodeName,
    window: Window,
    pub(crate) load: Load,
    /// Jobs on it, those that arrive included.
    pub(crate) jobs: Vec<usize>,
    /// Mean of those that ran in the last seconds.
    running: f64,
    placed: Placed,
    departures: Departures,
    admission: Admission,
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    id: JobId,
    at: usize,
    /// Work that is left.
    left: f64,
    cpu: f64,
    pub(crate) begun: u64,
    moved: Option<u64>,
    /// Does not run before this second.
    arrives: u64,
    pub(crate) migrations: u32,
    resident: u64,
    pub(crate) ended: Option<u64>,
}

// === impl Settings ===

impl Settings {
    /// As the product is.
    pub(crate) fn whole() -> Self {
        Self { rules: Rules::default(), place: true, balance: true, careful: true }
    }
}

// === impl Cluster ===

impl Cluster {
    /// So many nodes, with the processors and the speed that `made` gives each.
    pub(crate) fn new(
        seed: u64,
        settings: Settings,
        count: usize,
        made: impl Fn(usize, &mut SmallRng) -> (u32, u32),
    ) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let nodes: Vec<_> = (0..count)
            .map(|index| {
                let (processors, speed) = made(index, &mut random);
                Node::new(index, processors * 1_000, speed)
            })
            .collect();
        let mut order: Vec<_> = (0..count).collect();
        order.shuffle(&mut random);
        let (jobs, now) = (Vec::new(), 100);
        Self { settings, nodes, jobs, order, now, random, moves: 0, refused: 0 }
    }

    /// A job of so much work is started on a node.
    pub(crate) fn start(&mut self, home: usize, work: f64) {
        let mut at = home;
        if self.settings.place {
            let now = Duration::from_secs(self.now);
            let view = self.view(home, now);
            let seed = self.random.random();
            let best = self.nodes[home].placed.place(candidates(&view), now, seed);
            at = best.map_or(home, |best| index(best.tag));
        }
        let number = self.jobs.len() as u64 + 1;
        let id = JobId { home: self.nodes[home].name.clone(), number };
        let resident = self.random.random_range(4..400) << 20;
        self.nodes[at].jobs.push(self.jobs.len());
        self.jobs.push(Job {
            id,
            at,
            left: work,
            cpu: 0.0,
            begun: self.now,
            moved: None,
            arrives: self.now,
            migrations: 0,
            resident,
            ended: None,
        });
    }

    /// One second passes.
    pub(crate) fn pass(&mut self) {
        self.work();
        let count = self.nodes.len();
        for turn in 0..count {
            let node = self.order[turn];
            let now = Duration::from_secs(self.now)
                + Duration::from_micros((turn * 1_000_000 / count) as u64);
            if self.settings.place || self.settings.balance {
                self.tell(node, now);
            }
            if self.settings.balance && !self.nodes[node].jobs.is_empty() {
                self.balance(node, now);
            }
        }
        self.now += 1;
    }

    /// Jobs run, and nodes measure it.
    fn work(&mut self) {
        for node in &mut self.nodes {
            let runs = |job: &usize| self.jobs[*job].arrives <= self.now;
            let running = node.jobs.iter().filter(|job| runs(job)).count() as f64;
            let processors = f64::from(node.load.processors) / 1_000.0;
            let share = (processors / running.max(processors)).min(1.0);
            let pace = share * f64::from(node.load.speed.units()) / 10_000.0;
            let now = self.now;
            node.jobs.retain(|index| {
                let job = &mut self.jobs[*index];
                if job.arrives > now {
                    return true;
                }
                job.left -= pace;
                job.cpu = (job.cpu + share * 1_000.0) / 2.0;
                if job.left <= 0.0 {
                    job.ended = Some(now + 1);
                }
                job.left > 0.0
            });
            // Counting twice a second is no exact measurement.
            let noise = self.random.random_range(-0.5..0.5);
            node.running = (node.running + (running + noise).max(0.0)) / 2.0;
            node.load.running = (node.running * 1_000.0) as u32;
        }
    }

    fn tell(&mut self, index: usize, now: Duration) {
        let count = self.nodes.len();
        let peer = (index + self.random.random_range(1..count)) % count;
        let node = &mut self.nodes[index];
        node.window.note_own(now, 1, node.load);
        node.window.forget(now, |_| true);
        let message = node.window.message(now, false);
        self.nodes[peer].window.hear(now, &message).expect("it is a message");
    }

    fn view(&self, index: usize, now: Duration) -> ClusterLoad {
        let known = self.nodes[index].window.known(now).map(|known| {
            let node = &self.nodes[self::index(known.node)];
            NodeLoad {
                tag: known.node,
                id: node.id,
                name: node.name.clone(),
                load: known.load,
                age: known.age,
                alive: true,
            }
        });
        ClusterLoad::new(tag(index), known)
    }

    fn balance(&mut self, from: usize, now: Duration) {
        let Settings { rules, careful, .. } = self.settings;
        let mut view = self.view(from, now);
        if careful {
            view = self.nodes[from].departures.seen(&view, now);
        }
        let seconds = Duration::from_secs;
        let here = self.nodes[from].jobs.iter().map(|index| &self.jobs[*index]);
        let movable: Vec<_> = here
            .filter(|job| job.arrives <= self.now)
            .map(|job| Movable {
                id: job.id.clone(),
                cpu: job.cpu as u32,
                resident: job.resident,
                traffic: vec![],
                age: seconds(self.now - job.begun),
                moved: job.moved.map(|moved| seconds(self.now - moved)),
                migrations: job.migrations,
                held: None,
            })
            .collect();
        let Some(step) = decide(&rules, &view, &movable, self.random.random()) else { return };
        let to = view.nodes().iter().find(|node| node.name == step.to).expect("it was chosen");
        let to = index(to.tag);
        let target = &mut self.nodes[to];
        if careful
            && target
                .admission
                .admit(&target.load, step.asks, target.name == step.job.home, now)
                .is_err()
        {
            self.refused += 1;
            return;
        }
        self.nodes[from].departures.note(&step, now);
        self.moves += 1;
        let index = step.job.number as usize - 1;
        self.nodes[from].jobs.retain(|job| *job != index);
        self.nodes[to].jobs.push(index);
        let job = &mut self.jobs[index];
        job.at = to;
        job.migrations += 1;
        job.moved = Some(self.now);
        job.arrives = self.now + rules.cost(job.resident).as_secs().max(1);
    }

    // What is seen.

    /// The run queue of each node, per processor of the yardstick, in order.
    pub(crate) fn queues(&self) -> Vec<f64> {
        let queue = |node: &Node| {
            let speed = f64::from(node.load.speed.units()) / 10_000.0;
            node.jobs.len() as f64 / (f64::from(node.load.processors) / 1_000.0 * speed)
        };
        let mut queues: Vec<_> = self.nodes.iter().map(queue).collect();
        queues.sort_by(f64::total_cmp);
        queues
    }

    /// How fast jobs get on, slowest first: 1 is a processor of the yardstick for itself.
    pub(crate) fn paces(&self) -> Vec<f64> {
        let mut paces = Vec::new();
        for node in &self.nodes {
            let processors = f64::from(node.load.processors) / 1_000.0;
            let share = (processors / node.jobs.len() as f64).min(1.0);
            let pace = share * f64::from(node.load.speed.units()) / 10_000.0;
            paces.extend(std::iter::repeat_n(pace, node.jobs.len()));
        }
        paces.sort_by(f64::total_cmp);
        paces
    }

    /// Most moves of one job.
    pub(crate) fn most_moves(&self) -> u32 {
        self.jobs.iter().map(|job| job.migrations).max().unwrap_or(0)
    }
}

// === impl Node ===

impl Node {
    fn new(index: usize, processors: u32, speed: u32) -> Self {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(tag(index).as_bytes());
        Self {
            id: NodeId::from_digest(digest),
            name: format!("n{}", index + 1).parse().expect("a good name"),
            window: Window::new(tag(index)),
            load: Load {
                processors,
                speed: Speed::new(speed).expect("a good speed"),
                running: 0,
                memory_total: Mebibytes(1 << 20),
                memory_free: Mebibytes(1 << 19),
                swap_total: Mebibytes(0),
                swap_free: Mebibytes(0),
                pressure: Pressure::default(),
                jobs: 0,
                guests: 0,
                flags: NodeFlags::empty(),
            },
            jobs: Vec::new(),
            running: 0.0,
            placed: Placed::default(),
            departures: Departures::default(),
            admission: Admission::default(),
        }
    }
}

/// The tag of a node, from which its place can be told.
fn tag(index: usize) -> Tag {
    Tag::from_bytes((index as u64).to_be_bytes())
}

fn index(tag: Tag) -> usize {
    u64::from_be_bytes(*tag.as_bytes()) as usize
}
