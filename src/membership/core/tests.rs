//! Tests of `Core` by itself: what it takes and what it keeps.

use super::*;
use crate::membership::{Admitted, GossipKey, MemberState};
use crate::types::{NodeName, NodeNumber};

const HOUR: Duration = Duration::from_secs(3_600);

fn admitted(n: u8) -> Admitted {
    Admitted {
        id: NodeId::from_digest([n; 32]),
        name: NodeName::parse(&format!("n{n}")).unwrap(),
        number: NodeNumber::new(n.into()).unwrap(),
        addresses: vec![address(n)],
    }
}

fn address(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7230).into()
}

fn at(elapsed: Duration) -> Moment {
    Moment { elapsed, unix: 1_800_000_000 + elapsed.as_secs() }
}

/// The node `n` of a cluster of three, which begins now.
fn core(n: u8, epoch: u32) -> Core {
    let settings = CoreSettings {
        me: admitted(n).id,
        epoch,
        keys: Keyring::new(GossipKey::new(1, &[42; 32]), None),
        roster: Roster::new([1, 2, 3].map(admitted), []),
        addresses: vec![address(n)],
        version: "1".to_owned(),
        remembered: vec![],
        random: n.into(),
    };
    Core::new(settings, at(Duration::ZERO))
}

/// How a peer sees the node `n`.
fn seen(n: u8, epoch: u32, state: MemberState) -> Member {
    let Admitted { id, name, number, addresses } = admitted(n);
    let incarnation = Endpoint::first_incarnation(epoch);
    Member { id, name, number, addresses, state, since: 0, incarnation, version: "1".to_owned() }
}

/// What the node wants sent to another.
fn sent(core: &mut Core, to: u8) -> Vec<Vec<u8>> {
    let mut datagrams = vec![];
    while let Some(action) = core.next_action() {
        if let Action::Send { to: address, datagram } = action
            && address == self::address(to)
        {
            datagrams.push(datagram);
        }
    }
    datagrams
}

/// A call that the node 2 sent to the node 1 in the run with this epoch.
fn call(epoch: u32) -> Vec<u8> {
    let mut sender = core(2, epoch);
    sender.step(at(Duration::ZERO), Event::Tick);
    sent(&mut sender, 1).swap_remove(0)
}

/// Whether the node 1 answers the call of the node 2.
fn answers(core: &mut Core, now: Duration, datagram: &[u8]) -> bool {
    core.step(at(now), Event::Tick);
    sent(core, 2);
    core.step(at(now), Event::Datagram { from: address(2), bytes: datagram.to_vec() });
    core.active() > 0
}

#[test]
fn a_datagram_of_a_run_that_is_known_to_be_over_is_not_taken() {
    for state in [MemberState::Alive, MemberState::Dead] {
        let mut receiver = core(1, 9);
        receiver.step(at(Duration::ZERO), Event::Learnt([seen(2, 6, state)].into()));
        let mut now = Duration::ZERO;
        // It never answers, so it is taken for dead soon, and forgotten by the detector after a day.
        while now < HOUR / 60 {
            now += Duration::from_millis(100);
            receiver.step(at(now), Event::Tick);
            sent(&mut receiver, 2);
        }
        for later in [Duration::ZERO, HOUR, 30 * HOUR] {
            let taken = answers(&mut receiver, now + later, &call(5));
            assert!(!taken, "{state:?}, later by {later:?}");
        }
        let forgotten = receiver.endpoint_of(Tag::of(admitted(2).id)).is_none();
        assert!(forgotten, "the detector itself knows nothing of it any more");
        assert!(answers(&mut receiver, now + 30 * HOUR, &call(7)), "a later run is taken");
    }
}

#[test]
fn a_rush_leaves_no_room_behind() {
    let mut receiver = core(1, 9);
    receiver.actions.reserve(10_000);
    receiver.outbox.notes.reserve(10_000);
    receiver.step(at(Duration::ZERO), Event::Learnt([seen(2, 6, MemberState::Alive)].into()));
    assert_eq!(receiver.active(), 1);
    assert!(receiver.next_action().is_some());
    sent(&mut receiver, 2);
    assert!(receiver.actions.capacity() <= 2 * ROOM_KEPT);
    assert!(receiver.outbox.notes.capacity() <= 2 * ROOM_KEPT);
}

/// Where everybody has moved, only the seeds are right: they are asked as often as members, each in its turn.
#[test]
fn a_node_that_hears_nobody_asks_its_seeds_in_turn_with_members() {
    let mut alone = core(1, 9);
    let seeds = [address(7), address(8)];
    alone.step(at(Duration::ZERO), Event::Seeds(seeds.to_vec()));
    let mut asked = vec![];
    for second in 0..60 {
        alone.step(at(Duration::from_secs(second)), Event::Tick);
        let mut failed = false;
        while let Some(action) = alone.next_action() {
            if let Action::Exchange { address, peer } = action {
                assert_eq!(peer.is_none(), seeds.contains(&address));
                asked.push(address);
                failed = true;
            }
        }
        if failed {
            alone.step(at(Duration::from_secs(second)), Event::ExchangeEnded { succeeded: false });
        }
    }
    assert!(asked.len() >= 6, "{asked:?}");
    // The first question went out before the seeds' names had addresses.
    for (place, address) in asked.iter().enumerate().skip(1) {
        let of_members = place % 2 == 1;
        assert_eq!(!of_members, seeds.contains(address), "{asked:?}");
        assert!(of_members || *address == seeds[place / 2 % 2], "{asked:?}");
    }
}

/// What the node is told of loads, if it takes the datagram.
fn told(core: &mut Core, from: u8, datagram: &[u8]) -> Vec<Vec<u8>> {
    let event = Event::Datagram { from: address(from), bytes: datagram.to_vec() };
    core.step(at(Duration::ZERO), event);
    let mut told = vec![];
    while let Some(action) = core.next_action() {
        if let Action::Heard(message) = action {
            told.push(message);
        }
    }
    told
}

#[test]
fn loads_are_told_to_one_who_is_there_and_heard_once() {
    let [mut sender, mut receiver] = [core(2, 5), core(1, 9)];
    sender.step(at(Duration::ZERO), Event::Push(b"nobody is there".to_vec()));
    sent(&mut sender, 1);
    sender.step(at(Duration::ZERO), Event::Learnt([seen(1, 9, MemberState::Alive)].into()));
    sent(&mut sender, 1);
    sender.step(at(Duration::ZERO), Event::Push(b"so busy".to_vec()));
    let datagrams = sent(&mut sender, 1);
    let [datagram] = datagrams.as_slice() else { panic!("{} datagrams", datagrams.len()) };
    assert_eq!(told(&mut receiver, 2, datagram), [b"so busy"]);
    assert_eq!(told(&mut receiver, 2, datagram), <[Vec<u8>; 0]>::default(), "it is a replay");
}
