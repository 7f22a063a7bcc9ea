//! Nodes that are dead, silent, restarting, removed or idle; and that none delays another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::testing::network::{Door, Network, member};
use crate::client::testing::server::file;
use crate::client::{Patience, Peers, PeersConfig};
use crate::membership::{MemberState, View};
use crate::types::op::{GetAttr, LockFamily, LockKind, LockRange, Open, Read, SetLock, Taking};
use crate::types::{Access, Caller, Errno, LockOwner, NodeId, OpenFlags, OpenId};

struct World {
    peers: Arc<Peers>,
    network: Arc<Network>,
    view: watch::Sender<View>,
}

impl World {
    fn new(nodes: u8) -> Self {
        let (network, view) = Network::new(nodes);
        let peers =
            Peers::new(PeersConfig::new(), Arc::clone(&network) as Arc<_>, view.subscribe());
        Self { peers: Arc::new(peers), network, view }
    }

    fn id(&self, number: u8) -> NodeId {
        self.network.node(number).id
    }

    /// One small request.
    async fn ask(&self, number: u8, patience: &Patience) -> Result<(), Errno> {
        let call = GetAttr { file: file("f"), open: None };
        self.peers.call(self.id(number), &Caller::root(), call, patience).await.map(drop)
    }

    async fn open(&self, number: u8) -> OpenId {
        let open = self.peers.new_open(self.id(number));
        let flags = OpenFlags::empty();
        let call = Open { file: file("f"), open, access: Access::ReadWrite, flags, proof: None };
        self.peers
            .call(self.id(number), &Caller::root(), call, &Patience::default())
            .await
            .expect("the node is there");
        open
    }

    fn set_state(&self, number: u8, state: MemberState) {
        let id = self.id(number);
        self.view.send_modify(|view| {
            let members = view.members().to_vec();
            let others = members.into_iter().filter(|m| m.id != id);
            *view = View::new(view.me(), others.chain([member(id, state)]).collect::<Vec<_>>());
        });
    }
}

static SOFT: Patience = Patience::soft(Duration::from_secs(30));

