//! What a keeper of leases is told, and when: grants, recalls, lost connections, renewals.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::client::testing::network::{Fault, Network, Node};
use crate::client::testing::server::{entry, file};
use crate::client::{Answered, Keeper, LeaseKeeper, Patience, Peers, PeersConfig, SessionLeases};
use crate::clock;
use crate::lease::Holder;
use crate::membership::View;
use crate::sync::Mutex;
use crate::types::op::GetAttr;
use crate::types::{Attr, Caller, InodeNo, Leases, NodeId};
use crate::wire::{Leased, Recall, features};

/// Remembers the attributes of the one file that the model server has.
#[derive(Default)]
struct Memory {
    holder: Mutex<Holder>,
    /// How often what was remembered was to be forgotten.
    lost: Mutex<usize>,
    trusts_root: Mutex<Option<bool>>,
}

impl LeaseKeeper for Memory {
    fn wants(&self, _: NodeId) -> bool {
        true
    }

    fn began(&self, _: NodeId, session: &SessionLeases) {
        self.holder.lock().begin(session.term);
        *self.trusts_root.lock() = Some(session.trusts_root);
    }

    fn extended(&self, _: NodeId, now: Duration, sent: Duration) {
        let _lapsed = self.holder.lock().extend(now, sent);
    }

    fn recall(&self, _: NodeId, recall: &Recall) -> Vec<Leased> {
        let mut holder = self.holder.lock();
        recall.files.iter().for_each(|(ino, leases)| holder.recall(*ino, *leases));
        recall.files.clone()
    }

    fn lost(&self, _: NodeId) {
        self.holder.lock().forget();
        *self.lost.lock() += 1;
    }

    fn is_holding(&self, _: NodeId) -> bool {
        self.holder.lock().is_holding()
    }

    fn was_used(&self, _: NodeId) -> bool {
        false
    }
}

struct World {
    peers: Peers,
    node: Arc<Node>,
    memory: Arc<Memory>,
    _view: watch::Sender<View>,
}

fn ino() -> InodeNo {
    entry("x").attr.ino
}

impl World {
    fn new() -> Self {
        let (network, view) = Network::new(1);
        let node = Arc::clone(network.node(1));
        {
            let mut server = node.server.lock();
            server.features = features::LEASES;
            server.leases = Leases::ATTRIBUTES;
        }
        let memory = Arc::new(Memory::default());
        let keeper = Some(Keeper(Arc::clone(&memory) as Arc<_>));
        let config = PeersConfig { keeper, ..PeersConfig::new() };
        let peers = Peers::new(config, network, view.subscribe());
        Self { peers, node, memory, _view: view }
    }

    /// Asks for attributes, and remembers them if that is granted.
    async fn ask(&self) -> Answered<Attr> {
        let stamp = self.memory.holder.lock().stamp();
        let call = GetAttr { file: file("f"), open: None };
        let (root, patience) = (Caller::root(), Patience::default());
        let answer = self.peers.call_leased(self.node.id, &root, call, &patience).await;
        let now = clock::since_boot();
        self.memory.holder.lock().grant(now, stamp, ino(), answer.leases);
        answer
    }

    /// Asks twice: what was asked for before the greeting is not remembered.
    async fn hold(&self) {
        self.ask().await.result.unwrap();
        self.ask().await.result.unwrap();
        assert!(self.holds());
    }

    fn holds(&self) -> bool {
        self.memory.holder.lock().holds(clock::since_boot(), ino(), Leases::ATTRIBUTES)
    }

    async fn eventually(&self, what: impl Fn(&Self) -> bool) {
        while !what(self) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leases_come_with_answers_to_who_asked_for_them() {
    let world = World::new();
    world.hold().await;
    assert_eq!(world.ask().await.leases, Leases::ATTRIBUTES);
    assert_eq!(*world.memory.trusts_root.lock(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_leases_is_held_to_nothing() {
    let world = World::new();
    world.node.server.lock().features = 0;
    world.ask().await.result.unwrap();
    world.ask().await.result.unwrap();
    assert!(!world.holds(), "no session with leases began");
    assert_eq!(*world.memory.trusts_root.lock(), None);
}

#[tokio::test(start_paused = true)]
async fn a_recall_is_answered_when_what_it_takes_is_forgotten() {
    let world = World::new();
    world.hold().await;
    let id = world.node.recall(Leases::ATTRIBUTES);
    world.eventually(|world| !world.node.server.lock().returned.is_empty()).await;
    assert!(!world.holds());
    // What is not held is given back as well.
    let again = world.node.recall(Leases::DIRECTORY);
    world.eventually(|world| world.node.server.lock().returned.len() == 2).await;
    let returned: Vec<_> = world.node.server.lock().returned.clone();
    let ids: Vec<_> = returned.iter().map(|lease| lease.recall).collect();
    assert_eq!(ids, [id, again]);
    assert_eq!(returned[1].files, [(ino(), Leases::DIRECTORY)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_a_recall_is_not_remembered() {
    let world = World::new();
    world.hold().await;
    world.node.plan(0, Fault::RecallAfter);
    world.ask().await.result.unwrap();
    assert!(!world.holds());
    world.ask().await.result.unwrap();
    assert!(world.holds(), "what is asked for later is");
}

#[tokio::test(start_paused = true)]
async fn with_the_connection_everything_is_lost_and_a_recall_reaches_the_next_one() {
    let world = World::new();
    world.hold().await;
    world.node.cut();
    world.eventually(|world| *world.memory.lost.lock() == 1).await;
    assert!(!world.holds());
    world.hold().await;
    let id = world.node.recall(Leases::ATTRIBUTES);
    world.eventually(|world| !world.node.server.lock().returned.is_empty()).await;
    assert_eq!(world.node.server.lock().returned[0].recall, id);
    assert!(!world.holds());
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_server_and_the_end_of_the_session_lose_everything() {
    let world = World::new();
    world.hold().await;
    world.node.restart();
    world.eventually(|world| *world.memory.lost.lock() == 1).await;
    assert!(!world.holds());
    world.hold().await;
    world.peers.end().await;
    assert_eq!(*world.memory.lost.lock(), 2);
    assert!(!world.holds());
}

#[tokio::test(start_paused = true)]
async fn who_held_something_greets_a_restarted_server_unasked() {
    let world = World::new();
    world.hold().await;
    let before = *world.node.dialled.lock();
    world.node.restart();
    // A server that starts changes nothing until then.
    world.eventually(|world| *world.node.dialled.lock() > before).await;
    world.hold().await;
    // It goes when nothing is asked any more, and is not made again.
    let before = *world.node.dialled.lock();
    world.eventually(|world| *world.memory.lost.lock() == 2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*world.node.dialled.lock(), before);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_although_leases_are_held() {
    let world = World::new();
    world.hold().await;
    let before = *world.node.dialled.lock();
    world.eventually(|world| *world.memory.lost.lock() == 1).await;
    assert!(!world.holds());
    assert_eq!(*world.node.dialled.lock(), before, "and it is not made again for them");
}
