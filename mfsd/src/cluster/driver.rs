//! The driver of membership: gives `mfs::membership::Core` its events and does what it asks for, on a
//! thread of its own, so that nothing else the daemon does delays an answer to "are you there".
//!
//! Not here: decisions (`mfs::membership`), and how a member list is fetched ([`Exchange`]).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mfs::clock;
use mfs::membership::{
    Action, BEACON_LEN, Beacon, Core, Event, MAX_FRAME, Member, MemberState, Moment, SEAL_OVERHEAD,
    View,
};
use mfs::telemetry::metrics;
use mfs::types::NodeId;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use super::beacon::Beacons;
use super::discovery::{self, OwnAddresses, Watch};
use super::memory::Memory;
use super::publication::Publication;
use super::sockets::Sockets;

/// Longest time for an exchange of member lists.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);

/// Datagrams taken in one go before anything else has its turn.
const BATCH: usize = 64;

/// Priority of the thread, as nice(2): above what ordinary load there is. A node at its limits must not
/// be taken for dead.
const NICENESS: i32 = -10;

/// What an exchange brings: the members as the peer sees them.
pub(crate) type Exchanged<'a> =
    Pin<Box<dyn Future<Output = anyhow::Result<Vec<Member>>> + Send + 'a>>;

/// How the member list of a peer is fetched.
pub(crate) trait Exchange: Send + Sync + 'static {
    /// Fetches the member list of the node at this address (of `peer`, if given; else of any node of the
    /// cluster), merges it into this node's own, and answers with the members as the peer sees them.
    ///
    /// If the own list changed, `Membership::set_roster` has been called before this returns.
    fn exchange(&self, address: SocketAddr, peer: Option<NodeId>) -> Exchanged<'_>;
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Event(Event),
    /// The interfaces may have changed.
    Look,
    Leave(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// The state of the thread.
pub(super) struct Driver {
    pub(super) core: Core,
    pub(super) sockets: Sockets,
    pub(super) beacons: Option<Beacons>,
    pub(super) own: OwnAddresses,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) exchange: Arc<dyn Exchange>,
    /// The daemon's runtime: what may take long runs there.
    pub(super) daemon: Handle,
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
    pub(super) publication: Publication,
    pub(super) memory: Memory,
    /// To whom messages about loads go.
    pub(super) heard: mpsc::Sender<Vec<u8>>,
    pub(super) began: Instant,
}

// === impl Driver ===

