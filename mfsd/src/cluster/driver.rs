//! The driver of membership: gives `mfs::membership::Core` its events and does what it asks for, on a
//! thread of its own, so that nothing else the daemon does delays an answer to "are you there".
//!
//! Not here: decisions (`mfs::membership`), and how a member list is fetched ([`Exchange`]).

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mfs::clock;
use mfs::membership::{
    Action, BEACON_LEN, Beacon, ClusterHash, Contact, Core, CoreSettings, Event, Keyring,
    MAX_FRAME, Member, MemberState, Moment, Roster, SEAL_OVERHEAD, View,
};
use mfs::telemetry::metrics;
use mfs::types::NodeId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use super::beacon::Beacons;
use super::discovery::{self, OwnAddresses, Watch};
use super::memory::Memory;
use super::sockets::Sockets;

/// Longest time for an exchange of member lists.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);

/// Least time between two views: a burst of news makes one.
const PUBLISH_GAP: Duration = Duration::from_millis(50);

/// Least time between two writes of the view to the disk.
const REMEMBER_GAP: Duration = Duration::from_secs(10);

/// How often the names of seeds are resolved while no other node is known to be there.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Datagrams taken in one go before anything else has its turn.
const BATCH: usize = 64;

/// Priority of the thread, as nice(2): above what ordinary load there is. A node at its limits must not
/// be taken for dead.
const NICENESS: i32 = -10;

/// What membership needs to begin.
#[derive(Debug)]
pub(crate) struct MembershipSettings {
    /// This node.
    pub(crate) me: NodeId,
    /// Where to listen, UDP.
    pub(crate) listen: Vec<SocketAddr>,
    /// SHA-256 of the public key of the cluster's CA.
    pub(crate) cluster: [u8; 32],
    /// The gossip keys.
    pub(crate) keys: Keyring,
    /// Who is admitted.
    pub(crate) roster: Roster,
    /// The state directory.
    pub(crate) state_dir: PathBuf,
    /// Names or addresses of nodes to ask, `host` or `host:port`.
    pub(crate) seeds: Vec<String>,
    /// Addresses to tell the others; none: those of the interfaces.
    pub(crate) addresses: Vec<IpAddr>,
    /// Keep to this interface.
    pub(crate) interface: Option<String>,
    /// Whether to send and hear beacons.
    pub(crate) beacon: bool,
    /// Version of this node's software.
    pub(crate) version: String,
}

/// The running membership of this node. Cheap to clone; it stops when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<View>,
}

/// What an exchange brings: the members as the peer sees them.
pub(crate) type Exchanged<'a> =
    Pin<Box<dyn Future<Output = anyhow::Result<Vec<Member>>> + Send + 'a>>;

/// How the member list of a peer is fetched.
pub(crate) trait Exchange: Send + Sync + 'static {
    /// Fetches the member list of the node at this address (of `peer`, if given; else of any node of the
    /// cluster), merges it into this node's own, and answers with the members as the peer sees them.
    ///
    /// If the own list changed, [`Membership::set_roster`] has been called before this returns.
    fn exchange(&self, address: SocketAddr, peer: Option<NodeId>) -> Exchanged<'_>;
}

