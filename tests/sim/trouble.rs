//! Partitions, restarts, power cuts, nodes that come, go and move.

use std::time::Duration;

use mfs::membership::MemberState;

use super::seeds;
use super::world::World;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn halves_see_each_other_dead_and_find_each_other_again() {
    for (seed, nodes) in seeds().flat_map(|seed| [(seed, 2), (seed, 3), (seed, 10), (seed, 50)]) {
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
        let mut world = World::formed(seed, 60);
        world.run(Duration::from_secs(20));
        for node in 0..60 {
            world.kill(node);
        }
        world.run(MINUTE);
        for node in 0..55 {
            world.restart(node);
            world.run(Duration::from_millis(100));
        }
        let back = world.running();
        let whole = world.run_for_until(Duration::from_secs(30), |w| w.all_see_each_other(&back));
        world.expect(whole, "those that are back see each other");
        world.run(Duration::from_secs(20));
        let dead = world.state(0, 57);
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
        world.readdress(4, &[new]);
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

#[test]
fn nodes_that_change_to_ipv6_one_after_the_other_stay_together() {
    for seed in seeds() {
        let mut world = World::formed(seed, 10);
        world.run(Duration::from_secs(10));
        let v6 = |node: usize| format!("[fd00::{}]:7230", node + 1).parse().expect("an address");
        let all = world.running();
        for step in [1, 2] {
            for node in 0..10 {
                // First both families, then the new one only.
                let both = [world.address(node), v6(node)];
                world.readdress(node, if step == 1 { &both } else { &both[1..] });
                world.run(Duration::from_secs(2));
            }
            let whole = world.run_for_until(MINUTE, |world| world.all_see_each_other(&all));
            world.expect(whole, "all see each other");
        }
        let there = world.addresses(3, 7);
        world.expect(there == [v6(7)], "the IPv4 addresses are forgotten");
    }
}

#[test]
fn a_node_that_has_only_an_address_nobody_knows_is_found_by_its_beacon() {
    for seed in seeds() {
        let mut world = World::formed(seed, 6);
        world.beacons = true;
        world.run(Duration::from_secs(10));
        // Nobody could be told of either: n3 has left IPv4 before n1 has told it of its IPv6 address.
        let v6 = |node: usize| format!("[fd00::{}]:7230", node + 1).parse().expect("an address");
        world.readdress(2, &[v6(2)]);
        let n1 = world.address(0);
        world.readdress(0, &[n1, v6(0)]);
        let both = |world: &mut World| {
            world.addresses(0, 2) == [v6(2)]
                && world.state(0, 2) == Some(MemberState::Alive)
                && world.state(2, 0) == Some(MemberState::Alive)
        };
        let found = world.run_for_until(2 * MINUTE, both);
        world.expect(found, "they find each other");
    }
}

/// A newcomer's beacon names an address that cannot be reached from here, again and again, while gossip says
/// that there is another member list: it is fetched from those that can be reached.
#[test]
fn news_is_fetched_although_whom_it_is_about_cannot_be_reached() {
    for seed in seeds() {
        let mut world = World::formed(seed, 5);
        world.run(Duration::from_secs(10));
        let new = world.add_node();
        world.overhear(1, new);
        world.set_roster(0, world.roster_of(0..=new));
        for _ in 0..6 {
            world.run(Duration::from_millis(700));
            world.overhear(1, new);
        }
        let seen =
            world.run_for_until(Duration::from_secs(30), |world| world.state(1, new).is_some());
        world.expect(seen, "n2 has the new member list");
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
        assert!(join_one(seed, 100) < 5.0, "seed {seed}");
    }
}

#[test]
fn many_nodes_that_join_at_once_do_not_flood_the_network() {
    for seed in seeds() {
        let mut world = World::formed(seed, 20);
        world.run(Duration::from_secs(10));
        for _ in 0..80 {
            world.add_node();
        }
        world.set_roster(0, world.roster_of(0..100));
        world.reset_counters();
        for node in 20..100 {
            world.join(node, 0);
            world.run(Duration::from_millis(20));
        }
        let all: Vec<_> = (0..100).collect();
        let whole = world.run_for_until(Duration::from_secs(30), |w| w.all_see_each_other(&all));
        world.expect(whole, "all see all");
        let bytes = world.sent_bytes / 100;
        println!("seed {seed}: 80 nodes joined 20 with {bytes} bytes of gossip per node");
        world.expect(bytes < 80_000, "each node sends less than 1 kB for each newcomer");
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
