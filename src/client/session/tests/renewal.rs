//! What the session says of leases: when a term is extended, and when it is renewed.

use std::time::Duration;

use super::model::{World, file};
use crate::client::session::{Event, Lane};
use crate::types::op::Lookup;
use crate::types::{FileName, Leases};
use crate::wire::features;

fn lookup() -> Lookup {
    Lookup {
        parent: file("root"),
        name: FileName::parse(&b"x"[..]).expect("a good name"),
        keep: false,
    }
}

/// A world with both connections up, whose server grants leases.
fn leasing() -> World {
    let mut world = World::new();
    world.server.features = features::LEASES;
    world.server.leases = Leases::DIRECTORY;
    world.run_dry();
    world
}

fn pass(world: &mut World, ms: u64) {
    world.now += Duration::from_millis(ms);
}

#[test]
fn an_answer_extends_from_when_its_request_was_sent() {
    let mut world = leasing();
    pass(&mut world, 5_000);
    let sent = world.boot();
    let id = world.submit(lookup());
    pass(&mut world, 3_000);
    world.run_dry();
    assert_eq!(world.extended, [sent]);
    assert_eq!(world.leases[&id], Leases::DIRECTORY);
}

#[test]
fn a_request_that_is_sent_again_extends_from_the_first_time() {
    let mut world = leasing();
    let first = world.boot();
    world.submit(lookup());
    world.cut(Lane::Control);
    pass(&mut world, 3_000);
    world.run_dry();
    assert_eq!(world.extended, [first]);
}

#[test]
fn a_refusal_extends_nothing() {
    let mut world = leasing();
    world.submit(lookup());
    world.server.epoch += 1;
    world.serve(Lane::Control);
    world.hear(Lane::Control);
    assert!(world.extended.is_empty());
}

#[test]
fn a_renewal_is_due_a_fifth_of_the_term_after_the_last_request() {
    let mut world = leasing();
    pass(&mut world, 1_000);
    world.submit(lookup());
    world.run_dry();
    assert_eq!(world.session.renewal_due(), Some(world.boot() + Duration::from_secs(2)));
    world.step(Event::Renew);
    assert!(world.renewals.is_empty(), "it is not due yet");
    pass(&mut world, 2_000);
    let sent = world.boot();
    world.step(Event::Renew);
    assert_eq!(world.renewals.len(), 1);
    assert!(world.session.awaits_answer());
    pass(&mut world, 500);
    let id = world.renewals[0];
    world.answer_renewal(id);
    assert_eq!(world.extended.last(), Some(&sent));
    assert!(!world.session.awaits_answer());
    world.cut(Lane::Control);
    assert_eq!(world.session.renewal_due(), None, "there is nobody to renew at");
}

#[test]
fn without_the_feature_nothing_is_renewed() {
    let mut world = World::new();
    world.run_dry();
    assert_eq!(world.session.renewal_due(), None);
}
