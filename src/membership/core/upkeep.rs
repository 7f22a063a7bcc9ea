//! What is done as time passes: finding members, exchanging lists, beacons.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use rand::seq::{IndexedRandom, IteratorRandom};

use super::{Action, Core, Moment};
use crate::membership::detector::tuned_for;
use crate::membership::rumour::{Details, Rumour};
use crate::membership::timers::Alarm;
use crate::membership::{Endpoint, Roster, Tag};
use crate::types::NodeId;

/// How often housekeeping is done.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Members that are called on each second while none is known to be there.
const CALLS_WHILE_ALONE: usize = 3;

/// Each so many seconds one member that is away is called on: after a partition has healed, the halves
/// find each other by this.
const CALL_EVERY: u64 = 3;

/// Most addresses of a node that are tried at once.
const ADDRESSES_TRIED: usize = 4;

/// Least time between two exchanges of the member list.
const EXCHANGE_GAP: Duration = Duration::from_secs(1);

/// Time between exchanges with a random member, at least and at most: a belt to the braces of rumours.
const EXCHANGE_PERIOD: (u64, u64) = (120, 240);

/// How long this node waits for a peer to tell whether its addresses are known, before it spreads them.
const DETAILS_PATIENCE: Duration = Duration::from_secs(3);

/// Beacons at the start: this many, this far apart.
const BEACONS_AT_START: u32 = 3;
const BEACON_START_GAP: Duration = Duration::from_millis(700);

/// Time between beacons afterwards.
const BEACON_PERIOD: Duration = Duration::from_secs(30);

/// Beacons per period that all nodes of a local network send together.
const BEACONS_PER_PERIOD: f64 = 5.0;

/// Least time between answers to queries.
const ANSWER_GAP: Duration = Duration::from_millis(100);

/// What housekeeping must remember.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) seeds: Vec<SocketAddr>,
    /// Rounds of housekeeping done.
    rounds: u64,
    begun: Duration,
    exchange: Exchange,
    /// A peer knows this node's addresses and version as they are, or they are being spread.
    pub(super) details_known: bool,
    /// Nodes that the detector is tuned for.
    tuned_for: usize,
    beacons_sent: u32,
    next_beacon: Duration,
    last_answer: Option<Duration>,
    last_behind: Option<Duration>,
}

/// The exchange of the member list with others.
#[derive(Debug)]
struct Exchange {
    running: bool,
    not_before: Duration,
    /// There is a list that this node has not got yet.
    news: bool,
    /// From whom it was heard: with whom the next one is tried first.
    wanted: Option<(SocketAddr, Option<NodeId>)>,
    /// When the next one with a random member is due.
    periodic: Duration,
    /// Whether one succeeded in this run.
    succeeded: bool,
    /// Failures since the last success.
    failures: u32,
}

// === impl Upkeep ===

impl Upkeep {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            seeds: vec![],
            rounds: 0,
            begun: now.elapsed,
            exchange: Exchange {
                running: false,
                not_before: now.elapsed,
                news: false,
                wanted: None,
                periodic: now.elapsed + Duration::from_secs(EXCHANGE_PERIOD.0),
                succeeded: false,
                failures: 0,
            },
            details_known: false,
            tuned_for: 0,
            beacons_sent: 0,
            next_beacon: Duration::ZERO,
            last_answer: None,
            last_behind: None,
        }
    }

    pub(super) fn may_tell_behind(&mut self, now: Duration) -> bool {
        elapsed_since(&mut self.last_behind, now, HOUSEKEEPING)
    }
}

/// Whether `gap` has passed since `last`, which is then `now`.
fn elapsed_since(last: &mut Option<Duration>, now: Duration, gap: Duration) -> bool {
    let passed = last.is_none_or(|last| now >= last + gap);
    if passed {
        *last = Some(now);
    }
    passed
}

// === impl Core ===

