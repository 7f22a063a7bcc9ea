//! `World`: a network of nodes in virtual time, run by the product's own membership code.
//!
//! Everything random comes from one seed, so that a run can be repeated; what happens is kept as a story,
//! which a failing test prints.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mfs::membership::{
    Action, Admitted, Contact, Core, CoreSettings, Event, GossipKey, Keyring, Member, MemberState,
    Moment, Roster, View,
};
use mfs::types::{NodeId, NodeName, NodeNumber};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::schedule::{Scheduled, What};

/// When the virtual time begins, seconds since 1970.
const EPOCH: u64 = 1_800_000_000;

/// Bytes of IPv4 and UDP headers around each datagram.
const HEADERS: u64 = 28;

/// Least and most time that a datagram takes.
const LATENCY_MICROS: (u64, u64) = (100, 1_500);

/// What an exchange of member lists takes, and how long one takes to fail.
const EXCHANGE_TAKES: Duration = Duration::from_millis(20);
const EXCHANGE_FAILS_AFTER: Duration = Duration::from_secs(3);

/// How long the news of a node's start may be under way.
const NEWS_TAKES: Duration = Duration::from_secs(2);

/// A node, by its place.
pub(crate) type Index = usize;

/// A network of nodes.
pub(crate) struct World {
    seed: u64,
    now: Duration,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    nodes: Vec<Node>,
    places: HashMap<SocketAddr, Index>,
    by_id: HashMap<NodeId, Index>,
    random: SmallRng,
    /// Share of the datagrams that get lost.
    pub(crate) loss: f64,
    /// Whether beacons are heard.
    pub(crate) beacons: bool,
    /// Whether a datagram may be kept and delivered again, late.
    pub(crate) replay: bool,
    story: String,
    /// Deaths that were announced, by who sees whom dead: when.
    deaths: BTreeMap<(Index, Index), Duration>,
    /// Deaths announced of nodes that lived, and could reach who announced it.
    pub(crate) false_deaths: usize,
    /// What the nodes have sent, headers included, since the last reset.
    pub(crate) sent_bytes: u64,
    pub(crate) sent_datagrams: u64,
    recorded: Vec<(Index, SocketAddr, Vec<u8>)>,
}

/// One node: its state survives its death, as a disk does.
struct Node {
    name: String,
    id: NodeId,
    /// The best first.
    addresses: Vec<SocketAddr>,
    core: Option<Core>,
    epoch: u32,
    roster: Roster,
    /// Which of the lists that the authority has made this is.
    roster_generation: u64,
    last_view: Vec<Member>,
    /// Nodes with the same number can reach each other.
    island: u32,
    /// When its next tick is queued.
    alarm: Option<Duration>,
    /// When it started last.
    began: Duration,
    /// A fault of the network in one direction: nothing reaches it.
    deaf: bool,
}

