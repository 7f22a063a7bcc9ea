//! One file that two take turns with, as fsx does with one: random reads, writes, sizes, holes, copies and
//! mappings, each by one of the two, and each compared with a model of the file in memory.
//!
//! Every round of every pair has another seed, which a failure names, with what was done last.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, O_APPEND, O_RDWR};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::actor::{Actor, Fd, Late};
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_file_of_two_by_turns_is_one_file;
}

/// Operations of one round.
const OPERATIONS: usize = 250;

/// Longest file: some tens of pages, so that operations meet.
const LONGEST: usize = 160 << 10;

/// Most bytes of one operation.
const MOST: usize = 40 << 10;

/// What a failure shows of what was done before it.
const REMEMBERED: usize = 24;

/// One operation.
#[derive(Debug, Clone, Copy)]
enum Step {
    Read { at: usize, length: usize },
    ReadMapped,
    Write { at: usize, length: usize },
    Append { length: usize },
    Truncate { size: usize },
    TruncateByName { size: usize },
    Allocate { at: usize, length: usize },
    Punch { at: usize, length: usize },
    Copy { from: usize, to: usize, length: usize },
    Size,
    Sync,
    Reopen,
}

/// One of the two, and how it has the file open.
#[derive(Debug)]
struct Player<'a> {
    name: char,
    actor: &'a Actor,
    file: Fd,
    end: Fd,
}

/// The file as it must be.
#[derive(Debug, Default)]
struct Model(Vec<u8>);

fn a_file_of_two_by_turns_is_one_file(two: &Two<'_>) {
    let seed = two.seed();
    let mut random = SmallRng::seed_from_u64(seed);
    two.given("f", b"");
    let mut players = [Player::opening('a', &two.a), Player::opening('b', &two.b)];
    let mut model = Model::default();
    let mut log = VecDeque::new();
    for number in 0..OPERATIONS {
        let step = Step::any(&mut random);
        let fill: u8 = random.random();
        let player = &mut players[random.random_range(0..2)];
        log.push_back(format!("{number:4} {}: {step:?}", player.name));
        if log.len() > REMEMBERED {
            log.pop_front();
        }
        if let Err(wrong) = player.take(step, fill, &mut model) {
            let log: Vec<_> = log.into();
            panic!("seed {seed}: {wrong}, after\n{}", log.join("\n"));
        }
    }
    for Player { actor, file, .. } in &players {
        assert!(actor.all(*file).unwrap() == model.0, "seed {seed}: not the same in the end");
    }
}

// === impl Step ===

impl Step {
    fn any(random: &mut SmallRng) -> Self {
        let at = random.random_range(0..LONGEST);
        let length = random.random_range(1..=MOST.min(LONGEST - at));
        // What lies at borders of pages goes wrong first.
        let at = if random.random_ratio(1, 3) { at & !4095 } else { at };
        match random.random_range(0..20) {
            0..5 => Self::Read { at, length },
            5 => Self::ReadMapped,
            6..10 => Self::Write { at, length },
            10 => Self::Append { length },
            11 | 12 => Self::Truncate { size: at },
            13 => Self::TruncateByName { size: at },
            14 => Self::Allocate { at, length },
            15 => Self::Punch { at, length },
            16 => Self::Copy { from: random.random_range(0..LONGEST), to: at, length },
            17 => Self::Size,
            18 => Self::Sync,
            _ => Self::Reopen,
        }
    }
}

// === impl Player ===

impl<'a> Player<'a> {
    fn opening(name: char, actor: &'a Actor) -> Self {
        let file = actor.open("f", O_RDWR).unwrap();
        Self { name, actor, file, end: actor.open("f", O_RDWR | O_APPEND).unwrap() }
    }

