//! Who has changed what since whom, and what the next daemon knows of it.

use mfs::export::Changed;
use mfs::types::{Incarnation, NodeId, Timestamp};

use super::*;

const NOW: Duration = Duration::from_secs(5);
const INO: InodeNo = InodeNo::FIRST;

fn owner(number: u8) -> Owner {
    let incarnation = Incarnation::new(u64::from(number)).unwrap();
    Owner { node: NodeId::from_digest([number; 32]), local: false, incarnation }
}

fn session(number: u64) -> SessionId {
    SessionId::new(number).unwrap()
}

fn version(seconds: i64) -> DataVersion {
    let time = Timestamp { seconds, nanos: 0 };
    DataVersion { ctime: time, mtime: time, size: 1 }
}

/// A writer with the lease since version 1.
fn writer() -> (Writers, Owner) {
    let (writers, a) = (Writers::default(), owner(1));
    writers.granted(NOW, (a, session(1)), INO, version(1), None);
    (writers, a)
}

fn judged(writers: &Writers, owner: &Owner, known: i64) -> Judgement {
    writers.judge(owner, INO, version(known), |_| false)
}

#[test]
fn what_the_writer_does_itself_changes_nothing() {
    let (writers, a) = writer();
    writers.change_by(Some(&a), INO);
    assert!(writers.has(&a, INO) && !writers.has(&owner(2), INO));
    assert!(writers.wrote(&a, INO, version(2)));
    assert_eq!(judged(&writers, &a, 1), Judgement::Unchanged, "also if it knows not all of it");
    assert_eq!(judged(&writers, &a, 2), Judgement::Unchanged);
}

#[test]
fn what_another_client_changes_is_a_change_unless_it_is_in_order() {
    let (writers, a) = writer();
    writers.change_by(Some(&owner(2)), INO);
    let held = |holder| writers.judge(&a, INO, version(1), |session| session == holder);
    assert_eq!(held(session(1)), Judgement::Unchanged, "it was asked, and writes back");
    assert_eq!(held(session(2)), Judgement::Changed, "what another session holds is another lease");
    assert!(!writers.wrote(&a, INO, version(2)));
}

#[test]
fn of_what_happens_beside_the_version_tells() {
    let (writers, a) = writer();
    writers.wrote(&a, INO, version(2));
    let others = vec![Changed { ino: INO, names: false }];
    writers.note(&LocalChanges { others, ..LocalChanges::default() });
    let both = Judgement::Look([version(1), version(2)]);
    assert_eq!(judged(&writers, &a, 1), both);
    writers.found_unchanged(NOW, (a, session(1)), INO, version(1));
    assert_eq!(judged(&writers, &a, 1), Judgement::Unchanged);
}

#[test]
fn of_a_stranger_the_version_tells_and_then_it_is_a_writer() {
    let (writers, a) = (Writers::default(), owner(1));
    assert_eq!(judged(&writers, &a, 1), Judgement::Look([version(1); 2]));
    writers.found_unchanged(NOW, (a, session(1)), INO, version(1));
    writers.wrote(&a, INO, version(2));
    assert_eq!(judged(&writers, &a, 1), Judgement::Unchanged);
    writers.change_by(None, INO);
    assert_eq!(judged(&writers, &a, 1), Judgement::Changed);
}

#[test]
fn what_is_left_of_an_earlier_lease_is_not_taken_for_what_a_later_one_stored() {
    let (writers, a) = writer();
    writers.change_by(Some(&owner(2)), INO);
    writers.granted(NOW, (a, session(1)), INO, version(3), None);
    assert_eq!(judged(&writers, &a, 1), Judgement::Changed);
    assert_eq!(judged(&writers, &a, 3), Judgement::Unchanged);
}

#[test]
fn a_lease_that_is_granted_again_after_nobody_did_anything_is_one() {
    let (writers, a) = writer();
    writers.wrote(&a, INO, version(2));
    writers.granted(NOW, (a, session(2)), INO, version(2), None);
    assert_eq!(judged(&writers, &a, 1), Judgement::Unchanged);
}

#[test]
fn one_copy_takes_what_one_lease_stored() {
    let (writers, a) = writer();
    writers.change_by(Some(&owner(2)), INO);
    assert_eq!(writers.copy(&a, INO), None);
    writers.copied(NOW, (a, session(1)), INO, version(1), "/c-1".into());
    assert_eq!(writers.copy(&a, INO), Some("/c-1".into()));
    writers.granted(NOW, (a, session(1)), INO, version(3), None);
    assert_eq!(writers.copy(&a, INO), None);
    let stranger = owner(3);
    writers.copied(NOW, (stranger, session(3)), INO, version(1), "/c-2".into());
    assert_eq!(writers.copy(&stranger, INO), Some("/c-2".into()));
    assert_eq!(judged(&writers, &stranger, 1), Judgement::Changed);
}

#[test]
fn who_returns_leaves_or_stays_away_is_forgotten() {
    let (writers, a) = writer();
    writers.returned(session(2), INO);
    assert!(writers.concern(INO));
    writers.returned(session(1), INO);
    assert!(writers.is_empty());
    let (writers, _) = writer();
    writers.left(&owner(2));
    assert!(!writers.is_empty());
    writers.left(&a);
    assert!(writers.is_empty());
    let (writers, _) = writer();
    writers.rest(NOW + KEPT, |_, _| true);
    writers.rest(NOW + KEPT + KEPT / 2, |_, _| false);
    assert!(writers.concern(INO));
    writers.rest(NOW + KEPT + KEPT, |_, _| false);
    assert!(writers.is_empty());
}

