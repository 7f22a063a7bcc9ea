//! What a hostile network can do to membership: delay and lose, nothing else.

use std::time::Duration;

use super::seeds;
use super::world::World;

/// A cluster at rest and datagrams recorded in it.
fn recorded(seed: u64) -> (World, Vec<(usize, std::net::SocketAddr, Vec<u8>)>) {
    let mut world = World::formed(seed, 20);
    world.replay = true;
    world.run(Duration::from_secs(30));
    world.replay = false;
    let recorded = world.recorded();
    world.expect(recorded.len() > 500, "there is something to replay");
    (world, recorded)
}

fn unharmed(world: &mut World) {
    let all = world.running();
    let whole = world.run_for_until(Duration::from_secs(5), |w| w.all_see_each_other(&all));
    world.expect(whole && world.false_deaths == 0, "nobody was taken in");
}

#[test]
fn replayed_datagrams_are_refused() {
    for seed in seeds() {
        let (mut world, datagrams) = recorded(seed);
        // A death in between, so that the old datagrams tell what is no longer true.
        world.kill(5);
        world.run(Duration::from_secs(20));
        world.reset_counters();
        for (to, from, bytes) in &datagrams {
            world.inject(*to, *from, bytes.clone());
        }
        let answers = world.sent_datagrams;
        world.expect(answers == 0, "a replayed datagram gets no answer");
        let revived = (0..20)
            .filter(|node| *node != 5)
            .any(|node| world.state(node, 5) != Some(mfs::membership::MemberState::Dead));
        world.expect(!revived, "the dead stay dead");
        unharmed(&mut world);
    }
}

#[test]
fn datagrams_to_others_are_refused() {
    for seed in seeds() {
        let (mut world, datagrams) = recorded(seed);
        world.reset_counters();
        for (to, from, bytes) in &datagrams {
            world.inject((*to + 1) % 20, *from, bytes.clone());
        }
        world.expect(world.sent_datagrams == 0, "a datagram to another gets no answer");
        unharmed(&mut world);
    }
}

#[test]
fn garbled_and_forged_datagrams_are_refused() {
    for seed in seeds() {
        let (mut world, datagrams) = recorded(seed);
        world.reset_counters();
        for (n, (to, from, bytes)) in datagrams.iter().enumerate() {
            let mut garbled = bytes.clone();
            let at = n * 31 % garbled.len();
            garbled[at] ^= 1 << (n % 8);
            world.inject(*to, *from, garbled);
            world.inject(*to, *from, bytes[..n % bytes.len()].to_vec());
            world.inject(*to, *from, vec![n as u8; n % 1_500]);
        }
        world.expect(world.sent_datagrams == 0, "a forged datagram gets no answer");
        unharmed(&mut world);
    }
}

#[test]
fn a_node_that_starts_again_takes_nothing_from_before() {
    for seed in seeds() {
        let (mut world, datagrams) = recorded(seed);
        world.kill(5);
        world.run(Duration::from_secs(3));
        world.restart(5);
        world.run(Duration::from_secs(10));
        world.kill(6);
        world.restart(6);
        // Its memory of counters is gone; what was recorded of n6's last run is of an older epoch.
        world.reset_counters();
        for (to, from, bytes) in &datagrams {
            if *to == 5 && *from == world.address(6) {
                world.inject(*to, *from, bytes.clone());
            }
        }
        unharmed(&mut world);
    }
}
