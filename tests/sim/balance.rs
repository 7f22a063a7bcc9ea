//! Whole clusters of jobs: loads even out, jobs get on faster, and none is moved to and fro.

use std::time::Duration;

use mfs::jobs::balance::Rules;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::cluster::{Cluster, Job, Settings};
use super::{seeds, size};

/// Nodes of one, two or four processors, as fast as the yardstick, half as fast again, or twice as fast.
fn mixed(_: usize, random: &mut SmallRng) -> (u32, u32) {
    let processors = [1, 2, 4][random.random_range(0..3)];
    (processors, [10_000, 15_000, 20_000][random.random_range(0..3)])
}

/// No damping of any kind.
fn without_hysteresis() -> Settings {
    let rules = Rules {
        least_age: Duration::ZERO,
        rest: Duration::ZERO,
        least_gain: 1.0,
        least_return: 0.0,
        turn: 1.0,
        ..Rules::default()
    };
    Settings { rules, careful: false, ..Settings::whole() }
}

/// All jobs begin on a tenth of the nodes, one and a half for each processor of all, and compute for ever. After some
/// minutes all nodes have their part.
fn evens_out(seed: u64, nodes: usize) {
    let settings = Settings { place: false, ..Settings::whole() };
    let mut cluster = Cluster::new(seed, settings, nodes, mixed);
    let hot = nodes.div_ceil(10);
    let processors: u32 = cluster.nodes.iter().map(|node| node.load.processors / 1_000).sum();
    for job in 0..processors * 3 / 2 {
        cluster.start(job as usize % hot, 1e9);
    }
    let jobs = cluster.jobs.len();
    let spread = |cluster: &Cluster| {
        let queues = cluster.queues();
        (queues[0], queues[queues.len() - 1])
    };
    let before = spread(&cluster).1;
    let mut even_after = None;
    for second in 1..=120 {
        cluster.pass();
        if even_after.is_none() && spread(&cluster).1 <= 2.5 {
            even_after = Some(second);
        }
    }
    let until_even = cluster.moves;
    for _ in 0..30 {
        cluster.pass();
    }
    let (least, most) = spread(&cluster);
    let paces = cluster.paces();
    let late = cluster.moves - until_even;
    println!(
        "{nodes} nodes, {jobs} jobs, seed {seed}: run queue for each processor of the yardstick, smallest and largest: 0 and \
         {before:.1} at first, {least:.2} and {most:.2} after 2 min 30 s (below 2.5 after {} s); slowest job {:.2}, median {:.2}; \
         {:.2} moves for each job, {} at most, {late} in the last half minute; {} refused",
        even_after.map_or_else(|| "?".to_owned(), |second| second.to_string()),
        paces[0],
        paces[paces.len() / 2],
        cluster.moves as f64 / jobs as f64,
        cluster.most_moves(),
        cluster.refused,
    );
    assert!(most <= 2.5, "seed {seed}: {least} to {most}");
    assert!(cluster.moves <= 2 * jobs, "seed {seed}: {} moves of {jobs} jobs", cluster.moves);
    // 20 s, 40 s and 80 s of rest between them: no more fit into that time.
    assert!(cluster.most_moves() <= 4, "seed {seed}: {} moves", cluster.most_moves());
    assert!(late <= jobs / 20 + 1, "seed {seed}: {late} moves in the last half minute");
}

#[test]
fn ten_nodes_even_out() {
    for seed in seeds() {
        evens_out(seed, 10);
    }
}

#[test]
fn a_thousand_nodes_even_out() {
    for seed in seeds() {
        evens_out(seed, 1_000);
    }
}

/// As many nodes as `SIM_NODES` says; for the figures of docs/BALANCING.md.
#[test]
fn any_number_of_nodes_even_out() {
    for seed in seeds() {
        evens_out(seed, size());
    }
}