#[test]
fn a_change_waits_for_what_is_being_written() {
    let (writers, a) = writer();
    let turn = writers.turn(INO);
    let writing = turn.read();
    std::thread::scope(|scope| {
        let change = scope.spawn(|| writers.change_by(Some(&owner(2)), INO));
        while judged(&writers, &a, 1) == Judgement::Unchanged {
            std::thread::yield_now();
        }
        assert!(!change.is_finished());
        drop(writing);
    });
}

/// The daemon that finds these words.
fn next(words: Vec<u64>) -> Writers {
    let left = Store::open(Box::new(kept::Left::from(words)), 7);
    let store = Store::create(Box::new(kept::Mortal::new(vec![0; WORDS], usize::MAX)), 7);
    let inner = Inner::inherit(left, store);
    let count = AtomicUsize::new(inner.files.len());
    Writers { inner: Mutex::new(inner), count }
}

/// A daemon that is killed before its n-th store.
fn mortal(stores: usize) -> (Writers, kept::Mortal) {
    let memory = kept::Mortal::new(vec![0; WORDS], usize::MAX);
    let store = Store::create(Box::new(memory.clone()), 7);
    memory.kill_after(stores);
    let inner = Inner::inherit(None, store);
    (Writers { inner: Mutex::new(inner), count: AtomicUsize::new(0) }, memory)
}

#[test]
fn the_next_daemon_knows_who_has_changed_what_since_whom() {
    let (writers, memory) = mortal(usize::MAX);
    let (a, b) = (owner(1), owner(2));
    let other = INO.next();
    let place = Some(PathBuf::from("/d/f"));
    writers.granted(NOW, (a, session(1)), INO, version(1), place.clone());
    writers.granted(NOW, (b, session(2)), INO, version(1), None);
    writers.wrote(&b, INO, version(2));
    writers.change_by(Some(&b), INO);
    writers.copied(NOW, (a, session(1)), INO, version(1), "/d/copy".into());
    writers.granted(NOW, (a, session(1)), other, version(3), None);
    writers.removed_by(&a, other);
    writers.granted(NOW, (b, session(2)), other, version(3), None);
    writers.returned(session(2), other);
    let then = next(memory.words());
    assert_eq!(judged(&then, &a, 1), Judgement::Changed);
    assert_eq!(then.copy(&a, INO), Some("/d/copy".into()));
    let looked = Judgement::Look([version(1), version(2)]);
    assert_eq!(judged(&then, &b, 1), looked, "nobody knows what was done while there was none");
    assert!(!then.has(&b, other));
    assert!(!then.removed_by_others(&a, other, |_| false), "it knows that it is gone");
    assert_eq!(then.lost(&a, INO), Some(place));
    assert_eq!((then.lost(&a, INO), then.lost(&a, other)), (None, None));
    assert!(then.has(&b, INO) && !then.has(&a, other));
}

/// Whenever it is killed, nobody's change is taken for none, and what nobody has changed is not lost.
#[test]
fn a_kill_at_any_moment_leaves_what_is_so() {
    let (a, b) = (owner(1), owner(2));
    let mut was_written = false;
    for stores in 0.. {
        let (writers, memory) = mortal(stores);
        writers.granted(NOW, (a, session(1)), INO, version(1), Some("/d/f".into()));
        let is_granted = memory.left() > 0;
        writers.wrote(&a, INO, version(2));
        let has_written = memory.left() > 0;
        let then = next(memory.words());
        match (is_granted, judged(&then, &a, 1)) {
            (_, Judgement::Changed | Judgement::Unchanged) => panic!("after {stores}"),
            (true, Judgement::Look([known, _])) => assert_eq!(known, version(1)),
            (false, Judgement::Look(_)) => {}
        }
        writers.change_by(Some(&b), INO);
        let is_told = memory.left() > 0;
        let then = next(memory.words());
        if is_told {
            assert_eq!(judged(&then, &a, 1), Judgement::Changed, "after {stores}");
        }
        was_written |= has_written;
        if is_told {
            break;
        }
    }
    assert!(was_written);
}

#[test]
fn what_is_not_of_this_boot_or_form_tells_nothing() {
    let (writers, memory) = mortal(usize::MAX);
    writers.granted(NOW, (owner(1), session(1)), INO, version(1), None);
    let words = memory.words();
    assert!(Store::open(Box::new(kept::Left::from(words.clone())), 8).is_none());
    assert!(Store::open(Box::new(kept::Left::from(vec![0; WORDS])), 0).is_none());
    assert!(!next(words).is_empty());
}

#[test]
fn where_there_is_no_room_nothing_is_written_down_until_there_is() {
    let (writers, memory) = mortal(usize::MAX);
    let inos = || std::iter::successors(Some(INO), |ino| Some(ino.next())).take(RECORDS + 2);
    for ino in inos() {
        writers.granted(NOW, (owner(1), session(1)), ino, version(1), None);
    }
    let kept = |writers: &Writers| inos().filter(|ino| writers.concern(*ino)).count();
    assert_eq!((kept(&writers), kept(&next(memory.words()))), (RECORDS + 2, RECORDS));
    for ino in inos() {
        writers.change_by(Some(&owner(2)), ino);
    }
    writers.left(&owner(1));
    assert!(next(memory.words()).is_empty());
    writers.granted(NOW, (owner(1), session(1)), INO, version(1), None);
    assert_eq!(kept(&next(memory.words())), 1);
}