fn hard(interrupted: &Arc<AtomicBool>) -> Patience {
    let flag = Arc::clone(interrupted);
    Patience {
        hard: true,
        interrupted: Some(Arc::new(move || flag.load(Ordering::Relaxed))),
        ..SOFT
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_declared_dead_fails_at_once_and_works_when_it_is_back() {
    let world = World::new(1);
    world.set_state(1, MemberState::Dead);
    let before = Instant::now();
    assert_eq!(world.ask(1, &SOFT).await, Err(Errno::HostDown));
    assert_eq!(before.elapsed(), Duration::ZERO);
    world.set_state(1, MemberState::Alive);
    assert_eq!(world.ask(1, &SOFT).await, Ok(()));
    world.set_state(1, MemberState::Left);
    assert_eq!(world.ask(1, &SOFT).await, Err(Errno::HostDown));
    world.set_state(1, MemberState::Alive);
    assert_eq!(world.ask(1, &SOFT).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_node_ends_when_it_is_declared_dead() {
    let world = World::new(1);
    world.ask(1, &SOFT).await.unwrap();
    world.network.node(1).hang(true);
    let before = Instant::now();
    let (waiting, ()) = tokio::join!(world.ask(1, &SOFT), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.set_state(1, MemberState::Dead);
    });
    assert_eq!(waiting, Err(Errno::HostDown));
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    world.network.node(1).hang(false);
    world.set_state(1, MemberState::Alive);
    assert_eq!(world.ask(1, &SOFT).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_called_dead_for_a_blink_while_it_answers_is_used_on() {
    let world = World::new(1);
    world.ask(1, &SOFT).await.unwrap();
    world.set_state(1, MemberState::Dead);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.ask(1, &SOFT).await, Ok(()));
    world.set_state(1, MemberState::Alive);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.ask(1, &SOFT).await, Ok(()));
    assert_eq!(*world.network.node(1).dialled.lock(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_fails_after_one_attempt_then_at_once_and_is_noticed_when_it_is_back() {
    let world = World::new(1);
    world.network.node(1).set_door(Door::Silent);
    let before = Instant::now();
    assert_eq!(world.ask(1, &SOFT).await, Err(Errno::HostDown));
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    let before = Instant::now();
    assert_eq!(world.ask(1, &SOFT).await, Err(Errno::HostDown));
    assert_eq!(before.elapsed(), Duration::ZERO);
    world.network.node(1).set_door(Door::Open);
    tokio::time::sleep(Duration::from_secs(5)).await; // the tries in between take longer waits
    assert_eq!(world.ask(1, &SOFT).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_falls_silent_is_noticed_by_what_waits_for_it() {
    let world = World::new(1);
    world.ask(1, &SOFT).await.unwrap();
    world.network.node(1).set_door(Door::Silent);
    let before = Instant::now();
    assert_eq!(world.ask(1, &SOFT).await, Err(Errno::HostDown));
    // In memory there is no TCP that would give up sooner: keepalive, and one attempt to connect.
    assert!(before.elapsed() < Duration::from_secs(6), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_restarts_is_waited_for() {
    let world = World::new(1);
    world.ask(1, &SOFT).await.unwrap();
    let node = world.network.node(1);
    node.set_door(Door::Refuses);
    node.restart();
    let (answer, ()) = tokio::join!(world.ask(1, &SOFT), async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        node.set_door(Door::Open);
    });
    assert_eq!(answer, Ok(()));
    // But not for longer than the caller has patience.
    node.set_door(Door::Refuses);
    node.restart();
    let before = Instant::now();
    assert_eq!(world.ask(1, &SOFT).await, Err(Errno::TimedOut));
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_takes_connections_and_says_nothing_ends_at_the_deadline() {
    let world = World::new(1);
    world.network.node(1).set_door(Door::Mute);
    let before = Instant::now();
    assert_eq!(world.ask(1, &SOFT).await, Err(Errno::TimedOut));
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn hard_waits_for_ever_and_can_be_killed() {
    let world = World::new(1);
    let node = world.network.node(1);
    for away in [Door::Silent, Door::Refuses] {
        node.set_door(away);
        node.cut();
        let killed = Arc::new(AtomicBool::new(false));
        let patience = hard(&killed);
        let before = Instant::now();
        let (answer, ()) = tokio::join!(world.ask(1, &patience), async {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            killed.store(true, Ordering::Relaxed);
        });
        assert_eq!(answer, Err(Errno::Intr));
        assert!(before.elapsed() < Duration::from_secs(3_601));
    }
    let patience = hard(&Arc::default());
    let (answer, ()) = tokio::join!(world.ask(1, &patience), async {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        node.set_door(Door::Open);
    });
    assert_eq!(answer, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn reads_that_wait_for_a_node_that_is_cut_off_do_not_delay_those_of_another() {
    let world = World::new(2);
    let (cut_off, other) = (world.open(1).await, world.open(2).await);
    let read = |open| Read { open, offset: 0, size: 1, pages: false };
    let caller = Caller::root();
    world.peers.call(world.id(2), &caller, read(other), &SOFT).await.unwrap();
    world.network.node(1).hang(true);
    let mut pending = JoinSet::new();
    for _ in 0..200 {
        let (peers, id) = (Arc::clone(&world.peers), world.id(1));
        pending.spawn(async move {
            peers.call(id, &Caller::root(), read(cut_off), &SOFT).await.map(drop)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.network.node(1).set_door(Door::Silent);
    let before = Instant::now();
    world.peers.call(world.id(2), &caller, read(other), &SOFT).await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(10), "{:?}", before.elapsed());
    while let Some(answer) = pending.join_next().await {
        assert_eq!(answer.unwrap(), Err(Errno::HostDown));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_waited_for_beyond_the_timeout_until_it_is_free_or_the_caller_is_killed() {
    let world = World::new(1);
    let open = world.open(1).await;
    let lock = SetLock {
        open,
        owner: LockOwner(1),
        family: LockFamily::Range,
        kind: LockKind::Exclusive,
        range: LockRange::ALL,
        wait: true,
        taking: Taking::default(),
    };
    let server = || world.network.node(1).server.lock();
    server().foreign_locks.insert(open);
    let caller = Caller::root();
    let killed = Arc::new(AtomicBool::new(false));
    let patience = hard(&killed);
    let locking = world.peers.call(world.id(1), &caller, lock.clone(), &patience);
    let (answer, ()) = tokio::join!(locking, async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        killed.store(true, Ordering::Relaxed);
    });
    assert_eq!(answer, Err(Errno::Intr));
    let locking = world.peers.call(world.id(1), &caller, lock, &SOFT);
    let (answer, ()) = tokio::join!(locking, async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        server().foreign_locks.clear();
    });
    assert_eq!(answer, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_client_is_said_to_its_nodes() {
    let world = World::new(2);
    world.open(1).await;
    world.ask(2, &SOFT).await.unwrap();
    world.network.node(2).set_door(Door::Silent);
    let before = Instant::now();
    world.peers.end().await;
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    assert!(world.network.node(1).server.lock().opens.is_empty());
    world.ask(1, &SOFT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_end_when_idle_and_stay_while_something_is_open() {
    let world = World::new(1);
    world.ask(1, &SOFT).await.unwrap();
    let dialled = || *world.network.node(1).dialled.lock();
    tokio::time::sleep(Duration::from_secs(100)).await;
    world.ask(1, &SOFT).await.unwrap();
    assert_eq!(dialled(), 2, "the idle connection was cut, and another made");
    let _open = world.open(1).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    world.ask(1, &SOFT).await.unwrap();
    assert_eq!(dialled(), 2);
    // While something is open, a broken connection is made again although nobody asks.
    world.network.node(1).cut();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(dialled(), 3);
}