#[derive(Debug)]
enum Command {
    Event(Event),
    /// The interfaces may have changed.
    Look,
    Leave(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// The state of the thread.
struct Driver {
    core: Core,
    sockets: Sockets,
    beacons: Option<Beacons>,
    own: OwnAddresses,
    addresses: Vec<SocketAddr>,
    exchange: Arc<dyn Exchange>,
    /// The daemon's runtime: what may take long runs there.
    daemon: Handle,
    commands: mpsc::WeakUnboundedSender<Command>,
    view: watch::Sender<View>,
    memory: Memory,
    began: Instant,
    changed: bool,
    published: Instant,
    remembered: Instant,
    /// The view is not on the disk as it is.
    unremembered: bool,
}

// === impl Membership ===

impl Membership {
    /// Begins: opens the sockets and starts the thread. Called within the daemon's runtime.
    ///
    /// # Errors
    /// A port that is taken; a state directory that cannot be written.
    pub(crate) fn start(
        settings: MembershipSettings,
        exchange: Arc<dyn Exchange>,
    ) -> io::Result<Self> {
        let memory = Memory::open(&settings.state_dir)?;
        let epoch = memory.begin_epoch()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let opened = {
            let _in_runtime = runtime.enter();
            Sockets::open(&settings.listen, settings.interface.as_deref(), settings.beacon)
        };
        let sockets = match opened {
            Ok(sockets) => sockets,
            Err(error) => {
                // Dropping it here would panic: this is the daemon's runtime, where nothing may block.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let own = OwnAddresses {
            listen: sockets.listening(),
            configured: settings.addresses,
            interface: settings.interface.clone(),
        };
        let addresses = own.look(&[]);
        let began = clock::now();
        let mut core = Core::new(
            CoreSettings {
                me: settings.me,
                epoch,
                keys: settings.keys,
                roster: settings.roster,
                addresses: addresses.clone(),
                version: settings.version,
                remembered: memory.last_view(),
                random: rand::random(),
            },
            moment(began),
        );
        let (view, watched) = watch::channel(core.view(moment(began)));
        count(&watched.borrow());
        let (commands, orders) = mpsc::unbounded_channel();
        let beacons = settings.beacon.then(|| {
            Beacons::new(settings.me, ClusterHash::of_ca(&settings.cluster), settings.interface)
        });
        let driver = Driver {
            core,
            sockets,
            beacons,
            own,
            addresses,
            exchange,
            daemon: Handle::current(),
            commands: commands.downgrade(),
            view,
            memory,
            began,
            changed: true,
            published: began,
            remembered: began,
            unremembered: false,
        };
        let seeds = settings.seeds;
        std::thread::Builder::new()
            .name("mfs-membership".to_owned())
            .spawn(move || driver.run_on(&runtime, orders, seeds))?;
        Ok(Self { commands, view: watched })
    }

    /// The members as this node sees them, now and as they change.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// The member list is now this. Others are told that there is another.
    pub(crate) fn set_roster(&self, roster: Roster) {
        self.tell(Command::Event(Event::Roster(roster)));
    }

    /// The gossip keys are now these.
    pub(crate) fn set_keys(&self, keys: Keyring) {
        self.tell(Command::Event(Event::Keys(keys)));
    }

    /// Takes how a peer sees the members, as a joiner is told.
    pub(crate) fn learn(&self, members: Vec<Member>) {
        self.tell(Command::Event(Event::Learnt(members)));
    }

    /// Takes what a connection says of a node.
    pub(crate) fn report(&self, node: NodeId, contact: Contact) {
        self.tell(Command::Event(Event::Contact(node, contact)));
    }

    /// Says goodbye to the others; returns when that is sent.
    pub(crate) async fn leave(&self) {
        let (done, wait) = oneshot::channel();
        self.tell(Command::Leave(done));
        // An error means that the thread has ended: there is nobody left to say goodbye.
        wait.await.ok();
    }

    /// Ends, without a goodbye: the node will be back. Returns when what must be kept is on the disk.
    pub(crate) async fn stop(&self) {
        let (done, wait) = oneshot::channel();
        self.tell(Command::Stop(done));
        wait.await.ok();
    }

    fn tell(&self, command: Command) {
        // Fails only after `stop`, when nothing matters any more.
        self.commands.send(command).ok();
    }
}

// === impl Driver ===

impl Driver {
    fn run_on(
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
            self.daemon.spawn(resolve_seeds(commands, self.view.subscribe(), seeds));
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
                        self.end();
                        // The ports are free when the caller hears of it.
                        drop(self);
                        done.send(()).ok();
                        return;
                    }
                    None => return self.end(),
                },
                () = tokio::time::sleep_until(wake.into()) => self.step(Event::Tick),
            }
        }
    }

    fn end(&self) {
        if let Err(error) = self.memory.remember_view(self.view.borrow().members()) {
            tracing::warn!(%error, "the members as seen last could not be written to the disk");
        }
    }

    fn next_wakeup(&self) -> Instant {
        let alarm = self.core.next_alarm().map(|elapsed| self.began + elapsed);
        let publish = self.changed.then(|| self.published + PUBLISH_GAP);
        alarm.into_iter().chain(publish).min().unwrap_or_else(|| clock::now() + RESOLVE_EVERY)
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
            Action::Up(node) => tracing::info!(node = self.name(node), "a node is there"),
            Action::Down(node) => tracing::info!(node = self.name(node), "a node is down"),
            Action::Lost(node) => {
                tracing::info!(node = self.name(node), "a node cannot be reached from here");
            }
            Action::Changed => self.changed = true,
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
                    commands.send(Command::Event(Event::Learnt(members))).ok();
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

    /// Publishes the view if it is another.
    fn publish(&mut self) {
        let now = clock::now();
        if self.changed && now >= self.published + PUBLISH_GAP {
            self.changed = false;
            self.published = now;
            let view = self.core.view(moment(self.began));
            if *self.view.borrow() != view {
                count(&view);
                self.unremembered = true;
                self.view.send_replace(view);
            }
        }
        if self.unremembered && now >= self.remembered + REMEMBER_GAP {
            self.unremembered = false;
            self.remembered = now;
            let (memory, view) = (self.memory.clone(), self.view.borrow().clone());
            self.daemon.spawn_blocking(move || {
                if let Err(error) = memory.remember_view(view.members()) {
                    tracing::warn!(%error, "the members as seen now could not be written to the disk");
                }
            });
        }
    }
}

