//! Partitions, restarts, power cuts, nodes that come, go and move.

use std::time::Duration;

use mfs::membership::MemberState;

use super::seeds;
use super::world::World;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn halves_see_each_other_dead_and_find_each_other_again() {
    for (seed, nodes) in seeds().flat_map(|seed| [(seed, 2), (seed, 3), (seed, 10), (seed, 100)]) {
        let mut world = World::formed(seed, nodes);
        world.run(Duration::from_secs(5));
        world.isolate(0..nodes / 2, 1);
        let parted = world.run_for_until(MINUTE, |world| {
            let (low, high) = (world.state(0, nodes - 1), world.state(nodes - 1, 0));
            low == Some(MemberState::Dead) && high == Some(MemberState::Dead)
        });
        world.expect(parted, "the halves take each other for dead");
        world.run(MINUTE);
        world.expect(world.false_deaths == 0, "nobody within a half is taken for dead");
        world.heal();
        let healed = world.now();
        let all = world.running();
        let whole = world.run_for_until(MINUTE, |world| world.all_see_each_other(&all));
        world.expect(whole, "all see each other again");
        println!(
            "{nodes} nodes, seed {seed}: whole {:.1} s after healing",
            (world.now() - healed).as_secs_f64()
        );
    }
}

#[test]
fn a_node_that_is_cut_off_comes_back() {
    for seed in seeds() {
        let mut world = World::formed(seed, 50);
        world.run(Duration::from_secs(5));
        world.isolate([3], 1);
        world.run(MINUTE);
        world.heal();
        let all = world.running();
        let whole = world.run_for_until(MINUTE, |world| world.all_see_each_other(&all));
        world.expect(whole, "all see each other again");
    }
}

#[test]
fn a_node_that_hears_nothing_harms_nobody_else() {
    for seed in seeds() {
        let mut world = World::formed(seed, 30);
        world.run(Duration::from_secs(5));
        world.deafen(3);
        world.run(MINUTE);
        let others: Vec<_> = (0..30).filter(|node| *node != 3).collect();
        let whole = world.run_for_until(Duration::from_secs(10), |w| w.all_see_each_other(&others));
        world.expect(whole, "the others see each other");
        world.heal();
        let all = world.running();
        let whole = world.run_for_until(MINUTE, |world| world.all_see_each_other(&all));
        world.expect(whole, "all see each other again");
    }
}

#[test]
fn nodes_that_restart_all_the_time_are_found_each_time() {
    for seed in seeds() {
        let mut world = World::formed(seed, 40);
        for round in 0..20 {
            let node = (round * 7 + seed as usize) % 40;
            world.kill(node);
            world.run(Duration::from_secs(round as u64 % 12));
            world.restart(node);
            let all = world.running();
            let whole = world.run_for_until(MINUTE, |world| world.all_see_each_other(&all));
            world.expect(whole, "all see each other after a restart");
        }
        world.expect(world.false_deaths == 0, "nobody who lives is taken for dead");
    }
}

#[test]
fn a_cluster_that_lost_power_finds_itself() {
    for seed in seeds() {
        let mut world = World::formed(seed, 100);
        world.run(Duration::from_secs(20));
        for node in 0..100 {
            world.kill(node);
        }
        world.run(MINUTE);
        for node in 0..90 {
            world.restart(node);
            world.run(Duration::from_millis(100));
        }
        let back = world.running();
        let whole = world.run_for_until(Duration::from_secs(30), |w| w.all_see_each_other(&back));
        world.expect(whole, "those that are back see each other");
        world.run(Duration::from_secs(20));
        let dead = world.state(0, 95);
        world.expect(dead == Some(MemberState::Dead), "those that are not are dead");
    }
}