/// Jobs come at a fifth of the nodes, four of five of them, and end; three quarters of what the cluster can do is
/// asked of it. How many seconds a job took in the mean,
/// and the moves.
fn comes_and_goes(seed: u64, nodes: usize, settings: Settings) -> (f64, f64, u32) {
    let mut cluster = Cluster::new(seed, settings, nodes, mixed);
    let capacity: f64 = cluster
        .nodes
        .iter()
        .map(|node| f64::from(node.load.processors) * f64::from(node.load.speed.units()) / 1e7)
        .sum();
    // Many short jobs and few long ones: Pareto's distribution from 2 s on, cut at 600 s, which has a mean of 9.5 s.
    let (shape, least, most) = (1.1_f64, 2.0_f64, 600.0_f64);
    let each_second = 0.75 * capacity / 9.5;
    let mut due = 0.0;
    for second in 0..100 {
        due += each_second;
        while due >= 1.0 && second < 80 {
            due -= 1.0;
            let crowded = cluster.random.random_bool(0.8);
            let home =
                cluster.random.random_range(0..if crowded { nodes.div_ceil(5) } else { nodes });
            let chance: f64 = cluster.random.random();
            let work = (least / (1.0 - chance).powf(1.0 / shape)).min(most);
            cluster.start(home, work);
        }
        cluster.pass();
    }
    // Those that have not ended count with the time that they have taken so far.
    let took = |job: &Job| (job.ended.unwrap_or(cluster.now) - job.begun) as f64;
    let mean = cluster.jobs.iter().map(took).sum::<f64>() / cluster.jobs.len() as f64;
    let ended = cluster.jobs.iter().filter(|job| job.ended.is_some()).count();
    let moves = cluster.moves as f64 / cluster.jobs.len() as f64;
    println!(
        "{nodes} nodes, seed {seed}, place {}, balance {}: {} jobs began, {ended} ended; {mean:.1} s each in the mean; {moves:.3} \
         moves for each job, {} at most; {} refused",
        settings.place,
        settings.balance,
        cluster.jobs.len(),
        cluster.most_moves(),
        cluster.refused,
    );
    (mean, moves, cluster.most_moves())
}

fn is_worth_it(seed: u64, nodes: usize) {
    let whole = Settings::whole();
    let (at_home, ..) =
        comes_and_goes(seed, nodes, Settings { place: false, balance: false, ..whole });
    let (moved, moves, most) = comes_and_goes(seed, nodes, Settings { place: false, ..whole });
    assert!(moved < at_home, "seed {seed}: {at_home} s, {moved} s with moves");
    assert!(moves < 0.6 && most <= 4, "seed {seed}: {moves} moves for each job, {most} at most");
    let (placed, moves, most) = comes_and_goes(seed, nodes, whole);
    assert!(placed < moved, "seed {seed}: {moved} s with moves, {placed} s if placed, too");
    assert!(moves < 0.2 && most <= 4, "seed {seed}: {moves} moves for each job, {most} at most");
}

#[test]
fn jobs_that_come_and_go_get_on_faster_on_ten_nodes() {
    for seed in seeds() {
        is_worth_it(seed, 10);
    }
}

#[test]
fn jobs_that_come_and_go_get_on_faster_on_a_thousand_nodes() {
    for seed in seeds() {
        is_worth_it(seed, 1_000);
    }
}

/// As many nodes as `SIM_NODES` says; for the figures of docs/BALANCING.md.
#[test]
fn jobs_that_come_and_go_get_on_faster_on_any_number_of_nodes() {
    for seed in seeds() {
        is_worth_it(seed, size());
    }
}

/// Ten jobs on three equal nodes of two processors can never be even. How often they are moved in ten minutes.
fn restlessness(seed: u64, settings: Settings) -> usize {
    let mut cluster = Cluster::new(seed, settings, 3, |_, _| (2, 10_000));
    for _ in 0..10 {
        cluster.start(0, 1e9);
    }
    for _ in 0..600 {
        cluster.pass();
    }
    cluster.moves
}

#[test]
fn no_job_is_moved_to_and_fro_and_without_hysteresis_it_would() {
    for seed in seeds() {
        let calm = restlessness(seed, Settings { place: false, ..Settings::whole() });
        let restless = restlessness(seed, Settings { place: false, ..without_hysteresis() });
        println!(
            "seed {seed}: {calm} moves of ten jobs in ten minutes, {restless} without hysteresis"
        );
        // Six or seven of them have to go once.
        assert!((6..=14).contains(&calm), "seed {seed}: {calm}");
        assert!(
            restless > 10 * calm,
            "seed {seed}: {restless}: what is it that the rules are for?"
        );
    }
}
