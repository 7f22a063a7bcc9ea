//! `Membership`: the handle by which the daemon holds the membership of its node, and its beginning.
//!
//! Not here: the thread behind it (`driver`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use mfs::clock;
use mfs::membership::{
    ClusterHash, Contact, Core, CoreSettings, Event, Keyring, Member, Roster, View,
};
use mfs::types::NodeId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use super::beacon::Beacons;
use super::discovery::OwnAddresses;
use super::driver::{Command, Driver, Exchange, moment};
use super::memory::Memory;
use super::publication::Publication;
use super::sockets::Sockets;

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
    /// To whom messages about loads go.
    pub(crate) heard: mpsc::Sender<Vec<u8>>,
}

/// The running membership of this node. Cheap to clone; it stops when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<View>,
}

/// The runtime of the thread. Its end waits for nothing: where the thread does not begin, it ends within
/// the daemon's runtime, where nothing may block, and tokio panics over one that would.
#[derive(Debug)]
struct ThreadRuntime(Option<Runtime>);

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
        let runtime = ThreadRuntime::begin()?;
        let sockets = {
            let _in_runtime = runtime.enter();
            Sockets::open(&settings.listen, settings.interface.as_deref(), settings.beacon)?
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
        let (publication, watched) = Publication::new(core.view(moment(began)), memory.clone());
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
            publication,
            memory,
            heard: settings.heard,
            began,
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
        self.tell(Command::Event(Event::Learnt(members.into())));
    }

    /// Takes what a connection says of a node.
    pub(crate) fn report(&self, node: NodeId, contact: Contact) {
        self.tell(Command::Event(Event::Contact(node, contact)));
    }

    /// Sends a message about loads to a node that is there, chosen at random.
    pub(crate) fn push(&self, message: Vec<u8>) {
        self.tell(Command::Event(Event::Push(message)));
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

// === impl ThreadRuntime ===

impl ThreadRuntime {
    fn begin() -> io::Result<Self> {
        Ok(Self(Some(Builder::new_current_thread().enable_all().build()?)))
    }
}

impl Deref for ThreadRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for ThreadRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::driver::Exchanged;
    use mfs::membership::{Admitted, GossipKey, MemberState};
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
            heard: mpsc::channel(1).0,
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

    #[tokio::test]
    async fn a_thread_that_does_not_begin_is_an_error_and_no_panic() {
        let unused = ThreadRuntime::begin().unwrap();
        unused.spawn(std::future::pending::<()>());
        drop(unused);
    }
}