impl Core {
    /// Does what an alarm was set for.
    pub(super) fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Detector(timer) => {
                if let Err(error) = self.detector.handle_timer(timer, &mut self.outbox) {
                    tracing::debug!(%error, "the detector was woken in vain");
                }
            }
            Alarm::Doubt(node) => self.ask(node),
            Alarm::Housekeeping => self.keep_house(),
            Alarm::Beacon => self.beacon_due(),
        }
    }

    fn keep_house(&mut self) {
        let now = self.now.elapsed;
        self.timers.set(now + HOUSEKEEPING, Alarm::Housekeeping);
        self.upkeep.rounds += 1;
        // After a change of its endpoint the detector rests until something happens to it.
        self.apply(vec![], false);
        self.call_the_missing();
        self.exchange_if_due();
        if !self.upkeep.details_known && now >= self.upkeep.begun + DETAILS_PATIENCE {
            self.upkeep.details_known = true;
            self.spread_details();
        }
        // The verdict on a member that was never heard changes with time alone.
        self.actions.push_back(Action::Changed);
    }

    /// Calls on members that are not known to be there.
    fn call_the_missing(&mut self) {
        let alone = self.active() == 0;
        if !alone && !self.upkeep.rounds.is_multiple_of(CALL_EVERY) {
            return;
        }
        if self.active() + 1 >= self.roster.admitted().len() {
            return;
        }
        let active: std::collections::HashSet<Tag> =
            self.detector.iter_members().map(|update| update.id().tag()).collect();
        let missing = self
            .roster
            .admitted()
            .iter()
            .map(|node| Tag::of(node.id))
            .filter(|tag| *tag != self.tag && !active.contains(tag));
        let calls = if alone { CALLS_WHILE_ALONE } else { 1 };
        let chosen = missing.sample(&mut self.random, calls);
        for tag in chosen {
            for address in self.addresses_of(tag) {
                self.call_on(tag, address);
            }
        }
    }

    /// Calls on a node: it answers with some of the members that it knows.
    pub(super) fn call_on(&mut self, node: Tag, address: SocketAddr) {
        if let Err(error) =
            self.detector.announce(Endpoint::new(node, 0, address), &mut self.outbox)
        {
            tracing::debug!(%node, %address, %error, "cannot call on a node");
        }
    }

    /// Where to send what is for this endpoint.
    pub(super) fn route(&self, to: &Endpoint) -> SocketAddr {
        if let Some(path) = self.paths.get(&to.tag()) {
            return *path;
        }
        let address = to.address();
        if self.speaks(&address) {
            return address;
        }
        let others = self.details.get(&to.tag()).map_or(&[][..], |details| &details.addresses);
        others.iter().copied().find(|other| self.speaks(other)).unwrap_or(address)
    }

    /// All addresses at which a node may be found, the likeliest first.
    pub(super) fn addresses_of(&self, node: Tag) -> Vec<SocketAddr> {
        let known = self.endpoint_of(node);
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let details = self.details.get(&node).map_or(&[][..], |details| &details.addresses);
        let admitted = self.roster.find(node).map_or(&[][..], |node| &node.addresses);
        let all = (self.paths.get(&node).copied().into_iter())
            .chain(known.map(|endpoint| endpoint.address()))
            .chain(details.iter().copied())
            .chain(admitted.iter().copied());
        for address in all.filter(|address| self.speaks(address)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.truncate(ADDRESSES_TRIED);
        addresses
    }

    /// A node as the detector knows it, alive or not.
    pub(super) fn endpoint_of(&self, node: Tag) -> Option<Endpoint> {
        let mut known = self.detector.iter_membership_state().map(|update| *update.id());
        known.find(|endpoint| endpoint.tag() == node)
    }

    /// Whether this node has an address of the same family. One that has none yet tries everything.
    pub(super) fn speaks(&self, address: &SocketAddr) -> bool {
        let own = self.details.get(&self.tag).map_or(&[][..], |details| &details.addresses);
        own.is_empty() || own.iter().any(|own| own.is_ipv4() == address.is_ipv4())
    }

    /// Tunes the detector for the number of nodes, in steps so that it is not done for every one.
    pub(super) fn tune(&mut self) {
        let nodes = self.active() + 1;
        let tuned = self.upkeep.tuned_for;
        if nodes > tuned + tuned / 4 || nodes < tuned - tuned / 4 {
            self.upkeep.tuned_for = nodes;
            if let Err(error) = self.detector.set_config(tuned_for(nodes)) {
                tracing::debug!(%error, "the detector cannot be tuned");
            }
        }
    }

    /// The member list is now this.
    pub(super) fn adopt(&mut self, roster: Roster) {
        let news = roster.digest() != self.roster.digest();
        self.picture.adopt(&self.roster, &roster, self.now);
        self.roster = roster;
        let denied: std::collections::HashSet<Tag> = self.roster.denied_tags().collect();
        let buried: Vec<Endpoint> = self
            .detector
            .iter_members()
            .map(|update| *update.id())
            .filter(|endpoint| denied.contains(&endpoint.tag()))
            .collect();
        for endpoint in &buried {
            self.bury(endpoint);
        }
        if news {
            self.spread(&Rumour::Roster(self.roster.digest()));
        }
        self.actions.push_back(Action::Changed);
    }

    /// This node listens at these addresses now.
    pub(super) fn move_to(&mut self, addresses: &[SocketAddr]) {
        let Some(me) = self.details.get(&self.tag) else { return };
        if me.addresses == addresses {
            return;
        }
        let version = me.version.clone();
        let old = *self.detector.identity();
        let new = addresses.first().map_or(old.renewed(), |address| old.moved_to(*address));
        self.details.insert(self.tag, Details::new(new.incarnation(), addresses, &version));
        self.become_endpoint(new);
        self.upkeep.details_known = true;
        self.spread_details();
        // Those who cannot be reached from here any more may still hear a beacon.
        self.upkeep.beacons_sent = 0;
        self.upkeep.next_beacon = self.now.elapsed;
        self.timers.set(self.now.elapsed, Alarm::Beacon);
        self.actions.push_back(Action::Changed);
    }

    /// Says goodbye, so that the others need not find out.
    pub(super) fn leave(&mut self) {
        if let Err(error) = self.detector.leave_cluster(&mut self.outbox) {
            tracing::debug!(%error, "cannot say goodbye");
        }
    }

    /// News: exchange lists soon, with this node, or with any if it cannot be reached.
    pub(super) fn want_exchange(&mut self, address: SocketAddr, peer: Option<NodeId>) {
        self.upkeep.exchange.news = true;
        if self.speaks(&address) {
            self.upkeep.exchange.wanted = Some((address, peer));
        }
        self.exchange_if_due();
    }

    /// An exchange has ended.
    pub(super) fn exchange_ended(&mut self, succeeded: bool) {
        let now = self.now.elapsed;
        let period = self.random.random_range(EXCHANGE_PERIOD.0..=EXCHANGE_PERIOD.1);
        let exchange = &mut self.upkeep.exchange;
        exchange.running = false;
        if succeeded {
            exchange.succeeded = true;
            // What was heard while this one ran is newer than what it brought.
            exchange.news = exchange.wanted.is_some();
            exchange.failures = 0;
            exchange.not_before = now + EXCHANGE_GAP;
            exchange.periodic = now + Duration::from_secs(period);
        } else {
            exchange.failures += 1;
            // Up to 8 s apart, so that a node alone does not knock at dead doors all day.
            exchange.not_before = now + EXCHANGE_GAP * (1 << exchange.failures.min(3));
        }
    }

    fn exchange_if_due(&mut self) {
        let now = self.now.elapsed;
        let exchange = &mut self.upkeep.exchange;
        if exchange.running || now < exchange.not_before {
            return;
        }
        let wanted = exchange.wanted.take();
        let any = now >= exchange.periodic || !exchange.succeeded || exchange.news;
        let partner = wanted.or_else(|| if any { self.exchange_partner() } else { None });
        if let Some((address, peer)) = partner {
            self.upkeep.exchange.running = true;
            self.actions.push_back(Action::Exchange { address, peer });
        }
    }

    /// A random member that is there; failing that, the seeds in turn with any member: where all have moved,
    /// the seeds are right and what is known of the members is wrong, however many they are.
    fn exchange_partner(&mut self) -> Option<(SocketAddr, Option<NodeId>)> {
        let active: Vec<(SocketAddr, Tag)> = (self.detector.iter_members())
            .map(|update| (self.route(update.id()), update.id().tag()))
            .filter(|(address, _)| self.speaks(address))
            .collect();
        if let Some((address, tag)) = active.choose(&mut self.random) {
            return Some((*address, self.roster.find(*tag).map(|node| node.id)));
        }
        let (tried, seeds) = (self.upkeep.exchange.failures as usize, &self.upkeep.seeds);
        let seed = (!seeds.is_empty()).then(|| (seeds[tried / 2 % seeds.len()], None));
        let me = self.me;
        let others: Vec<NodeId> =
            self.roster.admitted().iter().map(|node| node.id).filter(|id| *id != me).collect();
        match others.choose(&mut self.random) {
            Some(id) if seed.is_none() || tried % 2 == 1 => {
                let address = self.addresses_of(Tag::of(*id)).choose(&mut self.random).copied()?;
                Some((address, Some(*id)))
            }
            _ => seed,
        }
    }

    fn beacon_due(&mut self) {
        let now = self.now.elapsed;
        if now < self.upkeep.next_beacon {
            // Of an earlier row: a move has begun another since.
            return;
        }
        let start = self.upkeep.beacons_sent < BEACONS_AT_START;
        let gap = if start { BEACON_START_GAP } else { BEACON_PERIOD };
        self.upkeep.next_beacon = now + gap;
        self.timers.set(now + gap, Alarm::Beacon);
        let share = BEACONS_PER_PERIOD / (self.active() + 1) as f64;
        if start || self.active() == 0 || self.random.random_bool(share.min(1.0)) {
            self.upkeep.beacons_sent = self.upkeep.beacons_sent.saturating_add(1);
            self.actions.push_back(Action::Beacon);
        }
    }

    /// A beacon of this cluster was heard.
    pub(super) fn hear_beacon(&mut self, node: NodeId, address: SocketAddr) {
        let tag = Tag::of(node);
        // A few of all react: a thousand nodes must not all speak to one that starts.
        let share = BEACONS_PER_PERIOD / (self.active() + 1) as f64;
        if tag == self.tag || self.roster.denies(tag) || !self.random.random_bool(share.min(1.0)) {
            return;
        }
        if self.roster.find(tag).is_none() {
            self.want_exchange(address, Some(node));
        } else if !self.detector.iter_members().any(|update| {
            // One that is heard at another address than gossip names may have moved.
            update.id().tag() == tag && update.id().address() == address
        }) {
            self.call_on(tag, address);
        }
    }

    /// Somebody looks for nodes of this cluster: a few of all answer.
    pub(super) fn answer_query(&mut self, from: SocketAddr) {
        let share = BEACONS_PER_PERIOD / (self.active() + 1) as f64;
        if self.random.random_bool(share.min(1.0))
            && elapsed_since(&mut self.upkeep.last_answer, self.now.elapsed, ANSWER_GAP)
        {
            self.actions.push_back(Action::BeaconTo(from));
        }
    }
}
