//! Single stories, each a promise of the session.

use std::time::Duration;

use bytes::Bytes;

use super::model::{PATIENCE, World, file, proof};
use crate::client::session::{Event, LOCK_WAIT, Lane, Note, RECLAIM_PATIENCE, RELOCK_WAIT};
use crate::types::op::{
    Flush, LockFamily, LockKind, LockRange, Lookup, MakeDir, Open, Outcome, Read, Release, SetLock,
    Sync, Taking, Write,
};
use crate::types::{Access, Errno, FileName, LockOwner, OpenFlags, OpenId, RequestId};
use crate::wire::features;

fn name(text: &str) -> FileName {
    FileName::parse(text.as_bytes().to_vec()).expect("a good name")
}

fn make_dir(text: &str) -> MakeDir {
    MakeDir { parent: file("root"), name: name(text), mode: 0o755 }
}

fn open(number: u64, flags: OpenFlags) -> Open {
    let open = OpenId::new(number).expect("not 0");
    let file = file(&format!("f{number}"));
    Open { file, open, access: Access::ReadWrite, flags, proof: None }
}

fn write(number: u64) -> Write {
    let open = OpenId::new(number).expect("not 0");
    Write { open, offset: 0, data: Bytes::from_static(b"x"), pages: false, known: None }
}

fn lock(number: u64, wait: bool) -> SetLock {
    SetLock {
        open: OpenId::new(number).expect("not 0"),
        owner: LockOwner(9),
        family: LockFamily::Range,
        kind: LockKind::Exclusive,
        range: LockRange::ALL,
        wait,
        taking: Taking::default(),
    }
}

/// A world with both connections up.
fn connected() -> World {
    let mut world = World::new();
    world.run_dry();
    world
}

/// As `connected`, with one file open.
fn opened(flags: OpenFlags) -> World {
    let mut world = connected();
    let id = world.submit(open(1, flags));
    world.run_dry();
    assert!(world.answers[&id].is_ok());
    world
}

fn answer(world: &World, id: RequestId) -> Result<(), Errno> {
    world.answers[&id].clone().map(drop)
}

#[test]
fn a_reply_that_was_lost_comes_from_the_reply_cache() {
    let mut world = connected();
    let id = world.submit(make_dir("d"));
    world.cut_late(Lane::Control);
    world.run_dry();
    assert_eq!(answer(&world, id), Ok(()));
    assert_eq!(world.times_done(&make_dir("d").into()), 1);
}

#[test]
fn a_request_that_was_lost_is_sent_again() {
    let mut world = connected();
    let id = world.submit(make_dir("d"));
    world.cut(Lane::Control);
    world.run_dry();
    assert_eq!(answer(&world, id), Ok(()));
    assert_eq!(world.times_done(&make_dir("d").into()), 1);
}

#[test]
fn in_a_new_epoch_an_unknown_outcome_is_an_error_and_the_rest_goes_on() {
    let mut world = connected();
    let sent = world.submit(make_dir("sent"));
    let lookup = world.submit(Lookup { parent: file("root"), name: name("x"), keep: false });
    let second = world.submit(make_dir("second"));
    let queued = world.submit(make_dir("queued")); // the limit is 3
    world.restart();
    world.run_dry();
    assert_eq!(answer(&world, sent), Err(Errno::Io));
    assert_eq!(answer(&world, second), Err(Errno::Io));
    assert_eq!(answer(&world, lookup), Ok(()));
    assert_eq!(answer(&world, queued), Ok(()));
    assert!(world.notes.contains(&Note::Unknown("MakeDir")));
}

