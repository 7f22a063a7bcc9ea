//! All orders of events of small worlds.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::world::{Move, Setup, World};

/// A file that is not a directory, and a directory.
pub(crate) const FILE: u64 = 1;
pub(crate) const DIRECTORY: u64 = 10;

/// More than this takes too long for a test that runs always.
const MOST_STATES: usize = 100_000;

/// How much was gone through.
#[derive(Debug, Default)]
pub(crate) struct Count {
    states: usize,
    ends: usize,
    depth: usize,
    cut_short: bool,
}

/// Goes through all orders of events of a world; else says what is wrong, and how it came.
pub(crate) fn explore(setup: &Setup, limit: usize) -> Result<Count, String> {
    let mut seen = HashSet::new();
    let mut count = Count::default();
    let mut path: Vec<(World, Vec<Move>)> = Vec::new();
    let first = World::new(setup.clone());
    seen.insert(hash(&first));
    path.push((first.clone(), first.moves()));
    while let Some((world, moves)) = path.last_mut() {
        if seen.len() > limit {
            count.cut_short = true;
            break;
        }
        let Some(next) = moves.pop() else {
            path.pop();
            continue;
        };
        let mut world = world.clone();
        world.apply(next);
        if !seen.insert(hash(&world)) {
            continue;
        }
        let moves = world.moves();
        let mut wrong = world.wrong.clone();
        if moves.is_empty() && wrong.is_none() {
            count.ends += 1;
            wrong = world.clone().come_to_rest().err();
        }
        path.push((world, moves));
        count.depth = count.depth.max(path.len());
        if let Some(wrong) = wrong {
            return Err(format!("{wrong}\n{}", story(&path)));
        }
    }
    count.states = seen.len();
    Ok(count)
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// What happened on the way to the end of `path`.
fn story(path: &[(World, Vec<Move>)]) -> String {
    let mut story = String::new();
    let mut before = World::new((*path[0].0.rules).clone());
    for (world, _) in &path[1..] {
        // The move that was made is the one that leads there.
        let made = before.moves().into_iter().find(|made| {
            let mut after = before.clone();
            after.apply(*made);
            hash(&after) == hash(world)
        });
        if let Some(made) = made {
            let _ = writeln!(story, "  {}", before.describe(made));
        }
        before = world.clone();
    }
    story
}

fn all_orders(name: &str, setup: &Setup) {
    let began = mfs::clock::now();
    match explore(setup, MOST_STATES) {
        Ok(Count { states, ends, depth, cut_short }) => {
            assert!(!cut_short, "{name} has more than {MOST_STATES} states");
            println!(
                "{name}: {states} states, {ends} ends, at most {depth} events, {:?}",
                began.elapsed()
            );
            assert!(states > 500 && ends > 0, "{name} is too small to say anything");
        }
        Err(wrong) => panic!("{name}: {wrong}"),
    }
}

/// The worlds that are gone through.
pub(crate) mod worlds {
    use super::{DIRECTORY, FILE};
    use crate::tree::Object::{File, Names};
    use crate::world::Setup;
    use crate::world::Step::{Change, Create, Evict, Lookup, Read, Unlink};

    /// Two clients, each of which reads and changes one file by two threads.
    pub(crate) fn two_clients() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Read(File(FILE)); 2]),
                (0, vec![Change(FILE)]),
                (1, vec![Change(FILE)]),
            ],
            ..Setup::default()
        }
    }

    /// Two clients that read, and a third that changes.
    pub(crate) fn three_clients() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Read(File(FILE)); 2]),
                (1, vec![Read(File(FILE)); 2]),
                (2, vec![Change(FILE)]),
            ],
            ..Setup::default()
        }
    }

    /// Leases that are given back unasked.
    pub(crate) fn evicting() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Read(File(FILE)), Evict(File(FILE)), Read(File(FILE)), Read(File(FILE))]),
                (1, vec![Change(FILE)]),
            ],
            ..Setup::default()
        }
    }

    /// A client that reads what it changes, which another reads.
    pub(crate) fn changer() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Read(File(FILE)); 2]),
                (0, vec![Change(FILE)]),
                (1, vec![Read(File(FILE))]),
            ],
            ..Setup::default()
        }
    }

    /// A client that removes a name of a file which it knows by another, as does another client.
    pub(crate) fn victim() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Read(File(FILE)); 2]),
                (0, vec![Unlink(DIRECTORY)]),
                (1, vec![Read(File(FILE))]),
            ],
            directories: vec![(DIRECTORY, Some(FILE))],
            ..Setup::default()
        }
    }

    /// A directory whose one name is removed and given anew, by two clients.
    pub(crate) fn directory() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Read(File(FILE)), Read(File(FILE))]),
                (0, vec![Unlink(DIRECTORY)]),
                (1, vec![Create(DIRECTORY)]),
            ],
            directories: vec![(DIRECTORY, Some(FILE))],
            ..Setup::default()
        }
    }

    /// A directory that one client finds names in, and another changes.
    pub(crate) fn names() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Lookup(DIRECTORY), Create(DIRECTORY), Read(Names(DIRECTORY))]),
                (1, vec![Lookup(DIRECTORY), Unlink(DIRECTORY)]),
            ],
            directories: vec![(DIRECTORY, Some(FILE))],
            ..Setup::default()
        }
    }

    /// Time passes while messages are late.
    pub(crate) fn late() -> Setup {
        Setup {
            threads: vec![(0, vec![Read(File(FILE)); 2]), (1, vec![Change(FILE)])],
            hops: 2,
            ..Setup::default()
        }
    }

    /// As before, and a client hears of something else when its term was over.
    pub(crate) fn lapsing() -> Setup {
        let reads = vec![Read(File(FILE)), Read(File(FILE + 1)), Read(File(FILE))];
        Setup { threads: vec![(0, reads), (1, vec![Change(FILE)])], ..late() }
    }

    /// A stream breaks, and comes back.
    pub(crate) fn breaking() -> Setup {
        Setup {
            threads: vec![(0, vec![Read(File(FILE)), Read(File(FILE))]), (1, vec![Change(FILE)])],
            breaks: vec![0, 0],
            ..Setup::default()
        }
    }

    /// The stream of a client that changes breaks.
    pub(crate) fn breaking_changes() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Create(DIRECTORY)]),
                (1, vec![Read(Names(DIRECTORY)), Create(DIRECTORY)]),
            ],
            directories: vec![(DIRECTORY, None)],
            breaks: vec![0],
            ..Setup::default()
        }
    }

    /// The server is killed.
    pub(crate) fn killed() -> Setup {
        Setup {
            threads: vec![(0, vec![Read(File(FILE)), Read(File(FILE))]), (1, vec![Change(FILE)])],
            kills: 1,
            ..Setup::default()
        }
    }

    /// A local process changes a file, and a client does.
    pub(crate) fn local() -> Setup {
        Setup {
            threads: vec![
                (0, vec![Read(File(FILE)), Read(File(FILE))]),
                (1, vec![Read(File(FILE))]),
            ],
            locals: vec![File(FILE), File(FILE)],
            ..Setup::default()
        }
    }
}

macro_rules! worlds {
    ($($name:ident)*) => {
        $(#[test] fn $name() { all_orders(stringify!($name), &worlds::$name()); })*
    };
}

worlds! {
    two_clients three_clients changer victim evicting directory names late breaking breaking_changes killed local
}
