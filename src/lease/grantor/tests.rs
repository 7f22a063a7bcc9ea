//! What the grantor does, event by event; how it all fits together is shown by `tests/lease`.

use super::*;

const TERM: Duration = Duration::from_secs(10);
const A: Leases = Leases::ATTRIBUTES;
const D: Leases = Leases::DIRECTORY;

fn ino(number: u64) -> InodeNo {
    InodeNo::new(number).expect("not 0")
}

fn session(number: u64) -> SessionId {
    SessionId::new(number).expect("not 0")
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A grantor with two sessions.
fn grantor(grace: Option<Grace>) -> Grantor {
    let terms = Terms { term: TERM, patience: at(5), files_per_session: 3 };
    let mut grantor = Grantor::new(terms, grace);
    grantor.step(at(0), Event::Attached(session(1)));
    grantor.step(at(0), Event::Attached(session(2)));
    grantor
}

fn grant(grantor: &mut Grantor, now: u64, of: u64, touch: Touch) -> bool {
    let reading = grantor.begin_reading();
    !grantor.grant(at(now), session(of), reading, None, &[touch])[0].is_empty()
}

fn change(id: ChangeId, of: u64, touches: &[Touch]) -> Event {
    Event::Change { id, session: Some(session(of)), touches: touches.to_vec() }
}

#[test]
fn a_change_waits_for_the_return_of_what_others_hold() {
    let mut grantor = grantor(None);
    assert!(grant(&mut grantor, 0, 1, (ino(1), A)) && grant(&mut grantor, 0, 2, (ino(1), A)));
    let asked = grantor.step(at(1), change(7, 1, &[(ino(1), A)]));
    assert_eq!(asked, [Action::Recall(session(2), 1, vec![(ino(1), A)])]);
    assert!(!grant(&mut grantor, 1, 2, (ino(1), A)), "a change is announced");
    let late = Event::Returned(session(2), 9, vec![(ino(1), A)]);
    assert_eq!(grantor.step(at(1), late), [], "that recall was never sent");
    let answer = Event::Returned(session(2), 1, vec![(ino(1), A)]);
    assert_eq!(grantor.step(at(1), answer.clone()), [Action::Admit(7)]);
    grantor.step(at(1), Event::Done(7));
    assert!(grant(&mut grantor, 1, 2, (ino(1), A)));
    grantor.step(at(1), answer);
    assert_eq!(grantor.holders_of(ino(1)).len(), 2, "an answer that comes twice takes nothing");
}

#[test]
fn what_is_returned_unasked_is_asked_for() {
    let mut grantor = grantor(None);
    assert!(grant(&mut grantor, 0, 1, (ino(1), A)));
    let unasked = Event::Returned(session(1), 0, vec![(ino(1), A), (ino(2), A)]);
    let asked = grantor.step(at(1), unasked);
    assert_eq!(asked, [Action::Recall(session(1), 1, vec![(ino(1), A)])]);
    assert!(!grant(&mut grantor, 1, 1, (ino(1), A)));
    grantor.step(at(1), Event::Returned(session(1), 1, vec![(ino(1), A)]));
    assert!(grantor.is_idle());
}

#[test]
fn the_victim_of_a_name_is_asked_for_from_its_changer_too() {
    let mut grantor = grantor(None);
    assert!(grant(&mut grantor, 0, 1, (ino(1), A)) && grant(&mut grantor, 0, 1, (ino(9), D)));
    assert_eq!(grantor.step(at(1), change(7, 1, &[(ino(9), D | A)])), [Action::Admit(7)]);
    let found = Event::Extend { id: 7, touches: vec![(ino(1), A), (ino(9), A)] };
    let asked = grantor.step(at(1), found);
    assert_eq!(asked, [Action::Recall(session(1), 1, vec![(ino(1), A)])]);
    let answer = Event::Returned(session(1), 1, vec![(ino(1), A)]);
    assert_eq!(grantor.step(at(1), answer), [Action::Admit(7)]);
}

#[test]
fn changes_of_one_directory_take_turns() {
    let mut grantor = grantor(None);
    let [p, q] = [(ino(1), D | A), (ino(2), D | A)];
    assert_eq!(grantor.step(at(0), change(1, 1, &[p])), [Action::Admit(1)]);
    assert_eq!(grantor.step(at(0), change(2, 2, &[q, p, p])), []);
    assert_eq!(grantor.step(at(0), change(3, 1, &[q])), []);
    assert_eq!(grantor.step(at(0), change(4, 1, &[(ino(1), A)])), [Action::Admit(4)]);
    // It removes directory 2, in which others wait for their turn behind it.
    let found = Event::Extend { id: 1, touches: vec![q] };
    assert_eq!(grantor.step(at(0), found), [Action::Admit(1)], "it waits for no other change");
    assert_eq!(grantor.step(at(0), Event::Done(1)), [Action::Admit(2)]);
    assert_eq!(grantor.step(at(0), Event::Done(2)), [Action::Admit(3)]);
    grantor.step(at(0), Event::Done(3));
    grantor.step(at(0), Event::Done(4));
    assert!(grantor.is_idle());
}

#[test]
fn who_is_silent_lapses_and_who_talks_without_answering_is_cut() {
    let mut grantor = grantor(None);
    assert!(grant(&mut grantor, 0, 1, (ino(1), A)) && grant(&mut grantor, 0, 2, (ino(1), A)));
    grantor.step(at(1), Event::Change { id: 7, session: None, touches: vec![(ino(1), A)] });
    grantor.step(at(7), Event::Heard(session(2)));
    assert_eq!(grantor.step(at(7), Event::Tick), [Action::Cut(session(2))]);
    assert_eq!(grantor.step(at(10), Event::Tick), [], "the first has lapsed");
    // It may be answered while it is being cut, and then counts from there.
    grantor.step(at(12), Event::Heard(session(2)));
    assert_eq!(grantor.step(at(17), Event::Tick), []);
    assert!(!grant(&mut grantor, 17, 2, (ino(2), A)), "it is cut");
    assert_eq!(grantor.step(at(22), Event::Tick), [Action::Admit(7)]);
}

#[test]
fn a_greeting_frees_what_its_client_forgot() {
    let mut grantor = grantor(None);
    assert!(grant(&mut grantor, 0, 1, (ino(1), A)));
    grantor.step(at(1), change(7, 2, &[(ino(1), A)]));
    assert_eq!(grantor.step(at(1), Event::Attached(session(1))), [Action::Admit(7)]);
}

#[test]
fn grace_ends_with_the_last_greeting_or_in_time() {
    let event = || change(7, 1, &[(ino(1), A)]);
    let grace = |awaited: &[u64]| Grace { awaited: awaited.iter().copied().collect(), until: TERM };
    let mut known = grantor(Some(grace(&[5, 6])));
    assert_eq!(known.step(at(0), event()), []);
    assert_eq!(known.step(at(0), Event::Greeted(5)), []);
    assert_eq!(known.step(at(0), Event::Greeted(6)), [Action::Admit(7)]);
    let mut unknown = grantor(Some(grace(&[])));
    assert_eq!(unknown.step(at(0), event()), []);
    assert_eq!(unknown.step(at(0), Event::Greeted(6)), [], "it is not known who else there is");
    assert_eq!(unknown.step(at(9), Event::Tick), []);
    assert_eq!(unknown.step(at(10), Event::Tick), [Action::Admit(7)]);
}

#[test]
fn what_a_session_holds_is_bounded_and_restless_files_are_not_leased() {
    let mut grantor = grantor(None);
    let granted = (1..=4).filter(|number| grant(&mut grantor, 0, 1, (ino(*number), A))).count();
    assert_eq!((granted, grantor.len()), (3, 3));
    for id in 0..=u64::from(RESTLESS) {
        assert!(grant(&mut grantor, 0, 2, (ino(1), A)), "{id}");
        grantor.step(at(0), change(id, 1, &[(ino(1), A)]));
        grantor.step(at(0), Event::Returned(session(2), id + 1, vec![(ino(1), A)]));
        grantor.step(at(0), Event::Done(id));
    }
    assert!(!grant(&mut grantor, 0, 2, (ino(1), A)));
    grantor.step(at(2), Event::Tick);
    assert!(grant(&mut grantor, 2, 2, (ino(1), A)));
}

#[test]
fn when_anything_may_have_changed_all_is_asked_for() {
    let mut grantor = grantor(None);
    assert!(grant(&mut grantor, 0, 1, (ino(1), A)) && grant(&mut grantor, 0, 1, (ino(2), D)));
    let reading = grantor.begin_reading();
    let asked = grantor.step(at(1), Event::Overflowed);
    assert_eq!(asked, [Action::Recall(session(1), 1, vec![(ino(1), A), (ino(2), D)])]);
    let given = grantor.grant(at(1), session(2), reading, None, &[(ino(3), A)]);
    assert_eq!(given[..], [Leases::empty()]);
    assert_eq!(grantor.step(at(1), Event::Overflowed), [], "it was asked for already");
}

#[test]
fn who_holds_and_who_waits_can_be_asked() {
    let mut grantor = grantor(Some(Grace { awaited: [5].into(), until: TERM }));
    assert_eq!(grantor.grace_until(), Some(TERM));
    grantor.step(at(0), Event::Greeted(5));
    assert_eq!(grantor.grace_until(), None);
    assert!(grant(&mut grantor, 0, 1, (ino(1), A)));
    grantor.step(at(2), Event::Heard(session(1)));
    grantor.step(at(3), change(7, 2, &[(ino(1), A)]));
    let held = grantor.holders_of(ino(1));
    assert_eq!((held[0].session, held[0].leases), (session(1), A));
    assert_eq!((held[0].since, held[0].asked), (Some(at(0)), Some(at(3))));
    assert_eq!(grantor.heard(session(1)), Some(at(2)));
    assert_eq!(grantor.changes_of(ino(1)), [(7, Some(session(2)), A, false)]);
    grantor.step(at(4), Event::Returned(session(1), 1, vec![(ino(1), A)]));
    assert_eq!(grantor.changes_of(ino(1)), [(7, Some(session(2)), A, true)]);
    grantor.step(at(4), Event::Done(7));
    assert_eq!(grantor.changes_of(ino(1)), []);
}
