//! Tests of the decision, one aim each.

use super::*;
use crate::load::{Load, Mebibytes, Pressure, Speed};
use crate::membership::Tag;
use crate::types::NodeId;

/// A node with two processors at the yardstick, 8 GiB, idle, known one second ago.
fn node(n: u8) -> NodeLoad {
    let load = Load {
        processors: 2_000,
        speed: Speed::YARDSTICK,
        running: 0,
        memory_total: Mebibytes(8_192),
        memory_free: Mebibytes(6_000),
        swap_total: Mebibytes(1_024),
        swap_free: Mebibytes(1_024),
        pressure: Pressure::default(),
        jobs: 0,
        guests: 0,
        flags: NodeFlags::empty(),
    };
    let id = NodeId::from_digest([n; 32]);
    let name = format!("n{n}").parse().unwrap();
    NodeLoad { tag: Tag::of(id), id, name, load, age: Duration::from_secs(1), alive: true }
}

fn changed(n: u8, change: impl FnOnce(&mut Load)) -> NodeLoad {
    let mut node = node(n);
    change(&mut node.load);
    node
}

fn running(n: u8, running: u32) -> NodeLoad {
    changed(n, |load| load.running = running)
}

/// A job of n1 that has computed for ten minutes, and gets half of a processor.
fn job(number: u64) -> Movable {
    Movable {
        id: JobId { home: "n1".parse().unwrap(), number },
        cpu: 500,
        resident: 50 << 20,
        traffic: vec![],
        age: Duration::from_secs(600),
        moved: None,
        migrations: 0,
        held: None,
    }
}

/// What n1 decides at its turn.
fn decided(nodes: &[NodeLoad], jobs: &[Movable]) -> Option<Move> {
    let view = ClusterLoad::new(node(1).tag, nodes.iter().cloned());
    decide(&Rules { turn: 1.0, ..Rules::default() }, &view, jobs, 7)
}

fn told(step: Option<Move>) -> String {
    step.map_or_else(String::new, |step| format!("{} to {}: {}", step.job, step.to, step.reason))
}

#[test]
fn a_crowded_node_sends_a_job_to_a_free_processor() {
    let step = decided(&[running(1, 4_000), node(2)], &[job(1)]);
    assert_eq!(told(step), "n1.1 to n2: node n2 has a free processor");
    let step = decided(&[running(1, 8_000), running(2, 3_000)], &[Movable { cpu: 250, ..job(1) }]);
    assert_eq!(told(step), "n1.1 to n2: node n2 is less busy");
}

#[test]
fn nothing_is_moved_where_nothing_is_gained() {
    assert_eq!(decided(&[running(1, 2_000), node(2)], &[job(1)]), None, "it has a processor");
    assert_eq!(decided(&[running(1, 4_000), running(2, 3_000)], &[job(1)]), None, "4 and 3 + 1");
    assert_eq!(decided(&[running(1, 4_000), node(2)], &[]), None);
    assert_eq!(decided(&[running(1, 4_000)], &[job(1)]), None);
    let asleep = Movable { cpu: 10, ..job(1) };
    assert_eq!(decided(&[running(1, 4_000), node(2)], &[asleep]), None, "it does not compute");
}

#[test]
fn a_faster_node_is_an_aim_by_itself() {
    let fast = changed(2, |load| load.speed = Speed::new(20_000).unwrap());
    let computing = Movable { cpu: 1_000, ..job(1) };
    let step = decided(&[running(1, 1_000), fast], std::slice::from_ref(&computing));
    assert_eq!(told(step), "n1.1 to n2: node n2 is faster");
    let little = changed(2, |load| load.speed = Speed::new(11_500).unwrap());
    assert_eq!(decided(&[running(1, 1_000), little], &[computing]), None);
}

#[test]
fn the_young_the_restless_and_the_heavy_stay() {
    let nodes = [running(1, 4_000), node(2)];
    let seconds = Duration::from_secs;
    let stays =
        |job: Movable| assert_eq!(decided(&nodes, std::slice::from_ref(&job)), None, "{job:?}");
    stays(Movable { age: seconds(4), ..job(1) });
    stays(Movable { moved: Some(seconds(19)), migrations: 1, ..job(1) });
    stays(Movable { moved: Some(seconds(79)), migrations: 3, ..job(1) });
    // Five GiB take 52 s, and it is not expected to live for so long that it would pay.
    stays(Movable { resident: 5 << 30, age: seconds(100), ..job(1) });
    stays(Movable { held: Some("it was locked".to_owned()), ..job(1) });
    assert!(
        decided(&nodes, &[Movable { moved: Some(seconds(81)), migrations: 3, ..job(1) }]).is_some()
    );
    assert!(decided(&nodes, &[Movable { resident: 5 << 30, ..job(1) }]).is_some());
}

#[test]
fn a_node_that_is_about_to_swap_sends_the_smallest_relief_away_at_once() {
    let short = changed(1, |load| load.memory_free = Mebibytes(300));
    let sized = |number, mib: u64| Movable {
        resident: mib << 20,
        age: Duration::from_secs(1),
        cpu: 0,
        ..job(number)
    };
    let jobs = [sized(1, 2_000), sized(2, 700), sized(3, 100)];
    assert_eq!(
        told(decided(&[short.clone(), node(2)], &jobs)),
        "n1.2 to n2: node n1 is about to swap"
    );
    assert_eq!(
        told(decided(&[short.clone(), node(2)], &jobs[2..])),
        "n1.3 to n2: node n1 is about to swap"
    );
    // Who has no memory either gets nobody.
    let full = changed(2, |load| load.memory_free = Mebibytes(900));
    assert_eq!(decided(&[short.clone(), full], &jobs[..2]), None);
    let moved = Movable { moved: Some(Duration::from_secs(5)), ..sized(2, 700) };
    assert_eq!(decided(&[short, node(2)], &[moved]), None);
    let pressed = changed(1, |load| {
        load.memory_free = Mebibytes(700);
        load.swap_free = Mebibytes(500);
        load.pressure.memory = 2_000;
    });
    assert!(decided(&[pressed, node(2)], &jobs).is_some());
}

