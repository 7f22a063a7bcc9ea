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
    writers.granted(NOW, (a, session(1)), INO, version(1));
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
    writers.granted(NOW, (a, session(1)), INO, version(3));
    assert_eq!(judged(&writers, &a, 1), Judgement::Changed);
    assert_eq!(judged(&writers, &a, 3), Judgement::Unchanged);
}

#[test]
fn a_lease_that_is_granted_again_after_nobody_did_anything_is_one() {
    let (writers, a) = writer();
    writers.wrote(&a, INO, version(2));
    writers.granted(NOW, (a, session(2)), INO, version(2));
    assert_eq!(judged(&writers, &a, 1), Judgement::Unchanged);
}

#[test]
fn one_copy_takes_what_one_lease_stored() {
    let (writers, a) = writer();
    writers.change_by(Some(&owner(2)), INO);
    assert_eq!(writers.copy(&a, INO), None);
    writers.copied(NOW, (a, session(1)), INO, version(1), "/c-1".into());
    assert_eq!(writers.copy(&a, INO), Some("/c-1".into()));
    writers.granted(NOW, (a, session(1)), INO, version(3));
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