#[test]
fn a_node_that_was_set_back_in_time_is_heard_again() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(20));
        let before = world.epoch(5);
        world.kill(5);
        world.run(Duration::from_secs(30));
        world.restart_in_the_past(5);
        let all = world.running();
        let whole = world.run_for_until(Duration::from_secs(20), |w| w.all_see_each_other(&all));
        world.expect(whole, "the node is heard although its clock and disk are in the past");
        world.expect(world.epoch(5) > before, "its next start will be later than all before");
    }
}

#[test]
fn a_node_that_moves_to_another_address_is_followed() {
    for seed in seeds() {
        let mut world = World::formed(seed, 30);
        world.run(Duration::from_secs(10));
        let new = "10.200.0.7:7230".parse().expect("an address");
        world.readdress(4, new);
        let followed = world.run_for_until(Duration::from_secs(10), |world| {
            (0..30).filter(|node| *node != 4).all(|node| world.addresses(node, 4) == [new])
        });
        world.expect(followed, "all know the new address");
        let all = world.running();
        world.run(MINUTE);
        let whole = world.run_for_until(Duration::from_secs(10), |w| w.all_see_each_other(&all));
        world.expect(whole && world.false_deaths == 0, "and nobody took it for dead");
    }
}

/// Lets a node join a cluster of `nodes`; the seconds until all see it.
fn join_one(seed: u64, nodes: usize) -> f64 {
    let mut world = World::formed(seed, nodes);
    world.run(Duration::from_secs(10));
    let new = world.add_node();
    let (authority, began) = (nodes / 3, world.now());
    world.set_roster(authority, world.roster_of(0..=new));
    world.join(new, authority);
    let mut waiting: Vec<_> = (0..nodes).collect();
    let seen = world.run_for_until(MINUTE, |world| {
        waiting.retain(|node| world.state(*node, new) != Some(MemberState::Alive));
        waiting.is_empty()
    });
    world.expect(seen, "all see the new node");
    let took = (world.now() - began).as_secs_f64();
    println!("{nodes} nodes, seed {seed}: the new node was seen by all after {took:.1} s");
    took
}

#[test]
fn a_new_node_appears_everywhere_within_seconds() {
    for seed in seeds() {
        assert!(join_one(seed, 10) < 5.0, "seed {seed}");
        assert!(join_one(seed, 200) < 5.0, "seed {seed}");
    }
}

#[test]
fn many_nodes_that_join_at_once_do_not_flood_the_network() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(10));
        for _ in 0..180 {
            world.add_node();
        }
        world.set_roster(0, world.roster_of(0..200));
        world.reset_counters();
        for node in 20..200 {
            world.join(node, 0);
            world.run(Duration::from_millis(20));
        }
        let all: Vec<_> = (0..200).collect();
        let whole = world.run_for_until(Duration::from_secs(30), |w| w.all_see_each_other(&all));
        world.expect(whole, "all see all");
        let bytes = world.sent_bytes / 200;
        println!("seed {seed}: 180 nodes joined 20 with {bytes} bytes of gossip per node");
        world.expect(bytes < 200_000, "each node sends less than 1 kB for each newcomer");
    }
}

#[test]
fn a_removed_node_is_gone_for_everybody_and_stays_so() {
    for seed in seeds() {
        let mut world = World::formed(seed, 30);
        world.run(Duration::from_secs(10));
        world.set_roster(0, world.roster_without(0..30, [9]));
        let gone = |world: &mut World| {
            (0..30).filter(|node| *node != 9).all(|node| world.state(node, 9).is_none())
        };
        let seen = world.run_for_until(Duration::from_secs(5), gone);
        world.expect(seen, "it is in no view");
        // It still runs, still has the key, and goes on talking.
        for _ in 0..60 {
            world.run(Duration::from_secs(1));
            let still = gone(&mut world);
            world.expect(still, "it comes back into no view");
        }
        let others: Vec<_> = (0..30).filter(|node| *node != 9).collect();
        let whole = world.all_see_each_other(&others);
        world.expect(whole, "the others are untouched");
    }
}