#[test]
fn a_server_that_knows_what_became_of_requests_is_asked_by_their_first_names() {
    let mut world = connected();
    world.server.features = features::REPLIES;
    world.restart();
    world.run_dry();
    let done = world.submit(make_dir("done"));
    let never = world.submit(make_dir("never begun"));
    assert!(world.serve(Lane::Control));
    // Also after one that was killed before it was asked, and one that was killed before it could answer.
    for late in [false, true] {
        world.restart();
        world.connect(Lane::Control);
        if late {
            while world.serve(Lane::Control) {}
        }
    }
    world.restart();
    world.run_dry();
    assert_eq!((answer(&world, done), answer(&world, never)), (Ok(()), Ok(())));
    assert_eq!(world.times_done(&make_dir("done").into()), 1);
    assert_eq!(world.times_done(&make_dir("never begun").into()), 1);
    // Of a session that has ended while the server went on it knows nothing.
    let unknown = world.submit(make_dir("unknown"));
    assert!(world.serve(Lane::Control));
    world.server.forget_session();
    world.cut(Lane::Control);
    world.run_dry();
    assert_eq!(answer(&world, unknown), Err(Errno::Io));
    assert!(world.notes.contains(&Note::Unknown("MakeDir")));
}

#[test]
fn opens_are_established_again_with_their_proof_without_truncating_and_before_anything_else() {
    let mut world = opened(OpenFlags::TRUNCATE | OpenFlags::APPEND);
    let read = world.submit(Read { open: OpenId::FIRST, offset: 0, size: 1, pages: false });
    world.restart();
    world.server.done.clear();
    world.run_dry();
    assert_eq!(answer(&world, read), Ok(()));
    let again = Open { proof: proof(), ..open(1, OpenFlags::APPEND) };
    assert_eq!(world.server.done[0], again.into());
}

#[test]
fn a_write_is_repeated_in_a_new_epoch_unless_it_appends() {
    for (flags, wanted) in [(OpenFlags::empty(), Ok(())), (OpenFlags::APPEND, Err(Errno::Io))] {
        let mut world = opened(flags);
        let id = world.submit(write(1));
        world.restart();
        world.run_dry();
        assert_eq!(answer(&world, id), wanted);
    }
}

#[test]
fn locks_are_taken_again_and_a_lost_one_makes_its_open_fail() {
    for (taken, wanted) in [(false, Ok(())), (true, Err(Errno::Io))] {
        let mut world = opened(OpenFlags::empty());
        world.submit(lock(1, false));
        world.run_dry();
        world.restart();
        if taken {
            world.server.foreign_locks.insert(OpenId::FIRST);
        }
        let id = world.submit(write(1));
        world.run_dry();
        assert_eq!(answer(&world, id), wanted);
        assert_eq!(world.server.locks.contains(&(OpenId::FIRST, LockOwner(9))), !taken);
    }
}

#[test]
fn a_lock_that_is_taken_again_is_waited_for_a_moment() {
    let mut world = opened(OpenFlags::empty());
    world.submit(lock(1, false));
    world.run_dry();
    world.restart();
    world.connect(Lane::Control);
    world.serve(Lane::Control); // the open
    world.hear(Lane::Control);
    let relock = &world.lines[&Lane::Control].requests[0];
    assert_eq!(relock.operation, lock(1, true).into());
    assert_eq!(relock.deadline, Some(RELOCK_WAIT));
}

#[test]
fn a_file_that_is_gone_is_stale_and_others_are_not_concerned() {
    let mut world = opened(OpenFlags::empty());
    world.submit(open(2, OpenFlags::empty()));
    world.run_dry();
    world.restart();
    world.server.gone.insert(file("f1"));
    let (gone, there) = (world.submit(write(1)), world.submit(write(2)));
    world.run_dry();
    assert_eq!(answer(&world, gone), Err(Errno::Stale));
    assert_eq!(answer(&world, there), Ok(()));
    assert!(world.notes.contains(&Note::NotReclaimed(OpenId::FIRST, Errno::Stale)));
}

#[test]
fn an_open_that_the_server_forgot_is_opened_again_once() {
    let mut world = opened(OpenFlags::empty());
    world.server.opens.clear();
    let id = world.submit(write(1));
    world.run_dry();
    assert_eq!(answer(&world, id), Ok(()));
    let unknown = world.submit(write(5));
    world.run_dry();
    assert_eq!(answer(&world, unknown), Err(Errno::BadF));
}

