//! How fresh the records are that nodes hold of each other's load, and what that costs, by the product's own
//! window. Who is there is taken as known: how that is found out, `detection` shows.

use std::time::Duration;

use mfs::load::{
    FRESH, Load, MOST_RECORDS, Mebibytes, NodeFlags, Pressure, Speed, TOO_OLD, Window,
};
use mfs::membership::{SEAL_OVERHEAD, Tag};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{seeds, size};

/// Bytes of IPv4 and UDP headers, of the seal, and of the frame's kind, around each message.
const AROUND: usize = 28 + SEAL_OVERHEAD + 1;

const SECOND: Duration = Duration::from_secs(1);

/// The windows of all nodes.
struct Cluster {
    windows: Vec<Window>,
    /// When within each second a node has its turn.
    phases: Vec<(Duration, usize)>,
    silent: Vec<bool>,
    second: u32,
    random: SmallRng,
    loss: f64,
    sent_bytes: usize,
    /// Most messages that one node got in one second.
    most_received: u32,
}

/// What is seen of the windows of a sample of the nodes.
#[derive(Debug)]
struct Seen {
    /// Records in the smallest window.
    least: usize,
    mean_age: f64,
    /// Nine of ten records are younger.
    ninth_age: f64,
    oldest: f64,
}

fn tag(node: usize) -> Tag {
    // Spread over all tags, as digests of keys are.
    Tag::from_bytes((node as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
}

fn load(running: u32) -> Load {
    Load {
        processors: 8_000,
        speed: Speed::YARDSTICK,
        running,
        memory_total: Mebibytes(32 << 10),
        memory_free: Mebibytes(20 << 10),
        swap_total: Mebibytes(8 << 10),
        swap_free: Mebibytes(8 << 10),
        pressure: Pressure { cpu: 1_500, memory: 0, io: 200 },
        jobs: 5,
        guests: 2,
        flags: NodeFlags::empty(),
    }
}

/// Memory of this process, bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages: f64 = text.split(' ').nth(1).expect("statm has fields").parse().expect("a number");
    pages * 4_096.0
}

// === impl Cluster ===

impl Cluster {
    fn new(seed: u64, nodes: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let micros = |random: &mut SmallRng| random.random_range(0..1_000_000);
        let mut phases: Vec<_> =
            (0..nodes).map(|node| (Duration::from_micros(micros(&mut random)), node)).collect();
        phases.sort_unstable();
        Self {
            windows: (0..nodes).map(|node| Window::new(tag(node))).collect(),
            phases,
            silent: vec![false; nodes],
            second: 0,
            random,
            loss: 0.0,
            sent_bytes: 0,
            most_received: 0,
        }
    }

    /// One second: each node tells one other.
    fn pass(&mut self) {
        let nodes = self.windows.len();
        let mut received = vec![0; nodes];
        let begin = SECOND * self.second;
        for (phase, node) in self.phases.clone() {
            if self.silent[node] {
                continue;
            }
            let now = begin + phase;
            let running = self.random.random_range(0..20_000);
            let window = &mut self.windows[node];
            window.note_own(now, 1, load(running));
            window.forget(now, |_| true);
            let message = window.message(now, false);
            self.sent_bytes += message.len() + AROUND;
            let peer = (node + self.random.random_range(1..nodes)) % nodes;
            received[peer] += 1;
            if !self.silent[peer] && !self.random.random_bool(self.loss) {
                self.windows[peer].hear(now, &message).expect("it is a message");
            }
        }
        self.second += 1;
        self.most_received = received.into_iter().chain([self.most_received]).max().unwrap_or(0);
    }

    fn now(&self) -> Duration {
        SECOND * self.second
    }

    fn see(&self) -> Seen {
        let step = self.windows.len().div_ceil(1_000);
        let mut ages = Vec::new();
        let mut least = usize::MAX;
        for window in self.windows.iter().step_by(step) {
            least = least.min(window.others());
            ages.extend(window.known(self.now()).skip(1).map(|known| known.age.as_secs_f64()));
        }
        ages.sort_by(f64::total_cmp);
        Seen {
            least,
            mean_age: ages.iter().sum::<f64>() / ages.len() as f64,
            ninth_age: ages[ages.len() * 9 / 10],
            oldest: ages[ages.len() - 1],
        }
    }
}

/// Lets a cluster of so many nodes run for a minute; what is seen then, and the bytes per node and second.
fn minute(seed: u64, nodes: usize, loss: f64) -> (Seen, f64) {
    let before = resident();
    let mut cluster = Cluster::new(seed, nodes);
    cluster.loss = loss;
    for _ in 0..50 {
        cluster.pass();
    }
    cluster.sent_bytes = 0;
    for _ in 0..10 {
        cluster.pass();
    }
    let rate = cluster.sent_bytes as f64 / nodes as f64 / 10.0;
    let seen = cluster.see();
    println!(
        "{nodes} nodes, {:.0} % lost, seed {seed}: {rate:.0} bytes per node and second; {} records and more in a \
         window; age {:.1} s in the mean, nine of ten below {:.1} s, the oldest {:.1} s; at most {} messages to one \
         node in a second; {:.1} KiB of memory for each",
        loss * 100.0,
        seen.least,
        seen.mean_age,
        seen.ninth_age,
        seen.oldest,
        cluster.most_received,
        (resident() - before) / nodes as f64 / 1_024.0,
    );
    (seen, rate)
}

/// What holds at every size.
fn check(seed: u64, nodes: usize, loss: f64) {
    let (seen, rate) = minute(seed, nodes, loss);
    assert!(rate < 1_100.0, "seed {seed}: {rate} B/s");
    let enough = (nodes - 1).min(MOST_RECORDS) * 9 / 10;
    assert!(seen.least >= enough, "seed {seed}: {seen:?}");
    assert!(seen.ninth_age < FRESH.as_secs_f64(), "seed {seed}: {seen:?}");
    assert!(seen.oldest <= TOO_OLD.as_secs_f64() + 1.0, "seed {seed}: {seen:?}");
}

#[test]
fn ten_nodes_know_each_others_load() {
    for seed in seeds() {
        check(seed, 10, 0.0);
        let (seen, _) = minute(seed, 10, 0.0);
        assert!(seen.least == 9 && seen.mean_age < 3.0, "seed {seed}: {seen:?}");
    }
}

#[test]
fn a_hundred_nodes_know_each_others_load_also_if_a_tenth_is_lost() {
    for seed in seeds() {
        check(seed, 100, 0.0);
        check(seed, 100, 0.1);
    }
}

#[test]
fn a_thousand_nodes_know_the_load_of_many_at_the_same_cost() {
    for seed in seeds() {
        check(seed, 1_000, 0.0);
    }
}

/// As many nodes as `SIM_NODES` says; for the figures of docs/BALANCING.md.
#[test]
fn any_number_of_nodes_know_the_load_of_many() {
    for seed in seeds() {
        check(seed, size(), 0.0);
    }
}

#[test]
fn who_is_silent_is_forgotten_by_all() {
    for seed in seeds() {
        let mut cluster = Cluster::new(seed, 60);
        for _ in 0..40 {
            cluster.pass();
        }
        cluster.silent[17] = true;
        for _ in 0..=TOO_OLD.as_secs() {
            cluster.pass();
        }
        let knows =
            |window: &Window| window.known(cluster.now()).any(|known| known.node == tag(17));
        let known: Vec<_> =
            (0..60).filter(|node| *node != 17 && knows(&cluster.windows[*node])).collect();
        assert!(known.is_empty(), "seed {seed}: {known:?} still know it");
    }
}