impl Driver {
    /// Runs until it is told to stop; takes its thread for that.
    pub(super) fn run_on(
        self,
        runtime: &Runtime,
        orders: mpsc::UnboundedReceiver<Command>,
        seeds: Vec<String>,
    ) {
        // Of the calling thread alone, on Linux (setpriority(2), "C library/kernel differences").
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%error, "membership runs at ordinary priority");
        }
        let commands = self.commands.clone();
        runtime.spawn(watch_interfaces(commands.clone()));
        if !seeds.is_empty() {
            self.daemon.spawn(resolve_seeds(commands, self.publication.watch(), seeds));
        }
        runtime.block_on(self.run(orders));
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        if let Some(beacons) = &mut self.beacons {
            beacons.follow_interfaces(&self.sockets);
        }
        self.step(Event::Tick);
        loop {
            self.publish();
            let wake = self.next_wakeup();
            tokio::select! {
                () = self.sockets.readable() => self.receive(),
                command = orders.recv() => match command {
                    Some(Command::Event(event)) => self.step(event),
                    Some(Command::Look) => self.look(),
                    Some(Command::Leave(done)) => {
                        self.step(Event::Leave);
                        done.send(()).ok();
                    }
                    Some(Command::Stop(done)) => {
                        self.publication.end();
                        // The ports are free when the caller hears of it.
                        drop(self);
                        done.send(()).ok();
                        return;
                    }
                    None => return self.publication.end(),
                },
                () = tokio::time::sleep_until(wake.into()) => self.step(Event::Tick),
            }
        }
    }

    fn next_wakeup(&self) -> Instant {
        let alarm = self.core.next_alarm().map(|elapsed| self.began + elapsed);
        alarm
            .into_iter()
            .chain(self.publication.due())
            .min()
            .unwrap_or_else(|| clock::now() + RESOLVE_EVERY)
    }

    /// Takes the datagrams that have arrived.
    fn receive(&mut self) {
        let mut buffer = [0; MAX_FRAME + SEAL_OVERHEAD + 64];
        for _ in 0..BATCH {
            let Some((length, from)) = self.sockets.try_receive(&mut buffer) else { break };
            let bytes = &buffer[..length];
            match self.hear_beacon(bytes) {
                Some(Beacon::Here { node, address }) => {
                    metrics::BEACONS_RECEIVED.add_one();
                    self.step(Event::Beacon { node, address });
                }
                Some(Beacon::Query) => self.step(Event::BeaconQuery { from }),
                None => self.step(Event::Datagram { from, bytes: bytes.to_vec() }),
            }
        }
    }

    fn hear_beacon(&self, bytes: &[u8]) -> Option<Beacon> {
        let cluster = self.beacons.as_ref()?.cluster();
        if bytes.len() != BEACON_LEN {
            return None;
        }
        Beacon::decode(bytes, cluster, Some(self.core.keys()))
    }

    /// Gives the core an event and does what it asks for.
    fn step(&mut self, event: Event) {
        self.core.step(moment(self.began), event);
        while let Some(action) = self.core.next_action() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { to, datagram } => {
                if self.sockets.send(to, &datagram) {
                    metrics::GOSSIP_DATAGRAMS_SENT.add_one();
                    metrics::GOSSIP_SENT_BYTES.add(datagram.len() as u64);
                }
            }
            Action::Exchange { address, peer } => self.begin_exchange(address, peer),
            Action::Beacon => {
                if let Some(beacons) = &self.beacons {
                    beacons.send(&self.sockets, &self.addresses, self.core.keys());
                }
            }
            Action::BeaconTo(to) => {
                if let Some(beacons) = &self.beacons {
                    beacons.answer(&self.sockets, to, &self.addresses, self.core.keys());
                }
            }
            Action::RememberEpoch(epoch) => {
                if let Err(error) = self.memory.remember_epoch(epoch) {
                    tracing::error!(%error, "the boot epoch could not be written to the disk; after the next start other nodes will refuse this one for a while");
                }
            }
            // In the sentence: the journal shows nothing else by itself.
            Action::Up(node) => tracing::info!("node {} is there", self.name(node)),
            Action::Down(node) => tracing::info!("node {} is down", self.name(node)),
            Action::Lost(node) => {
                tracing::info!("node {} cannot be reached from here", self.name(node));
            }
            Action::Changed => self.publication.change(),
            // What is not taken in time is old: the next message has newer.
            Action::Heard(message) => drop(self.heard.try_send(message)),
        }
    }

    fn name(&self, node: NodeId) -> String {
        let admitted = self.core.roster().admitted().iter().find(|admitted| admitted.id == node);
        admitted.map_or_else(|| node.short(), |admitted| admitted.name.to_string())
    }

    fn begin_exchange(&self, address: SocketAddr, peer: Option<NodeId>) {
        let Some(commands) = self.commands.upgrade() else { return };
        let exchange = Arc::clone(&self.exchange);
        self.daemon.spawn(async move {
            let result = tokio::time::timeout(EXCHANGE_WITHIN, exchange.exchange(address, peer)).await;
            let succeeded = match result {
                Ok(Ok(members)) => {
                    commands.send(Command::Event(Event::Learnt(members.into()))).ok();
                    true
                }
                Ok(Err(error)) => {
                    tracing::debug!(%address, error = format!("{error:#}"), "no member list from there");
                    false
                }
                Err(_) => {
                    tracing::debug!(%address, "no member list from there in time");
                    false
                }
            };
            commands.send(Command::Event(Event::ExchangeEnded { succeeded })).ok();
        });
    }

    /// Looks at the interfaces.
    fn look(&mut self) {
        if let Some(beacons) = &mut self.beacons {
            beacons.follow_interfaces(&self.sockets);
        }
        let now = self.own.look(&self.addresses);
        if now != self.addresses {
            tracing::info!(addresses = ?now, "the addresses of this node have changed");
            self.addresses.clone_from(&now);
            self.step(Event::Moved(now));
        }
    }

    fn publish(&mut self) {
        let view = || self.core.view(moment(self.began));
        self.publication.publish(view, &self.daemon);
    }
}

/// Now, as the core counts since `began`.
pub(super) fn moment(began: Instant) -> Moment {
    Moment { elapsed: clock::now().duration_since(began), unix: clock::unix_seconds() }
}

async fn watch_interfaces(commands: mpsc::WeakUnboundedSender<Command>) {
    let mut watch = Watch::open();
    loop {
        watch.changed().await;
        let Some(commands) = commands.upgrade() else { return };
        if commands.send(Command::Look).is_err() {
            return;
        }
    }
}

/// How often the names of seeds are resolved while no other node is known to be there.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Resolves the names of seeds, again and again while this node is alone: the network may come later.
async fn resolve_seeds(
    commands: mpsc::WeakUnboundedSender<Command>,
    view: watch::Receiver<View>,
    seeds: Vec<String>,
) {
    loop {
        let me = view.borrow().me();
        let alone = !view
            .borrow()
            .members()
            .iter()
            .any(|member| member.id != me && member.state == MemberState::Alive);
        if alone {
            let addresses = discovery::resolve(&seeds).await;
            let Some(commands) = commands.upgrade() else { return };
            if commands.send(Command::Event(Event::Seeds(addresses))).is_err() {
                return;
            }
        }
        tokio::time::sleep(RESOLVE_EVERY).await;
        if view.has_changed().is_err() {
            return;
        }
    }
}