#[test]
fn everything_has_a_deadline_and_what_nobody_answers_ends() {
    let mut world = World::new();
    let never_sent = world.submit(make_dir("a"));
    world.connect(Lane::Control);
    let sent = world.submit(make_dir("b"));
    let patient = world.submit_with(make_dir("c"), None);
    assert_eq!(world.session.next_deadline(), Some(world.now + PATIENCE));
    world.now += PATIENCE;
    world.step(Event::Tick);
    assert_eq!(answer(&world, never_sent), Err(Errno::TimedOut));
    assert_eq!(answer(&world, sent), Err(Errno::TimedOut));
    assert!(!world.answers.contains_key(&patient));
    world.run_dry();
    assert_eq!(answer(&world, patient), Ok(()));
}

#[test]
fn what_was_given_up_and_cut_is_not_done_later() {
    let mut world = connected();
    let id = world.submit(make_dir("d"));
    world.give_up(id);
    world.cut(Lane::Control);
    world.run_dry();
    assert_eq!(world.times_done(&make_dir("d").into()), 0);
    // Its slot goes on behind the gap.
    let after = world.submit(make_dir("e"));
    world.run_dry();
    assert_eq!(answer(&world, after), Ok(()));
}

#[test]
fn an_open_that_nobody_waits_for_is_closed_again() {
    for late in [false, true] {
        let mut world = connected();
        let id = world.submit(open(1, OpenFlags::empty()));
        world.give_up(id);
        if late {
            world.cut_late(Lane::Control);
        }
        world.run_dry();
        assert!(world.server.opens.is_empty());
    }
}

#[test]
fn a_lock_that_nobody_waits_for_is_cancelled_and_released() {
    let mut world = opened(OpenFlags::empty());
    let id = world.submit(lock(1, true));
    world.give_up(id);
    assert_eq!(world.cancelled, [id]);
    world.run_dry(); // the server granted it all the same
    assert!(world.server.locks.is_empty());
}

#[test]
fn waiting_locks_leave_slots_for_what_releases_them() {
    let mut world = opened(OpenFlags::empty());
    for owner in 0..8 {
        world.submit(SetLock { owner: LockOwner(owner), ..lock(1, true) });
    }
    let unlock = SetLock { kind: LockKind::Unlock, ..lock(1, false) };
    world.submit(unlock.clone());
    let line = &world.lines[&Lane::Control];
    assert_eq!(line.requests.len(), 3, "two locks that wait, of four slots, and the unlocking");
    assert_eq!(line.requests[2].operation, unlock.into());
    assert_eq!(line.requests[0].deadline, Some(LOCK_WAIT));
}

#[test]
fn while_the_node_is_away_callers_are_told_at_once_unless_they_wait_for_ever() {
    let mut world = connected();
    let sent = world.submit(make_dir("a"));
    let patient = world.submit_with(make_dir("b"), None);
    world.cut(Lane::Control);
    world.step(Event::Away(Errno::HostDown));
    let late = world.submit(make_dir("c"));
    assert_eq!(answer(&world, sent), Err(Errno::HostDown));
    assert_eq!(answer(&world, late), Err(Errno::HostDown));
    world.run_dry();
    assert_eq!(answer(&world, patient), Ok(()));
    assert_eq!(world.times_done(&make_dir("a").into()), 0);
}

#[test]
fn a_release_reaches_the_server_although_its_caller_was_told_that_the_node_is_away() {
    let mut world = opened(OpenFlags::empty());
    world.cut(Lane::Control);
    world.step(Event::Away(Errno::HostDown));
    let id = world.submit(Release { open: OpenId::FIRST });
    assert_eq!(answer(&world, id), Err(Errno::HostDown));
    world.run_dry();
    assert!(world.server.opens.is_empty());
    assert!(!world.session.wants_connection());
}

