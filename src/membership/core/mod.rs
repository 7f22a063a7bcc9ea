//! `Core`: the membership of one node, as a machine without I/O.
//!
//! Events and the time go in, actions come out; the daemon and the simulator drive the same code. Around
//! foca (SWIM with suspicion) it adds what a cluster file system needs: sealing, the member list's
//! authority over gossip, the verdicts of connections in use, finding lost members again, and the view.
//!
//! Not here: sockets, clocks, threads, and how a list is fetched from a peer.

mod incoming;
mod outbox;
mod picture;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use foca::{Foca, OwnedNotification, PostcardCodec};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;

use self::outbox::{Outbox, ROOM_KEPT};
use self::picture::Picture;
use self::upkeep::Upkeep;
use super::detector::tuned_for;
use super::doubt::Doubts;
use super::rumour::{Details, Rumour, Rumours};
use super::seal::{Opener, Sealer};
use super::timers::{Alarm, Timers};
use super::{Contact, Endpoint, Keyring, Member, Roster, Tag, View};
use crate::types::NodeId;

/// A moment, as the driver's clocks show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time since some fixed point; never goes back.
    pub elapsed: Duration,
    /// The time of day, seconds since 1970; for people.
    pub unix: u64,
}

/// What a node begins with.
#[derive(Debug)]
pub struct CoreSettings {
    /// This node.
    pub me: NodeId,
    /// This run's boot epoch: later than that of any run before, or datagrams are taken for replays.
    pub epoch: u32,
    /// The gossip keys.
    pub keys: Keyring,
    /// Who is admitted.
    pub roster: Roster,
    /// Where this node listens, the best first.
    pub addresses: Vec<SocketAddr>,
    /// Version of this node's software.
    pub version: String,
    /// The members as the last run saw them.
    pub remembered: Vec<Member>,
    /// Seed of the random choices.
    pub random: u64,
}

/// What happens to a node.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A datagram came.
    Datagram {
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A beacon of this cluster was heard.
    Beacon {
        /// Who it says it is.
        node: NodeId,
        /// Where it listens.
        address: SocketAddr,
    },
    /// Somebody on the local network looks for nodes of this cluster.
    BeaconQuery {
        /// Who.
        from: SocketAddr,
    },
    /// Addresses to fetch the members from, if none of those known answers.
    Seeds(Vec<SocketAddr>),
    /// The member list is now this.
    Roster(Roster),
    /// The gossip keys are now these.
    Keys(Keyring),
    /// A peer told how it sees the members; the member list has been merged before.
    Learnt(Arc<[Member]>),
    /// The exchange that [`Action::Exchange`] asked for has ended.
    ExchangeEnded {
        /// Whether the peer answered.
        succeeded: bool,
    },
    /// What a connection says of a node.
    Contact(NodeId, Contact),
    /// A message about loads (`crate::load`), for one node that is there, chosen at random.
    Push(Vec<u8>),
    /// This node listens at these addresses now.
    Moved(Vec<SocketAddr>),
    /// This node says goodbye.
    Leave,
}

/// What is to be done for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// To whom.
        to: SocketAddr,
        /// Its bytes, sealed.
        datagram: Vec<u8>,
    },
    /// Exchange the member list with the node that listens there, then say [`Event::ExchangeEnded`].
    Exchange {
        /// Where.
        address: SocketAddr,
        /// Which node it must be, if that is known; else any of the cluster.
        peer: Option<NodeId>,
    },
    /// Send a beacon on every local network.
    Beacon,
    /// Send a beacon to this address alone.
    BeaconTo(SocketAddr),
    /// Make sure that no later run has this epoch or one before it.
    ///
    /// Comes only when this node's clock and memory were set back; see [`super::Core`].
    RememberEpoch(u32),
    /// A message about loads came from a member.
    Heard(Vec<u8>),
    /// A node is there; for the log.
    Up(NodeId),
    /// A node is gone, as everybody sees it; for the log.
    Down(NodeId),
    /// A node cannot be reached from here, whatever others see; for the log.
    Lost(NodeId),
    /// The view may be another than before.
    Changed,
}