fn count(view: &View) {
    let in_state = |state| view.members().iter().filter(|member| member.state == state).count();
    for (at, state) in
        [MemberState::Alive, MemberState::Suspect, MemberState::Dead].into_iter().enumerate()
    {
        metrics::MEMBERS.set(at, i64::try_from(in_state(state)).unwrap_or(i64::MAX));
    }
}

fn moment(began: Instant) -> Moment {
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

#[cfg(test)]
mod tests {
    use mfs::membership::{Admitted, GossipKey};
    use mfs::types::{NodeName, NodeNumber};

    use super::*;

    /// Fetches nothing.
    struct NoExchange;

    impl Exchange for NoExchange {
        fn exchange(&self, _: SocketAddr, _: Option<NodeId>) -> Exchanged<'_> {
            Box::pin(async { anyhow::bail!("there are no lists in this test") })
        }
    }

    fn admitted(n: u8, address: SocketAddr) -> Admitted {
        Admitted {
            id: NodeId::from_digest([n; 32]),
            name: NodeName::parse(&format!("n{n}")).expect("a good name"),
            number: NodeNumber::new(n.into()).expect("not 0"),
            addresses: vec![address],
        }
    }

    fn try_start(
        n: u8,
        listen: SocketAddr,
        roster: &Roster,
        state: &std::path::Path,
    ) -> io::Result<Membership> {
        let settings = MembershipSettings {
            me: NodeId::from_digest([n; 32]),
            listen: vec![listen],
            cluster: [9; 32],
            keys: Keyring::new(GossipKey::new(1, &[1; 32]), None),
            roster: roster.clone(),
            state_dir: state.to_owned(),
            seeds: vec![],
            addresses: vec![],
            interface: None,
            beacon: false,
            version: "0.1.0".to_owned(),
        };
        Membership::start(settings, Arc::new(NoExchange))
    }

    fn start(n: u8, listen: SocketAddr, roster: &Roster, state: &std::path::Path) -> Membership {
        try_start(n, listen, roster, state).expect("the node starts")
    }

    async fn becomes(membership: &Membership, node: u8, state: MemberState) {
        let id = NodeId::from_digest([node; 32]);
        let mut view = membership.view();
        let seen = view.wait_for(|view| view.by_id(id).is_some_and(|member| member.state == state));
        let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
        assert!(seen.is_ok(), "n{node} does not become {state:?}");
    }

    /// A port that is free at this address.
    fn free(host: &str) -> SocketAddr {
        let socket = std::net::UdpSocket::bind(format!("{host}:0")).expect("the loopback is up");
        socket.local_addr().expect("it is bound")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_find_each_other_and_notice_a_silent_one() {
        let (one, two) = (free("127.0.0.1"), free("[::1]"));
        let roster = Roster::new([admitted(1, one), admitted(2, two)], []);
        let state = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        // Different families: IPv4 and IPv6 do not reach each other, and that is noticed.
        let first = start(1, one, &roster, state[0].path());
        let second = start(2, two, &roster, state[1].path());
        becomes(&first, 2, MemberState::Dead).await;
        second.stop().await;

        let two = free("127.0.0.1");
        let roster = Roster::new([admitted(1, one), admitted(2, two)], []);
        first.set_roster(roster.clone());
        let second = start(2, two, &roster, state[1].path());
        becomes(&first, 2, MemberState::Alive).await;
        becomes(&second, 1, MemberState::Alive).await;
        second.stop().await;
        first.report(NodeId::from_digest([2; 32]), Contact::Silent);
        becomes(&first, 2, MemberState::Dead).await;

        // What was seen last is known before anything is heard.
        first.stop().await;
        let again = start(1, one, &roster, state[0].path());
        let id = NodeId::from_digest([2; 32]);
        let view = again.view();
        let view = view.borrow();
        assert_eq!(view.by_id(id).map(|member| member.addresses.clone()), Some(vec![two]));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let state = tempfile::tempdir().unwrap();
        let error = try_start(1, address, &Roster::new([], []), state.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("UDP 127.0.0.1:") && text.contains("another mfsd"), "{text}");
    }
}