#[test]
fn a_reboot_of_the_server_is_told_once_to_whoever_had_not_synced() {
    let mut world = opened(OpenFlags::empty());
    world.submit(open(2, OpenFlags::empty()));
    world.run_dry();
    world.submit(write(1));
    world.submit(write(2));
    world.run_dry();
    world.submit(Sync { open: OpenId::new(2).unwrap(), data_only: true });
    world.run_dry();
    world.server.verifier += 1;
    world.restart();
    let ids: Vec<_> = [1, 2, 1]
        .map(|n| {
            let id = world.submit(Sync { open: OpenId::new(n).unwrap(), data_only: false });
            world.run_dry();
            id
        })
        .to_vec();
    let answers: Vec<_> = ids.iter().map(|id| answer(&world, *id)).collect();
    assert_eq!(answers, [Err(Errno::Io), Ok(()), Ok(())]);
}

#[test]
fn no_more_is_in_flight_than_the_limits_allow_and_classes_do_not_wait_for_each_other() {
    let mut world = opened(OpenFlags::empty());
    for _ in 0..10 {
        world.submit(Read { open: OpenId::FIRST, offset: 0, size: 1, pages: false });
    }
    for n in 0..10 {
        world.submit(Lookup { parent: file("root"), name: name(&format!("n{n}")), keep: false });
    }
    assert_eq!(world.lines[&Lane::Bulk].requests.len(), 2);
    assert_eq!(world.lines[&Lane::Control].requests.len(), 3);
    let before = world.answers.len();
    world.run_dry();
    assert_eq!(world.answers.len(), before + 20);
}

#[test]
fn a_bulk_connection_of_another_session_is_cut_and_the_control_connection_greets_again() {
    let mut world = opened(OpenFlags::empty());
    world.cut(Lane::Bulk);
    world.server.forget_session();
    world.connect(Lane::Bulk);
    assert!(world.lines.is_empty());
    let id = world.submit(write(1));
    world.run_dry();
    assert!(matches!(world.answers[&id], Ok(Outcome::Written(_))));
    assert!(world.server.opens.contains_key(&OpenId::FIRST));
}

#[test]
fn a_file_that_hangs_when_it_is_opened_again_holds_up_the_rest_for_a_while_only() {
    let mut world = opened(OpenFlags::empty());
    world.restart();
    world.connect(Lane::Control);
    world.connect(Lane::Bulk);
    let patient = world.submit_with(make_dir("d"), None);
    let lost = world.submit_with(write(1), None);
    world.lines.get_mut(&Lane::Control).unwrap().requests.clear(); // the server does not answer it
    world.run_dry();
    assert!(!world.answers.contains_key(&patient));
    world.now += RECLAIM_PATIENCE;
    world.step(Event::Tick);
    world.run_dry();
    assert_eq!(answer(&world, patient), Ok(()));
    assert_eq!(answer(&world, lost), Err(Errno::Io));
}

#[test]
fn what_was_answered_at_its_deadline_is_not_answered_again_when_its_open_is_lost() {
    let mut world = opened(OpenFlags::empty());
    world.restart();
    world.server.gone.insert(file("f1"));
    let flush = Flush { open: OpenId::FIRST, owner: Some(LockOwner(9)) };
    let id = world.submit(flush);
    world.now += PATIENCE;
    world.step(Event::Tick);
    assert_eq!(answer(&world, id), Err(Errno::TimedOut));
    world.run_dry();
}

#[test]
fn passing_time_wakes_only_what_is_due() {
    let mut world = World::new();
    let short = world.submit_with(make_dir("a"), Some(Duration::from_secs(1)));
    let long = world.submit_with(make_dir("b"), Some(Duration::from_secs(3)));
    world.now += Duration::from_secs(2);
    world.step(Event::Tick);
    assert!(world.answers.contains_key(&short) && !world.answers.contains_key(&long));
}
