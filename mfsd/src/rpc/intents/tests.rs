//! What one daemon notes and the next one makes of it, with kills between any two words.

use std::path::PathBuf;

use mfs::types::op::{Entry, Written};
use mfs::types::{Errno, Incarnation, NodeId};
use mfs::wire::{ProtocolCode, Refusal};
use proptest::prelude::*;

use super::super::fake::FakeTree;
use super::super::kept::{Left, Mortal};
use super::super::tree::Tree as _;
use super::*;

const BOOT: Verifier = Verifier(7);

const FILE: &[u8] = b"file";

fn store(memory: &Mortal) -> Store {
    Store::create(Box::new(memory.clone()), BOOT.0)
}

fn owner(node: u8) -> Owner {
    let node = NodeId::from_digest([node; 32]);
    Owner { node, local: false, incarnation: Incarnation::FIRST }
}

fn session(number: u64) -> SessionId {
    SessionId::new(number).unwrap()
}

fn origin(of: u64, slot: u32, sequence: u64) -> Origin {
    Origin { session: session(of), slot: Slot(slot), sequence: Sequence::new(sequence).unwrap() }
}

fn done() -> Answer {
    Ok(Outcome::Done(()))
}

/// A place for the file, and a daemon that uses it.
struct Lives {
    _dir: tempfile::TempDir,
    path: PathBuf,
    tree: FakeTree,
}

impl Lives {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("intents");
        Self { _dir: dir, path, tree: FakeTree::default() }
    }

    fn next(&self) -> Intents {
        Intents::open(Some(&self.path), BOOT, &self.tree)
    }
}

