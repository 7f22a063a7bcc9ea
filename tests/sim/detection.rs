//! How fast a death is seen, that no other is, and what it costs.

use std::time::Duration;

use mfs::membership::{Contact, MemberState};

use super::world::World;
use super::{seeds, size};

/// Kills a node of a cluster at rest and returns the seconds until the first and the last node saw it, and
/// the bytes each node sent per second before.
fn kill_one(seed: u64, nodes: usize, loss: f64) -> (f64, f64, f64) {
    let mut world = World::formed(seed, nodes);
    world.loss = loss;
    world.run(Duration::from_secs(5));
    world.reset_counters();
    let calm = Duration::from_secs(10);
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

#[test]
fn a_death_is_seen_on_a_network_that_loses_a_twentieth() {
    for seed in seeds() {
        let (_, last, _) = kill_one(seed, 100, 0.05);
        assert!(last < 15.0, "seed {seed}: {last} s");
    }
}

/// As many nodes as `SIM_NODES` says; for the figures of docs/MEMBERSHIP.md.
#[test]
fn a_death_is_seen_by_any_number_of_nodes() {
    for seed in seeds() {
        kill_one(seed, size(), 0.0);
    }
}

#[test]
fn a_cluster_at_rest_stays_whole_for_ten_minutes() {
    for seed in seeds() {
        let mut world = World::formed(seed, 50);
        world.loss = 0.02;
        world.run(Duration::from_secs(600));
        world.expect(world.false_deaths == 0, "nobody who lives is taken for dead");
        let all = world.running();
        world.run(Duration::from_secs(5));
        let whole = world.run_for_until(Duration::from_secs(10), |w| w.all_see_each_other(&all));
        world.expect(whole, "all see each other");
    }
}

#[test]
fn silence_on_a_connection_is_a_verdict_within_two_seconds() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(5));
        world.kill(7);
        // A connection says so half a second after the last byte.
        world.run(Duration::from_millis(500));
        world.contact(0, 7, Contact::Silent);
        let dead = |world: &mut World| world.state(0, 7) == Some(MemberState::Dead);
        let seen = world.run_for_until(Duration::from_millis(1_400), dead);
        world.expect(seen, "n1 takes n8 for dead within 2 s");
        world.expect(world.false_deaths == 0, "nobody who lives is taken for dead");
    }
}

#[test]
fn silence_on_a_connection_alone_is_no_verdict() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(5));
        for _ in 0..100 {
            world.contact(0, 7, Contact::Silent);
            world.run(Duration::from_millis(100));
            let state = world.state(0, 7);
            world.expect(state == Some(MemberState::Alive), "a node that answers is not doubted");
        }
    }
}

#[test]
fn a_node_whose_daemon_restarts_is_not_dead_because_connections_are_refused() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(5));
        world.kill(7);
        for _ in 0..20 {
            world.contact(0, 7, Contact::Silent);
            world.contact(0, 7, Contact::Refused);
            world.run(Duration::from_millis(100));
            let dead = world.state(0, 7) == Some(MemberState::Dead);
            world.expect(!dead, "a host that answers is waited for");
        }
        world.restart(7);
        let back = |world: &mut World| world.state(0, 7) == Some(MemberState::Alive);
        let seen = world.run_for_until(Duration::from_secs(5), back);
        world.expect(seen, "it is back within seconds");
    }
}

/// A daemon that needs longer to restart than gossip waits: who has its files in use, and finds that its host
/// refuses connections, does not take it for dead for a quarter of a minute.
#[test]
fn a_daemon_that_restarts_slowly_is_not_dead_for_whom_its_host_refuses() {
    for (seed, comes_back) in seeds().flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = World::formed(seed, 5);
        world.run(Duration::from_secs(5));
        world.kill(3);
        for _ in 0..140 {
            world.contact(0, 3, Contact::Refused);
            world.run(Duration::from_millis(100));
            let dead = world.state(0, 3) == Some(MemberState::Dead);
            world.expect(!dead, "n1 waits for n4");
        }
        let dead = world.state(1, 3) == Some(MemberState::Dead);
        world.expect(dead, "n2, which has nothing to do with n4, takes it for dead");
        if comes_back {
            world.restart(3);
        }
        for _ in 0..500 {
            world.contact(0, 3, Contact::Refused);
            world.run(Duration::from_millis(10));
            let state = world.state(0, 3);
            world.expect(!comes_back || state != Some(MemberState::Dead), "n4 is back");
        }
        let wanted = if comes_back { MemberState::Alive } else { MemberState::Dead };
        let state = world.state(0, 3);
        world.expect(state == Some(wanted), "it is back, or it was given up");
    }
}

/// Gossip needs some tenths of a second to tell that a node is back; who has a connection knows it before.
#[test]
fn a_node_that_answers_is_not_dead_while_the_news_of_its_return_is_under_way() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(5));
        // An answer before its death says nothing about it.
        world.contact(0, 7, Contact::Answered);
        world.kill(7);
        world.run(Duration::from_secs(14));
        let dead =
            (0..20).filter(|n| *n != 7).all(|n| world.state(n, 7) == Some(MemberState::Dead));
        world.expect(dead, "all take n8 for dead");
        world.restart(7);
        for other in (0..20).filter(|node| *node != 7) {
            world.contact(other, 7, Contact::Answered);
        }
        for _ in 0..1_000 {
            world.run(Duration::from_millis(1));
            let dead = (0..20).any(|n| n != 7 && world.state(n, 7) == Some(MemberState::Dead));
            world.expect(!dead, "whoever has an answer of n8 does not take it for dead");
        }
        let all = world.running();
        let whole = world.run_for_until(Duration::from_secs(5), |w| w.all_see_each_other(&all));
        world.expect(whole, "all see each other");
    }
}

#[test]
fn a_verdict_of_one_node_is_refuted_when_the_other_answers_again() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(5));
        world.isolate([7], 1);
        world.contact(0, 7, Contact::Silent);
        let dead = |world: &mut World| world.state(0, 7) == Some(MemberState::Dead);
        let seen = world.run_for_until(Duration::from_secs(2), dead);
        world.expect(seen, "n1 takes n8 for dead");
        world.heal();
        let back = |world: &mut World| world.state(0, 7) == Some(MemberState::Alive);
        let seen = world.run_for_until(Duration::from_secs(5), back);
        world.expect(seen, "n8 is back");
        let all = world.running();
        let whole = world.run_for_until(Duration::from_secs(10), |w| w.all_see_each_other(&all));
        world.expect(whole, "for everybody");
    }
}