#[test]
fn a_job_goes_to_its_data() {
    let reading = |rate: u64| Movable {
        traffic: vec![("n3".parse().unwrap(), rate), ("n1".parse().unwrap(), 5 << 20)],
        cpu: 200,
        ..job(1)
    };
    let nodes = [running(1, 500), node(2), node(3)];
    assert_eq!(told(decided(&nodes, &[reading(60 << 20)])), "n1.1 to n3: its data is on n3");
    assert_eq!(decided(&nodes, &[reading(5 << 20)]), None, "too little to move for");
    // A processor of its own is worth less than the data.
    let busy = [running(1, 500), node(2), running(3, 30_000)];
    assert_eq!(decided(&busy, &[reading(60 << 20)]), None);
}

#[test]
fn what_administrators_want_goes_first() {
    let blocked = |n| changed(n, |load| load.flags = NodeFlags::BLOCKED);
    let crowded = |flags| {
        changed(1, |load| {
            load.running = 8_000;
            load.flags = flags;
        })
    };
    let none = NodeFlags::empty();
    assert_eq!(decided(&[crowded(none), blocked(2)], &[job(1)]), None);
    let of_n2 = Movable { id: "n2.5".parse().unwrap(), ..job(1) };
    assert_eq!(
        told(decided(&[crowded(none), blocked(2)], std::slice::from_ref(&of_n2))),
        "n2.5 to n2: node n2 has a free processor"
    );
    assert_eq!(decided(&[crowded(NodeFlags::STAY), node(2)], &[job(1)]), None);
    // Guests go, even if nobody but their home takes them; the node's own jobs stay.
    let wanted = crowded(NodeFlags::GUESTS_GO | NodeFlags::BLOCKED);
    let step = decided(&[wanted.clone(), blocked(2)], &[job(1), of_n2.clone()]);
    assert_eq!(told(step), "n2.5 to n2: node n1 is needed by its own users");
    let step = decided(&[wanted.clone(), running(2, 9_000), node(3)], &[of_n2]);
    assert_eq!(told(step), "n2.5 to n3: node n1 is needed by its own users");
    assert_eq!(decided(&[wanted, node(3)], &[job(1)]), None);
}

#[test]
fn a_node_does_not_decide_at_every_turn_nor_all_alike() {
    let view = ClusterLoad::new(node(1).tag, [running(1, 9_000), node(2), node(3)]);
    let rules = Rules::default();
    let steps: Vec<_> =
        (0..200).filter_map(|seed| decide(&rules, &view, &[job(1)], seed)).collect();
    assert!((60..140).contains(&steps.len()), "{} of 200 turns", steps.len());
    let to = |name: &str| steps.iter().filter(|step| step.to.as_str() == name).count();
    assert!(to("n2") > 10 && to("n3") > 10, "{} and {}", to("n2"), to("n3"));
}

#[test]
fn of_two_that_choose_one_target_it_takes_the_second_only_if_that_gains() {
    let step = decided(&[running(1, 4_000), running(2, 1_000)], &[job(1)]).expect("it is crowded");
    let (mut admission, now) = (Admission::default(), Duration::from_secs(100));
    let own = running(2, 1_000).load;
    assert_eq!(admission.admit(&own, step.asks, false, now), Ok(()));
    assert_eq!(admission.admit(&own, step.asks, false, now), Ok(()), "two of three are a gain");
    assert_eq!(admission.admit(&own, step.asks, false, now), Err(Refusal::Busy));
    let later = now + Duration::from_secs(6);
    assert_eq!(admission.admit(&own, step.asks, false, later), Ok(()), "they are measured by now");
    let blocked = Load { flags: NodeFlags::BLOCKED, ..own };
    assert_eq!(admission.admit(&blocked, step.asks, false, later), Err(Refusal::Blocked));
    let asks = Asks { least_pace: 0.0, ..step.asks };
    assert_eq!(admission.admit(&blocked, asks, true, later), Ok(()), "it comes home");
    let full = Load { memory_free: Mebibytes(440), ..own };
    assert_eq!(Admission::default().admit(&full, asks, false, later), Err(Refusal::Memory));
}

#[test]
fn who_has_just_gone_is_not_counted_here_but_there() {
    let nodes = [running(1, 6_000), node(2)];
    let view = ClusterLoad::new(nodes[0].tag, nodes);
    let step = decided(view.nodes(), &[job(1)]).expect("it is crowded");
    assert_eq!(step.asks.demand, 1_500);
    let (mut departures, now) = (Departures::default(), Duration::from_secs(100));
    departures.note(&step, now);
    let loads = |later| {
        let seen = departures.seen(&view, now + Duration::from_secs(later));
        ["n1", "n2"].map(|name| {
            let node = seen.nodes().iter().find(|node| node.name.as_str() == name).unwrap();
            (node.load.running, node.load.memory_free.0)
        })
    };
    assert_eq!(loads(2), [(4_500, 6_050), (1_500, 5_950)]);
    assert_eq!(loads(7), [(6_000, 6_000), (0, 6_000)], "it is measured by now");
}