#[test]
fn a_kill_between_any_two_words_leaves_what_is_true() {
    let (first, second) = (origin(1, 3, 8), origin(1, 3, 9));
    let (intent, reply, next) = (vec![1; 100], vec![2; 50], vec![3; 613]);
    let life = |stores| {
        let memory = Mortal::new(vec![0; WORDS], stores);
        let store = store(&memory);
        store.add_session(2, first.session, &owner(5), 1);
        store.intend(4, &first, &intent);
        store.reply(4, &reply);
        store.intend(4, &second, &next);
        store.remove_session(2);
        store.clear(4);
        (memory.words(), memory.left())
    };
    let (_, left) = life(1_000);
    let stores = 1_000 - left;
    let mut seen = Vec::new();
    for killed in 0..=stores {
        let (words, _) = life(killed);
        let Some(store) = Store::open(Box::new(Left::from(words)), BOOT.0) else {
            assert!(seen.is_empty(), "it is a store from one word on");
            continue;
        };
        let session = store.session(2).map(|(id, owner, _)| (id, owner));
        assert!(session.is_none_or(|session| session == (first.session, owner(5))));
        let state = (session.is_some(), store.record(4));
        if seen.last() != Some(&state) {
            seen.push(state);
        }
    }
    let wanted = [
        (false, None),
        (true, None),
        (true, Some((first, Held::Intent(intent)))),
        (true, Some((first, Held::Reply(reply)))),
        (true, None),
        (true, Some((second, Held::Intent(next.clone())))),
        (false, Some((second, Held::Intent(next)))),
        (false, None),
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn what_is_too_long_or_of_another_boot_is_not_taken_for_something() {
    let memory = Mortal::new(vec![0; WORDS], usize::MAX);
    let store = store(&memory);
    assert!(!store.intend(0, &origin(1, 0, 1), &[0; 641]));
    assert_eq!(store.record(0), None);
    assert!(store.intend(RECORDS - 1, &origin(1, 0, 1), &[9; 640]));
    assert!(!store.reply(RECORDS - 1, &[0; 321]));
    assert!(matches!(store.record(RECORDS - 1), Some((_, Held::Intent(_)))));
    assert!(Store::open(Box::new(Left::from(memory.words())), BOOT.0).is_some());
    assert!(Store::open(Box::new(Left::from(memory.words())), 8).is_none());
    assert!(Store::open(Box::new(Left::from(vec![0; WORDS])), 0).is_none());
}

#[test]
fn the_next_daemon_answers_what_was_answered_and_begins_what_was_not_begun() {
    let lives = Lives::new();
    let one = lives.next();
    one.begin(session(1), owner(1));
    one.intend(&origin(1, 0, 1), &Evidence::Silent);
    one.finish(&origin(1, 0, 1), &Err(Errno::Exist.into()));
    one.intend(&origin(1, 1, 1), &Evidence::Silent);
    one.intend(&origin(1, 2, 1), &Evidence::Harmless);
    one.intend(&origin(1, 3, 1), &Evidence::Silent);
    let refused = Refusal::new(ProtocolCode::UnknownOpen, "");
    one.finish(&origin(1, 3, 1), &Err(refused.into()));
    assert_eq!(one.ask(&owner(1), &origin(1, 0, 1)), Fate::Unknown, "the session is not over");

    let two = lives.next();
    // What the one before still does concerns nobody.
    one.finish(&origin(1, 1, 1), &done());
    assert_eq!(two.ask(&owner(2), &origin(1, 0, 1)), Fate::Unknown, "it is another's");
    for _ in 0..2 {
        let exists = Fate::Answered(Err(Errno::Exist.into()));
        assert_eq!(two.ask(&owner(1), &origin(1, 0, 1)), exists);
        assert_eq!(two.ask(&owner(1), &origin(1, 1, 1)), Fate::Unknown, "it leaves no trace");
    }
    for slot in [2, 3, 4] {
        assert_eq!(two.ask(&owner(1), &origin(1, slot, 1)), Fate::New, "slot {slot}");
        assert_eq!(two.ask(&owner(1), &origin(1, slot, 1)), Fate::Unknown, "it is begun");
    }
    assert_eq!(two.ask(&owner(1), &origin(1, 0, 2)), Fate::New, "a newer one of the slot");
    assert_eq!(two.ask(&owner(1), &origin(1, 0, 1)), Fate::Unknown, "given up since");
    two.intend(&origin(1, 2, 1), &Evidence::Silent);
    two.finish(&origin(1, 2, 1), &done());

    // The names are those that the requests had first, however often mfsd is killed.
    let three = lives.next();
    assert_eq!(three.ask(&owner(1), &origin(1, 2, 1)), Fate::Answered(done()));
    assert_eq!(three.ask(&owner(1), &origin(1, 1, 1)), Fate::Unknown);
    three.begin(session(3), owner(1));
    three.end(session(3), &owner(1));
    assert_eq!(three.ask(&owner(1), &origin(1, 2, 1)), Fate::Unknown, "its client has gone");
    assert_eq!(lives.next().ask(&owner(1), &origin(1, 9, 1)), Fate::Unknown);
}

/// A write of a mebibyte to the end of a file, of which the kill left so much, after so much of another's.
fn appended(whose: &[u8], left: usize) -> (Fate, Vec<u8>) {
    let lives = Lives::new();
    let before = b"before".to_vec();
    let data: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_ne_bytes).collect();
    let file = lives.tree.make(FILE, &before);
    let one = lives.next();
    one.begin(session(1), owner(1));
    let evidence = Evidence::appended(file, before.len() as u64, &data);
    one.intend(&origin(1, 0, 1), &evidence);
    lives.tree.make(FILE, &[&before, whose, &data[..left]].concat());
    let fate = lives.next().ask(&owner(1), &origin(1, 0, 1));
    (fate, lives.tree.contents(FILE).unwrap())
}

#[test]
fn what_a_kill_left_of_an_append_is_found_or_taken_back() {
    let whole = 1 << 20;
    let written = |offset| {
        Fate::Answered(Ok(Outcome::Written(Written {
            size: 1 << 20,
            offset,
            ..Written::default()
        })))
    };
    let length = |(fate, bytes): (Fate, Vec<u8>)| (fate, bytes.len());
    assert_eq!(length(appended(b"", 0)), (Fate::New, 6));
    assert_eq!(length(appended(b"", whole)), (written(6), 6 + whole));
    // Cut short, it is in nobody's answer, and what follows it must not be torn from it.
    for left in [1, 4_090, 8_186, whole - 1] {
        let (fate, bytes) = appended(b"", left);
        assert_eq!((fate, &bytes[..]), (Fate::New, &b"before"[..]), "{left}");
    }
    // What others have appended stays.
    assert_eq!(length(appended(b"theirs", 0)), (Fate::New, 12));
    assert_eq!(length(appended(b"theirs", whole)), (written(12), 12 + whole));
    assert_eq!(length(appended(b"theirs", 4_096)), (Fate::Unknown, 12 + 4_096));
}

#[test]
fn a_session_that_is_not_noted_whole_is_not_known() {
    let lives = Lives::new();
    let one = lives.next();
    one.begin(session(1), owner(1));
    one.begin(session(2), owner(2));
    for slot in 0..=RECORDS as u32 {
        one.intend(&origin(1, slot, 1), &Evidence::Harmless);
    }
    one.intend(&origin(2, 0, 1), &Evidence::Harmless);
    let two = lives.next();
    assert_eq!(two.ask(&owner(1), &origin(1, 0, 1)), Fate::Unknown, "there was no room for all");
    assert_eq!(two.ask(&owner(2), &origin(2, 0, 1)), Fate::New, "there is again");
    for id in 3..3 + SESSIONS as u64 {
        two.begin(session(id), owner(3));
    }
    assert_eq!(two.ask(&owner(2), &origin(2, 1, 1)), Fate::Unknown, "the oldest has made room");
    assert_eq!(lives.next().ask(&owner(3), &origin(3, 1, 1)), Fate::New);
}

#[test]
fn who_cannot_note_does_not_say_so() {
    let tree = FakeTree::default();
    assert!(!Intents::open(None, BOOT, &tree).is_kept());
    let nowhere = Intents::open(Some(Path::new("/nowhere/intents")), BOOT, &tree);
    assert!(!nowhere.is_kept());
    nowhere.begin(session(1), owner(1));
    nowhere.intend(&origin(1, 0, 1), &Evidence::Harmless);
    assert_eq!(nowhere.ask(&owner(1), &origin(1, 0, 1)), Fate::Unknown);
}

#[test]
fn answers_come_back_as_they_were() {
    let root: Entry = FakeTree::default().root().unwrap();
    for answer in [
        done(),
        Ok(Outcome::Written(Written { size: 1 << 20, offset: u64::MAX, ..Written::default() })),
        Ok(Outcome::Attr(root.attr.clone())),
        Ok(Outcome::Entry(root)),
        Err(Errno::NotEmpty.into()),
    ] {
        assert_eq!(decode(&encode(&answer)), Some(answer));
    }
    assert_eq!(decode(b"nonsense"), None);
}

/// What a client does with its slots: each is used for one request after the other.
#[derive(Debug, Clone, Copy)]
enum Step {
    Intend(u32),
    Finish(u32),
    /// Killed after so many words of what follows.
    Kill(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u32).prop_map(Step::Intend),
        4 => (0..4_u32).prop_map(Step::Finish),
        1 => (0..120_usize).prop_map(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whenever it is killed, what is told of a slot's last request is never more than was so: an answer only
    /// where it was executed, a beginning only where it was not.
    #[test]
    fn whenever_it_is_killed_nothing_is_told_that_is_not_so(
        steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut kill = usize::MAX;
        // For each slot: the last request, and whether it was executed.
        let mut slots = [(0_u64, false); 4];
        let memory = Mortal::new(vec![0; WORDS], usize::MAX);
        let mut inner = Inner::new(Some(store(&memory)));
        inner.begin(session(1), owner(1), None);
        let intents = Intents { inner: Mutex::new(inner) };
        let dead = |memory: &Mortal| memory.left() == 0;
        for step in steps {
            match step {
                Step::Intend(slot) => {
                    let (last, executed) = slots[slot as usize];
                    if last > 0 && !executed {
                        continue;
                    }
                    let next = origin(1, slot, last + 1);
                    intents.intend(&next, &Evidence::Silent);
                    // A process that was killed while it noted did not begin.
                    slots[slot as usize] = (last + 1, false);
                }
                Step::Finish(slot) => {
                    let (last, executed) = slots[slot as usize];
                    if last > 0 && !executed {
                        slots[slot as usize].1 = true;
                        intents.finish(&origin(1, slot, last), &done());
                    }
                }
                Step::Kill(stores) if kill == usize::MAX => {
                    kill = stores;
                    memory.kill_after(stores);
                }
                Step::Kill(_) => {}
            }
            if dead(&memory) {
                break;
            }
        }
        let tree = FakeTree::default();
        let left = Store::open(Box::new(Left::from(memory.words())), BOOT.0);
        let left = left.expect("it was whole before the kill");
        let fresh = Mortal::new(vec![0; WORDS], usize::MAX);
        let mut next = Inner::new(Some(store(&fresh)));
        next.inherit(&left, &tree);
        for (slot, (last, executed)) in slots.into_iter().enumerate().filter(|(_, (n, _))| *n > 0) {
            let fate = next.ask(&owner(1), &origin(1, slot as u32, last));
            match fate {
                Fate::Answered(answer) => prop_assert!(executed && answer == done()),
                Fate::New => prop_assert!(!executed, "slot {slot} would be executed twice"),
                Fate::Unknown => {}
            }
        }
    }
}
