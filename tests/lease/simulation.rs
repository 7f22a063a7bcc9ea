//! Random orders of events of large worlds: many clients, threads and files, streams that break, a server
//! that is killed, messages that are late for long. A seed repeats a run.

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::mutants::Mutant;
use crate::tree::Object;
use crate::world::{Move, Setup, Step, World};

const CLIENTS: usize = 8;
/// How many seeds may go by until a broken rule shows.
const SEEDS_FOR_MUTANT: u64 = 100;

const THREADS: usize = 3;
const STEPS: usize = 25;
const FILES: u64 = 6;
const DIRECTORIES: u64 = 2;

/// What a failing run tells of its end.
const STORY: usize = 60;

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn setup(random: &mut SmallRng, mutant: Option<Mutant>) -> Setup {
    let directory = |random: &mut SmallRng| FILES + 1 + random.random_range(0..DIRECTORIES);
    let step = |random: &mut SmallRng| {
        let file = 1 + random.random_range(0..FILES);
        let directory = directory(random);
        match random.random_range(0..20_u32) {
            0..9 => Step::Read(Object::File(file)),
            9..12 => Step::Read(Object::Names(directory)),
            12..14 => Step::Lookup(directory),
            14..16 => Step::Change(file),
            16 => Step::Create(directory),
            17 => Step::Unlink(directory),
            18 => Step::Evict(Object::File(file)),
            _ => Step::Evict(Object::Names(directory)),
        }
    };
    let script = |random: &mut SmallRng| (0..STEPS).map(|_| step(random)).collect();
    Setup {
        threads: (0..CLIENTS * THREADS).map(|at| (at % CLIENTS, script(random))).collect(),
        directories: (1..=DIRECTORIES).map(|at| (FILES + at, Some(at))).collect(),
        hops: 40,
        breaks: (0..random.random_range(0..12_u32))
            .map(|_| random.random_range(0..CLIENTS))
            .collect(),
        kills: random.random_range(0..3),
        locals: (0..random.random_range(0..20_u32))
            .map(|_| Object::File(1 + random.random_range(0..FILES)))
            .collect(),
        diligent: true,
        mutant,
    }
}

/// Trouble is rarer than progress, by so much.
fn is_wanted(random: &mut SmallRng, frozen: usize, world: &World, what: Move) -> bool {
    match what {
        Move::Hop => random.random_ratio(1, 60),
        Move::Break(_) | Move::Lose(_) | Move::Local => random.random_ratio(1, 30),
        Move::Kill => random.random_ratio(1, 600),
        // One client at a time is frozen: it does nothing, and messages to it are late.
        Move::Start(thread) => world.rules.threads[thread].0 != frozen,
        Move::Connect(client) => client != frozen,
        Move::Deliver(at) => world
            .packet(at)
            .is_none_or(|packet| packet.message.is_for_server() || packet.client != frozen),
        Move::Advance(_) | Move::Watch | Move::Sweep => true,
    }
}

/// Runs one seed to its end; else says what is wrong, and what came before it.
fn run(seed: u64, mutant: Option<Mutant>) -> Result<usize, String> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(setup(&mut random, mutant));
    let mut story = VecDeque::new();
    let mut frozen = CLIENTS;
    let mut events = 0;
    let tell = |wrong: String, story: &VecDeque<String>| {
        let story: Vec<_> = story.iter().map(String::as_str).collect();
        Err(format!("LEASE_SEED={seed}: {wrong}\n  {}", story.join("\n  ")))
    };
    // When nothing is left but trouble, the world is let come to rest.
    while events < 30_000 && !world.is_done() {
        if random.random_ratio(1, 100) {
            frozen = random.random_range(0..CLIENTS * 2);
        }
        let moves = world.moves();
        if moves.is_empty() {
            break;
        }
        let next = moves[random.random_range(0..moves.len())];
        events += 1;
        if !is_wanted(&mut random, frozen, &world, next) {
            continue;
        }
        if story.len() == STORY {
            story.pop_front();
        }
        story.push_back(format!("{events}: {}", world.describe(next)));
        world.apply(next);
        if let Some(wrong) = world.wrong.take() {
            return tell(wrong, &story);
        }
    }
    world.come_to_rest().map_or_else(|wrong| tell(wrong, &story), |()| Ok(events))
}

#[test]
fn large_worlds_keep_their_promises() {
    let first = number("LEASE_SEED", 1);
    let rounds = number("LEASE_ROUNDS", 8);
    let mut events = 0;
    for seed in first..first + rounds {
        match run(seed, None) {
            Ok(more) => events += more,
            Err(wrong) => panic!("{wrong}"),
        }
    }
    println!("seeds {first} to {}: {events} events", first + rounds - 1);
    assert!(events > 1_000, "too little happened");
}

#[test]
fn large_worlds_show_broken_rules() {
    // The others need what random orders rarely have; `mutants` shows all of them.
    let shown = [
        Mutant::GrantDuringChange,
        Mutant::ApplyEarly,
        Mutant::VictimUnasked,
        Mutant::ReadingTooLate,
        Mutant::QueueNotDrained,
        Mutant::StampIgnored,
        Mutant::ReturnAtOnce,
        Mutant::LapseIgnored,
        Mutant::RepeatGrants,
    ];
    for mutant in shown {
        let found = (1..=SEEDS_FOR_MUTANT).find(|seed| run(*seed, Some(mutant)).is_err());
        assert!(found.is_some(), "nobody sees that a rule is broken: {mutant:?}");
    }
}