/// The membership of one node.
///
/// If the node's clock and state were set back, so that its epoch is one that others know as past, they
/// refuse its datagrams and tell it (a frame `Behind`); it goes on in a later epoch.
pub struct Core {
    me: NodeId,
    tag: Tag,
    epoch: u32,
    now: Moment,
    detector: Foca<Endpoint, PostcardCodec, SmallRng, Rumours>,
    /// What the detector wants done, since the last look.
    outbox: Outbox,
    /// Rumours that the detector overheard, since the last look.
    overheard: Receiver<(Endpoint, Rumour)>,
    keys: Keyring,
    sealer: Sealer,
    opener: Opener,
    roster: Roster,
    /// What nodes said of themselves.
    details: HashMap<Tag, Details>,
    /// Where nodes were heard from, if that is not the address that gossip names.
    paths: HashMap<Tag, SocketAddr>,
    doubts: Doubts,
    picture: Picture,
    upkeep: Upkeep,
    timers: Timers,
    random: SmallRng,
    actions: VecDeque<Action>,
}

// === impl Core ===

impl Core {
    /// A node that begins now; its first actions come with the first event.
    pub fn new(settings: CoreSettings, now: Moment) -> Self {
        let CoreSettings { me, epoch, keys, roster, addresses, version, remembered, random } =
            settings;
        let tag = Tag::of(me);
        let mut random = SmallRng::seed_from_u64(random);
        let (rumours, overheard) = Rumours::new();
        let incarnation = Endpoint::first_incarnation(epoch);
        // Without any address nobody can answer: port 0 says so, and `Moved` tells a better one.
        let address = addresses.first().copied().unwrap_or(([0, 0, 0, 0], 0).into());
        let detector = Foca::with_custom_broadcast(
            Endpoint::new(tag, incarnation, address),
            tuned_for(roster.admitted().len()),
            SmallRng::from_rng(&mut random),
            PostcardCodec,
            rumours,
        );
        let mut core = Self {
            me,
            tag,
            epoch,
            now,
            detector,
            outbox: Outbox::default(),
            overheard,
            sealer: Sealer::new(tag, epoch, &keys),
            keys,
            opener: Opener::default(),
            picture: Picture::new(&roster, now),
            roster,
            details: HashMap::from([(tag, Details::new(incarnation, &addresses, &version))]),
            paths: HashMap::new(),
            doubts: Doubts::default(),
            upkeep: Upkeep::new(now),
            timers: Timers::default(),
            random,
            actions: VecDeque::new(),
        };
        core.recall(remembered);
        core.timers.set(now.elapsed, Alarm::Housekeeping);
        core.timers.set(now.elapsed, Alarm::Beacon);
        core
    }

    /// Takes note of an event; what is to be done comes out of [`Self::next_action`].
    pub fn step(&mut self, now: Moment, event: Event) {
        self.now = now;
        while let Some(alarm) = self.timers.due(now.elapsed) {
            self.ring(alarm);
            self.settle();
        }
        match event {
            Event::Tick => {}
            Event::Datagram { from, bytes } => self.receive(from, bytes),
            Event::Beacon { node, address } => self.hear_beacon(node, address),
            Event::BeaconQuery { from } => self.answer_query(from),
            Event::Seeds(seeds) => self.upkeep.seeds = seeds,
            Event::Roster(roster) => self.adopt(roster),
            Event::Keys(keys) => {
                self.sealer.set_keys(&keys);
                self.keys = keys;
            }
            Event::Learnt(members) => self.learn(&members),
            Event::ExchangeEnded { succeeded } => self.exchange_ended(succeeded),
            Event::Contact(node, contact) => self.take_contact(node, contact),
            Event::Push(message) => self.push(&message),
            Event::Moved(addresses) => self.move_to(&addresses),
            Event::Leave => self.leave(),
        }
        self.settle();
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        let next = self.actions.pop_front();
        if next.is_none() {
            self.actions.shrink_to(ROOM_KEPT);
        }
        next
    }

