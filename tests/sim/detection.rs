//! How fast a death is seen, that no other is, and what it costs.

use std::time::Duration;

use super::seeds;
use super::world::World;

/// Kills a node of a cluster at rest and returns the seconds until the first and the last node saw it, and
/// the bytes each node sent per second before.
fn kill_one(seed: u64, nodes: usize, loss: f64) -> (f64, f64, f64) {
    let mut world = World::formed(seed, nodes);
    world.loss = loss;
    world.run(Duration::from_secs(10));
    world.reset_counters();
    let calm = Duration::from_secs(20);
    world.run(calm);
    let rate = world.sent_bytes as f64 / nodes as f64 / calm.as_secs_f64();
    let (victim, killed) = (nodes / 2, world.now());
    world.kill(victim);
    let seen =
        world.run_for_until(Duration::from_secs(60), |world| world.death_seen(victim).is_some());
    world.expect(seen, "the death is seen by all within a minute");
    let Some((first, last)) = world.death_seen(victim) else { unreachable!("was just seen") };
    world.expect(world.false_deaths == 0, "nobody who lives is taken for dead");
    let seconds = |time: Duration| (time - killed).as_secs_f64();
    println!(
        "{nodes} nodes, {:.0} % lost, seed {seed}: seen after {:.1} s by the first, {:.1} s by all; \
         {rate:.0} bytes per node and second",
        loss * 100.0,
        seconds(first),
        seconds(last),
    );
    (seconds(first), seconds(last), rate)
}

#[test]
fn a_death_is_seen_by_10_nodes_within_15_seconds() {
    for seed in seeds() {
        let (_, last, rate) = kill_one(seed, 10, 0.0);
        assert!(last < 15.0 && rate < 250.0, "seed {seed}: {last} s, {rate} B/s");
    }
}

#[test]
fn a_death_is_seen_by_100_nodes_within_15_seconds() {
    for seed in seeds() {
        let (_, last, rate) = kill_one(seed, 100, 0.0);
        assert!(last < 15.0 && rate < 250.0, "seed {seed}: {last} s, {rate} B/s");
    }
}

#[test]
fn a_death_is_seen_by_1000_nodes_within_15_seconds() {
    for seed in seeds() {
        let (_, last, rate) = kill_one(seed, 1_000, 0.0);
        assert!(last < 15.0 && rate < 250.0, "seed {seed}: {last} s, {rate} B/s");
    }
}