// === impl World ===

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            now: Duration::from_secs(1_000),
            queue: BinaryHeap::new(),
            scheduled: 0,
            nodes: Vec::new(),
            places: HashMap::new(),
            by_id: HashMap::new(),
            random: SmallRng::seed_from_u64(seed),
            loss: 0.0,
            beacons: false,
            replay: false,
            story: String::new(),
            deaths: BTreeMap::new(),
            false_deaths: 0,
            sent_bytes: 0,
            sent_datagrams: 0,
            recorded: Vec::new(),
        }
    }

    /// A cluster of `count` nodes that know each other, as after their joins.
    pub(crate) fn formed(seed: u64, count: usize) -> Self {
        let mut world = Self::new(seed);
        for _ in 0..count {
            world.add_node();
        }
        let roster = world.roster_of(0..count);
        for node in 0..count {
            world.nodes[node].roster = roster.clone();
            world.boot(node);
        }
        // What a joiner is told of the others: all alive, and where.
        let members: Arc<[Member]> = (0..count).map(|node| world.member(node)).collect();
        for node in 0..count {
            world.step(node, Event::Learnt(Arc::clone(&members)));
        }
        world
    }

    /// A node that nobody has admitted and that does not run.
    pub(crate) fn add_node(&mut self) -> Index {
        let index = self.nodes.len();
        let mut digest = [0; 32];
        self.random.fill(&mut digest[..]);
        let id = NodeId::from_digest(digest);
        let [.., b, c, d] = (index as u32 + 1).to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(10, b, c, d), 7230));
        self.places.insert(address, index);
        self.by_id.insert(id, index);
        self.nodes.push(Node {
            name: format!("n{}", index + 1),
            id,
            addresses: vec![address],
            core: None,
            epoch: EPOCH as u32,
            roster: Roster::new([], []),
            roster_generation: 0,
            last_view: vec![],
            island: 0,
            alarm: None,
            began: Duration::ZERO,
            deaf: false,
        });
        index
    }

    /// The member list of these nodes.
    pub(crate) fn roster_of(&self, nodes: impl IntoIterator<Item = Index>) -> Roster {
        self.roster_without(nodes, [])
    }

    /// The member list of these nodes, with some that were removed.
    pub(crate) fn roster_without(
        &self,
        nodes: impl IntoIterator<Item = Index>,
        removed: impl IntoIterator<Item = Index>,
    ) -> Roster {
        let admitted = nodes.into_iter().map(|index| {
            let node = &self.nodes[index];
            Admitted {
                id: node.id,
                name: NodeName::parse(&node.name).expect("the names are good"),
                number: NodeNumber::new(index as u16 + 1).expect("numbers begin with 1"),
                addresses: node.addresses.clone(),
            }
        });
        Roster::new(admitted, removed.into_iter().map(|index| self.nodes[index].id))
    }

    fn member(&self, index: Index) -> Member {
        let node = &self.nodes[index];
        Member {
            id: node.id,
            name: NodeName::parse(&node.name).expect("the names are good"),
            number: NodeNumber::new(index as u16 + 1).expect("numbers begin with 1"),
            addresses: node.addresses.clone(),
            state: MemberState::Alive,
            since: EPOCH,
            incarnation: node.core.as_ref().map_or(0, Core::incarnation),
            version: "0.1.0".to_owned(),
        }
    }

    fn boot(&mut self, index: Index) {
        let core = self.make_core(index);
        self.nodes[index].core = Some(core);
        self.nodes[index].began = self.now;
        self.step(index, Event::Tick);
    }

    fn make_core(&mut self, index: Index) -> Core {
        let random = self.random.random();
        let node = &self.nodes[index];
        let settings = CoreSettings {
            me: node.id,
            epoch: node.epoch,
            keys: keys(),
            roster: node.roster.clone(),
            addresses: node.addresses.clone(),
            version: "0.1.0".to_owned(),
            remembered: node.last_view.clone(),
            random,
        };
        Core::new(settings, self.moment())
    }

    fn moment(&self) -> Moment {
        Moment { elapsed: self.now, unix: EPOCH + self.now.as_secs() }
    }

    // What is done to the nodes.

    /// Kills a node: nothing of it is heard any more.
    pub(crate) fn kill(&mut self, index: Index) {
        self.tell(&format!("{} is killed", self.nodes[index].name));
        self.remember_view(index);
        self.nodes[index].core = None;
        self.nodes[index].alarm = None;
        self.deaths.retain(|(_, whom), _| *whom != index);
    }

    /// A daemon writes its view to the disk now and then.
    fn remember_view(&mut self, index: Index) {
        let moment = self.moment();
        if let Some(core) = &mut self.nodes[index].core {
            self.nodes[index].last_view = core.view(moment).members().to_vec();
        }
    }

    /// Starts a node again, with what its disk remembers.
    pub(crate) fn restart(&mut self, index: Index) {
        self.tell(&format!("{} starts", self.nodes[index].name));
        self.nodes[index].epoch += 1;
        self.deaths.retain(|(who, _), _| *who != index);
        self.boot(index);
    }

    /// Starts a node whose clock and disk were set back.
    pub(crate) fn restart_in_the_past(&mut self, index: Index) {
        self.tell(&format!("{} starts, its clock and disk set back", self.nodes[index].name));
        self.nodes[index].epoch -= 1_000;
        self.boot(index);
    }

    /// The authority, `at` one node, has this member list now.
    pub(crate) fn set_roster(&mut self, at: Index, roster: Roster) {
        self.tell(&format!("{} has a new member list", self.nodes[at].name));
        self.nodes[at].roster = roster.clone();
        self.nodes[at].roster_generation += 1;
        self.step(at, Event::Roster(roster));
    }

    /// A node hears the beacon of another, whether that runs or not.
    pub(crate) fn overhear(&mut self, index: Index, of: Index) {
        let (node, address) = (self.nodes[of].id, self.nodes[of].addresses[0]);
        self.step(index, Event::Beacon { node, address });
    }

    /// A new node starts, with the member list and the members that a peer gave it.
    pub(crate) fn join(&mut self, index: Index, by: Index) {
        self.tell(&format!("{} joins at {}", self.nodes[index].name, self.nodes[by].name));
        self.nodes[index].roster = self.nodes[by].roster.clone();
        self.nodes[index].roster_generation = self.nodes[by].roster_generation;
        let members = self.view(by).into_members();
        self.boot(index);
        self.step(index, Event::Learnt(members));
    }

    /// Cuts the network: these nodes reach only each other.
    pub(crate) fn isolate(&mut self, nodes: impl IntoIterator<Item = Index>, island: u32) {
        let nodes: Vec<_> = nodes.into_iter().collect();
        self.tell(&format!("{} nodes are cut off together", nodes.len()));
        for index in nodes {
            self.nodes[index].island = island;
        }
    }

    /// Mends the network.
    pub(crate) fn heal(&mut self) {
        self.tell("the network is whole again");
        for node in &mut self.nodes {
            node.island = 0;
            node.deaf = false;
        }
    }

    /// Nothing reaches this node any more, while what it sends arrives.
    pub(crate) fn deafen(&mut self, index: Index) {
        self.tell(&format!("{} hears nothing", self.nodes[index].name));
        self.nodes[index].deaf = true;
    }

    /// A connection of `index` says something of `of`.
    pub(crate) fn contact(&mut self, index: Index, of: Index, contact: Contact) {
        let id = self.nodes[of].id;
        self.step(index, Event::Contact(id, contact));
    }

    /// Gives a node other addresses, which it notices.
    pub(crate) fn readdress(&mut self, index: Index, addresses: &[SocketAddr]) {
        self.tell(&format!("{} has the addresses {addresses:?} now", self.nodes[index].name));
        self.places.retain(|_, place| *place != index);
        self.places.extend(addresses.iter().map(|address| (*address, index)));
        self.nodes[index].addresses = addresses.to_vec();
        self.step(index, Event::Moved(addresses.to_vec()));
    }

    /// Delivers these bytes to a node, as from an address.
    pub(crate) fn inject(&mut self, to: Index, from: SocketAddr, bytes: Vec<u8>) {
        self.step(to, Event::Datagram { from, bytes });
    }

    /// Datagrams recorded while `replay` was set: to whom, from where, what.
    pub(crate) fn recorded(&self) -> Vec<(Index, SocketAddr, Vec<u8>)> {
        self.recorded.clone()
    }

    /// Lets the time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
    }

    /// Lets the time pass until something is so; whether it came to be within `time`.
    pub(crate) fn run_for_until(
        &mut self,
        time: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now + time;
        while self.now < end {
            if done(self) {
                return true;
            }
            let next = (self.now + Duration::from_millis(100)).min(end);
            self.run_until(next, |_| false);
        }
        done(self)
    }

    fn run_until(&mut self, end: Duration, stop: impl Fn(&Self) -> bool) {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end || stop(self) {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.happen(next.what);
        }
        self.now = end;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick(index) => {
                if self.nodes[index].alarm == Some(self.now) {
                    self.nodes[index].alarm = None;
                    self.step(index, Event::Tick);
                }
            }
            What::Deliver { from, to, sender, bytes } => {
                if let Some(&index) = self.places.get(&to)
                    && self.reaches(sender, index)
                {
                    if self.replay && self.recorded.len() < 10_000 {
                        self.recorded.push((index, from, bytes.clone()));
                    }
                    self.step(index, Event::Datagram { from, bytes });
                }
            }
            What::Exchanged { node, with } => self.exchange(node, with),
            What::ExchangeFailed { node } => {
                self.step(node, Event::ExchangeEnded { succeeded: false });
            }
        }
    }

    fn reaches(&self, from: Index, to: Index) -> bool {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        from.island == to.island && !to.deaf && to.core.is_some()
    }

    /// Fetches the member list as the daemon does: both lists become one, and the peer's view is learnt.
    fn exchange(&mut self, index: Index, with: SocketAddr) {
        if self.nodes[index].core.is_none() {
            return;
        }
        let peer = self.places.get(&with).copied();
        let Some(peer) =
            peer.filter(|peer| self.reaches(index, *peer) && self.reaches(*peer, index))
        else {
            self.step(index, Event::ExchangeEnded { succeeded: false });
            return;
        };
        let theirs = self.nodes[peer].roster.clone();
        let generation = self.nodes[peer].roster_generation;
        if generation > self.nodes[index].roster_generation {
            self.nodes[index].roster = theirs.clone();
            self.nodes[index].roster_generation = generation;
            self.step(index, Event::Roster(theirs));
        }
        let members = self.view(peer).into_members();
        self.step(index, Event::Learnt(members));
        self.step(index, Event::ExchangeEnded { succeeded: true });
    }

    fn step(&mut self, index: Index, event: Event) {
        let moment = self.moment();
        let Some(core) = &mut self.nodes[index].core else { return };
        core.step(moment, event);
        let mut actions = Vec::new();
        while let Some(action) = core.next_action() {
            actions.push(action);
        }
        let alarm = core.next_alarm();
        for action in actions {
            self.act(index, action);
        }
        if let Some(alarm) = alarm
            && self.nodes[index].alarm.is_none_or(|set| alarm < set)
        {
            let alarm = alarm.max(self.now);
            self.nodes[index].alarm = Some(alarm);
            self.schedule(alarm, What::Tick(index));
        }
    }

    fn act(&mut self, index: Index, action: Action) {
        match action {
            Action::Send { to, datagram } => {
                self.sent_bytes += datagram.len() as u64 + HEADERS;
                self.sent_datagrams += 1;
                if self.loss > 0.0 && self.random.random_bool(self.loss) {
                    return;
                }
                let micros = self.random.random_range(LATENCY_MICROS.0..=LATENCY_MICROS.1);
                // As the kernel: the source is an address of the destination's family, or there is none.
                let own = &self.nodes[index].addresses;
                let Some(from) = own.iter().copied().find(|own| own.is_ipv4() == to.is_ipv4())
                else {
                    return;
                };
                let what = What::Deliver { from, to, sender: index, bytes: datagram };
                self.schedule(self.now + Duration::from_micros(micros), what);
            }
            Action::Exchange { address, .. } => {
                let speaks = |own: &SocketAddr| own.is_ipv4() == address.is_ipv4();
                let up = self.nodes[index].addresses.iter().any(speaks)
                    && self.places.get(&address).is_some_and(|peer| self.reaches(index, *peer));
                if up {
                    let what = What::Exchanged { node: index, with: address };
                    self.schedule(self.now + EXCHANGE_TAKES, what);
                } else {
                    let what = What::ExchangeFailed { node: index };
                    self.schedule(self.now + EXCHANGE_FAILS_AFTER, what);
                }
            }
            Action::RememberEpoch(epoch) => self.nodes[index].epoch = epoch,
            Action::Down(id) => {
                let whom = self.by_id[&id];
                self.deaths.insert((index, whom), self.now);
                // That the life before the present one is seen to have ended is no mistake.
                let settled = self.now >= self.nodes[whom].began + NEWS_TAKES;
                if settled && self.reaches(whom, index) && self.reaches(index, whom) {
                    self.false_deaths += 1;
                    let (who, whom) = (&self.nodes[index].name, &self.nodes[whom].name);
                    self.tell(&format!("{who} takes {whom} for dead, which lives"));
                }
            }
            Action::Up(id) => {
                self.deaths.remove(&(index, self.by_id[&id]));
            }
            Action::Beacon if self.beacons => self.beacon(index),
            _ => {}
        }
    }

    /// Everybody on the local network of a node hears its beacon, once per family.
    fn beacon(&mut self, index: Index) {
        let (node, island) = (self.nodes[index].id, self.nodes[index].island);
        for address in self.nodes[index].addresses.clone() {
            let speaks = |own: &SocketAddr| own.is_ipv4() == address.is_ipv4();
            let hears = |place: &Index| {
                let other = &self.nodes[*place];
                *place != index
                    && other.island == island
                    && other.core.is_some()
                    && other.addresses.iter().any(speaks)
            };
            for place in (0..self.nodes.len()).filter(hears).collect::<Vec<_>>() {
                self.step(place, Event::Beacon { node, address });
            }
        }
    }

    fn schedule(&mut self, at: Duration, what: What) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.scheduled, what }));
    }

    // What is seen.

    /// The time since the world began.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// A node's view.
    pub(crate) fn view(&mut self, index: Index) -> View {
        let moment = self.moment();
        let core = self.nodes[index].core.as_mut().expect("only a running node has a view");
        core.view(moment)
    }

    /// How `who` sees `whom`.
    pub(crate) fn state(&mut self, who: Index, whom: Index) -> Option<MemberState> {
        let id = self.nodes[whom].id;
        self.view(who).by_id(id).map(|member| member.state)
    }

    /// Where `who` would look for `whom`.
    pub(crate) fn addresses(&mut self, who: Index, whom: Index) -> Vec<SocketAddr> {
        let id = self.nodes[whom].id;
        self.view(who).by_id(id).map_or(vec![], |member| member.addresses.clone())
    }

    pub(crate) fn running(&self) -> Vec<Index> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].core.is_some()).collect()
    }

    pub(crate) fn epoch(&self, index: Index) -> u32 {
        self.nodes[index].epoch
    }

    pub(crate) fn address(&self, index: Index) -> SocketAddr {
        self.nodes[index].addresses[0]
    }

    /// When the first and the last of those who run saw the death; `None` if not all have.
    pub(crate) fn death_seen(&self, whom: Index) -> Option<(Duration, Duration)> {
        let times: Vec<_> = self
            .running()
            .into_iter()
            .filter(|who| *who != whom)
            .map(|who| self.deaths.get(&(who, whom)).copied())
            .collect::<Option<_>>()?;
        Some((*times.iter().min()?, *times.iter().max()?))
    }

    /// Whether all of these see all of them alive.
    pub(crate) fn all_see_each_other(&mut self, nodes: &[Index]) -> bool {
        let ids: Vec<_> = nodes.iter().map(|index| self.nodes[*index].id).collect();
        nodes.iter().all(|who| {
            let view = self.view(*who);
            ids.iter().all(|id| view.by_id(*id).is_some_and(|m| m.state == MemberState::Alive))
        })
    }

    /// Forgets what was counted.
    pub(crate) fn reset_counters(&mut self) {
        self.sent_bytes = 0;
        self.sent_datagrams = 0;
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.story, "{:10.3} s  {what}", self.now.as_secs_f64() - 1_000.0)
            .expect("a string takes everything");
    }

    /// Fails the test with the story, unless `holds`.
    #[track_caller]
    pub(crate) fn expect(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "seed {}, at {:.3} s: {what}\n{}",
            self.seed,
            self.now.as_secs_f64() - 1_000.0,
            self.story
        );
    }
}

fn keys() -> Keyring {
    Keyring::new(GossipKey::new(1, &[42; 32]), None)
}