    /// When [`Event::Tick`] is due, in the time of [`Moment::elapsed`].
    pub fn next_alarm(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// The gossip keys, for the beacons.
    pub const fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// The member list.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Members that the detector takes to be there, this node not counted.
    pub const fn active(&self) -> usize {
        self.detector.num_members()
    }

    /// This node's incarnation.
    pub const fn incarnation(&self) -> u64 {
        self.detector.identity().incarnation()
    }

    /// The members as this node sees them.
    pub fn view(&mut self, now: Moment) -> View {
        self.now = now;
        self.compose_view()
    }

    /// Does what the detector wants done, until it wants nothing.
    fn settle(&mut self) {
        loop {
            while let Some((to, frame)) = self.outbox.sends.pop_front() {
                let address = self.route(&to);
                self.send(to.tag(), address, incoming::FRAME_DETECTOR, &frame);
            }
            while let Some((after, timer)) = self.outbox.timers.pop_front() {
                self.timers.set(self.now.elapsed + after, Alarm::Detector(timer));
            }
            if let Some(note) = self.outbox.notes.pop_front() {
                self.take_note(note);
            } else if let Ok((sender, rumour)) = self.overheard.try_recv() {
                self.hear_rumour(&sender, rumour);
            } else if self.outbox.is_empty() {
                break;
            }
        }
        self.outbox.shrink();
    }

    fn take_note(&mut self, note: OwnedNotification<Endpoint>) {
        match note {
            OwnedNotification::MemberUp(node) => {
                if self.roster.denies(node.tag()) {
                    return self.bury(&node);
                }
                self.tune();
                self.report(node.tag(), Action::Up);
            }
            OwnedNotification::MemberDown(node) => {
                // The detector forgets it some day; that its life is over holds for longer.
                self.opener.expect_epoch(node.tag(), Endpoint::epoch_of(node.incarnation()));
                self.tune();
                self.report(node.tag(), Action::Down);
            }
            OwnedNotification::Rename(_, node) => {
                if self.roster.denies(node.tag()) {
                    return self.bury(&node);
                }
                // A new life may have a new address: what was found out about the old one is void.
                self.paths.remove(&node.tag());
            }
            OwnedNotification::Rejoin(_) => self.restate_details(),
            // The detector's own state; the view is composed from its members.
            OwnedNotification::Active | OwnedNotification::Idle | OwnedNotification::Defunct => {}
        }
        self.actions.push_back(Action::Changed);
    }

    fn report(&mut self, node: Tag, action: fn(NodeId) -> Action) {
        if let Some(node) = self.roster.find(node) {
            self.actions.push_back(action(node.id));
        }
    }

    /// Sends a message about loads to a node that is there: each is as likely as any other.
    fn push(&mut self, message: &[u8]) {
        let there = self.detector.iter_members().choose(&mut self.random);
        if let Some(chosen) = there.map(|update| *update.id()) {
            let address = self.route(&chosen);
            self.send(chosen.tag(), address, incoming::FRAME_LOAD, message);
        }
    }

    /// Sends a frame to a node, sealed.
    fn send(&mut self, to: Tag, address: SocketAddr, kind: u8, frame: &[u8]) {
        if to == self.tag || self.roster.denies(to) || address.port() == 0 {
            return;
        }
        let datagram = self.sealer.seal(to, [&[kind], frame]);
        self.actions.push_back(Action::Send { to: address, datagram });
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("me", self.detector.identity())
            .field("active", &self.active())
            .field("admitted", &self.roster.admitted().len())
            .finish_non_exhaustive()
    }
}