    /// Takes a step and has the model take it, too; says what is not as it must be.
    fn take(&mut self, step: Step, fill: u8, model: &mut Model) -> Result<(), String> {
        let Self { actor, file, end, .. } = *self;
        match step {
            Step::Read { at, length } => {
                same("read", &actor.pread(file, length, at).unwrap(), model.part(at, length))
            }
            Step::ReadMapped if model.0.is_empty() => Ok(()),
            Step::ReadMapped => {
                // By an open of its own: a mapping is as new as its making.
                let fd = actor.open("f", O_RDWR).unwrap();
                let map = actor.map(fd, model.0.len()).unwrap();
                let loaded = actor.load(map, model.0.len(), 0);
                actor.unmap(map).unwrap();
                actor.close(fd).unwrap();
                same("mapping", &loaded, &model.0)
            }
            Step::Write { at, length } => {
                let bytes = pattern(fill, length);
                actor.pwrite(file, &bytes, at).unwrap();
                model.put(at, &bytes);
                Ok(())
            }
            Step::Append { length } if model.0.len() + length > LONGEST => Ok(()),
            Step::Append { length } => {
                let bytes = pattern(fill, length);
                actor.write(end, &bytes).unwrap();
                model.put(model.0.len(), &bytes);
                Ok(())
            }
            Step::Truncate { size } => {
                actor.ftruncate(file, size).unwrap();
                model.0.resize(size, 0);
                Ok(())
            }
            Step::TruncateByName { size } => {
                actor.truncate("f", size).unwrap();
                model.0.resize(size, 0);
                Ok(())
            }
            Step::Allocate { at, length } => {
                actor.fallocate(file, 0, at, length).unwrap();
                model.0.resize(model.0.len().max(at + length), 0);
                Ok(())
            }
            Step::Punch { at, length } => {
                let hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
                actor.fallocate(file, hole, at, length).unwrap();
                let length = model.part(at, length).len();
                model.put(at.min(model.0.len()), &vec![0; length]);
                Ok(())
            }
            // Within one file the kernel refuses to copy from a stretch to one that meets it.
            Step::Copy { from, to, length } if from.abs_diff(to) < length => Ok(()),
            Step::Copy { from, to, length } => {
                // As cp(1) does: the kernel copies nothing beyond the end that it saw last.
                let copy = |actor: &Actor| {
                    actor.fstat(file).unwrap();
                    actor.copy_range((file, from), (file, to), length).unwrap()
                };
                let mut copied = copy(actor);
                // Who sees attributes late sees the end late.
                let begin = mfs::clock::now();
                while actor.late == Late::All
                    && copied < model.part(from, length).len()
                    && begin.elapsed() < Duration::from_secs(10)
                {
                    copied = copy(actor);
                }
                let bytes = model.part(from, length).to_vec();
                model.put(to, &bytes[..copied.min(bytes.len())]);
                match copied {
                    copied if copied > bytes.len() => Err(format!("{copied} bytes were copied")),
                    0 if !bytes.is_empty() => Err("nothing was copied".to_owned()),
                    _ => Ok(()),
                }
            }
            Step::Size => {
                let size = model.0.len() as u64;
                if actor.late == Late::All {
                    actor.sees(size, |actor| actor.fstat(file).unwrap().size);
                }
                let seen = actor.fstat(file).unwrap().size;
                if seen == size { Ok(()) } else { Err(format!("{seen} bytes long, not {size}")) }
            }
            Step::Sync => {
                actor.fsync(file).unwrap();
                Ok(())
            }
            Step::Reopen => {
                actor.close(file).unwrap();
                actor.close(end).unwrap();
                *self = Self::opening(self.name, actor);
                Ok(())
            }
        }
    }
}

// === impl Model ===

impl Model {
    /// What there is of a stretch.
    fn part(&self, at: usize, length: usize) -> &[u8] {
        let end = self.0.len().min(at + length);
        &self.0[at.min(end)..end]
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[at..end].copy_from_slice(bytes);
    }
}

/// Bytes of which each tells its place.
fn pattern(fill: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| fill ^ (at % 251) as u8).collect()
}

fn same(what: impl fmt::Display, seen: &[u8], expected: &[u8]) -> Result<(), String> {
    if seen == expected {
        return Ok(());
    }
    let differs = seen.iter().zip(expected).position(|(one, other)| one != other);
    Err(format!(
        "the {what} has {} bytes, not {}; they differ first at {differs:?}",
        seen.len(),
        expected.len()
    ))
}
