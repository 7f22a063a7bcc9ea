//! What comes from outside: datagrams, rumours, what peers and connections say.

use std::net::SocketAddr;

use foca::{Identity, Member as Update, State};

use super::{Action, Core};
use crate::membership::doubt::Reach;
use crate::membership::rumour::{Details, Rumour};
use crate::membership::seal::{Opened, SealError};
use crate::membership::timers::Alarm;
use crate::membership::{Contact, Endpoint, Member, MemberState, Tag};
use crate::telemetry::metrics;
use crate::types::NodeId;

/// First byte of a frame that is the failure detector's.
pub(super) const FRAME_DETECTOR: u8 = 0;
/// First byte of the frame "say something": answered with [`FRAME_HERE`].
pub(super) const FRAME_ASK: u8 = 1;
/// First byte of the frame "I am here".
const FRAME_HERE: u8 = 2;
/// First byte of the frame "your datagrams are of a past epoch; this one (4 bytes) is known of you".
const FRAME_BEHIND: u8 = 3;
/// First byte of the frame "so busy are the nodes".
pub(super) const FRAME_LOAD: u8 = 4;

impl Core {
    /// Takes a datagram.
    pub(super) fn receive(&mut self, from: SocketAddr, mut bytes: Vec<u8>) {
        metrics::GOSSIP_RECEIVED_BYTES.add(bytes.len() as u64);
        let (detector, mut known) = (&self.detector, None);
        let lives_in = |sender| {
            let mut all = detector.iter_membership_state().map(Update::id);
            known = all.find(|endpoint| endpoint.tag() == sender).copied();
            known.map(|endpoint| endpoint.epoch())
        };
        let (sender, frame) = match self.opener.open(&self.keys, self.tag, lives_in, &mut bytes) {
            Ok(Opened { sender, frame }) => (sender, frame.to_vec()),
            Err(refusal) => {
                metrics::GOSSIP_DATAGRAMS_REFUSED.add_one();
                if let SealError::Replayed { sender, newer_epoch: Some(epoch) } = refusal {
                    self.tell_behind(sender, epoch, from);
                }
                return;
            }
        };
        if sender == self.tag || self.roster.denies(sender) {
            metrics::GOSSIP_DATAGRAMS_REFUSED.add_one();
            self.opener.forget(sender);
            return;
        }
        metrics::GOSSIP_DATAGRAMS_RECEIVED.add_one();
        if let Some(known) = known {
            self.note_path(&known, from);
        }
        if self.doubts.heard(sender) {
            self.actions.push_back(Action::Changed);
        }
        if self.roster.find(sender).is_none() {
            // It holds the cluster's key, so there is a list with it that this node has not seen yet.
            self.want_exchange(from, None);
        }
        match frame.split_first() {
            Some((&FRAME_DETECTOR, frame)) => {
                self.correct(sender, from, frame);
                if let Err(error) = self.detector.handle_data(frame, &mut self.outbox) {
                    tracing::debug!(%sender, %from, %error, "gossip that makes no sense");
                }
            }
            Some((&FRAME_ASK, _)) => self.send(sender, from, FRAME_HERE, &[]),
            // That it was heard has been noted above.
            Some((&FRAME_HERE, _)) => {}
            Some((&FRAME_BEHIND, epoch)) => {
                if let Ok(epoch) = epoch.try_into() {
                    self.catch_up(u32::from_be_bytes(epoch));
                }
            }
            // Who was never admitted by a list that is known here tells nothing of loads.
            Some((&FRAME_LOAD, message)) => {
                if self.roster.find(sender).is_some() {
                    self.actions.push_back(Action::Heard(message.to_vec()));
                }
            }
            _ => {
                tracing::debug!(%sender, %from, "a datagram of a kind that this version does not know")
            }
        }
    }

    /// Tells a sender that speaks to a past life of this node of its present one. The detector drops what
    /// is for a past one without a word, and the sender, if it missed the news, would take the silence for
    /// a death.
    fn correct(&mut self, sender: Tag, from: SocketAddr, frame: &[u8]) {
        let Ok((header, _)) = postcard::take_from_bytes::<foca::Header<Endpoint>>(frame) else {
            return;
        };
        let me = self.detector.identity();
        if header.dst.tag() == self.tag && header.dst.incarnation() < me.incarnation() {
            // A call says who calls, and is answered by whoever is called, in whatever life.
            if header.message != foca::Message::Announce {
                self.call_on(sender, from);
            }
        }
    }

    /// Remembers from where a node was heard, if that is not where gossip says that it is.
    fn note_path(&mut self, known: &Endpoint, from: SocketAddr) {
        let (sender, named) = (known.tag(), known.address());
        if from == named {
            self.paths.remove(&sender);
            return;
        }
        // The source of a datagram is not authenticated. So it counts only if the node named it itself, or
        // if the address that gossip names is of a family that this node has no address of.
        let own =
            self.details.get(&sender).is_some_and(|details| details.addresses.contains(&from));
        if own || !self.speaks(&named) {
            self.paths.insert(sender, from);
        }
    }

    /// Tells a member that its datagrams are taken for replays: its clock and state were set back, and
    /// without this it would not be heard until its clock has caught up.
    fn tell_behind(&mut self, sender: Tag, epoch: u32, from: SocketAddr) {
        // Once a second at most: whoever recorded old datagrams could make this node send.
        if self.roster.find(sender).is_some() && self.upkeep.may_tell_behind(self.now.elapsed) {
            self.send(sender, from, FRAME_BEHIND, &epoch.to_be_bytes());
        }
    }

    /// Goes on in an epoch after this one, which others know of this node.
    pub(super) fn catch_up(&mut self, epoch: u32) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch.saturating_add(1);
        tracing::warn!(
            epoch = self.epoch,
            "the cluster has seen this node with a later start than this one: its clock or its state \
             directory was set back, or a copy of this node runs elsewhere"
        );
        self.actions.push_back(Action::RememberEpoch(self.epoch));
        self.sealer.advance_to(self.epoch);
        let incarnation = Endpoint::first_incarnation(self.epoch);
        let address = self.detector.identity().address();
        self.become_endpoint(Endpoint::new(self.tag, incarnation, address));
        self.restate_details();
    }

    pub(super) fn become_endpoint(&mut self, endpoint: Endpoint) {
        if let Err(error) = self.detector.change_identity(endpoint, &mut self.outbox) {
            tracing::debug!(%error, "the endpoint is the same as before");
        }
    }

    /// Takes a rumour, and makes it this node's own if it is news.
    pub(super) fn hear_rumour(&mut self, sender: &Endpoint, rumour: Rumour) {
        match rumour {
            Rumour::Roster(digest) => {
                if digest != self.roster.digest() {
                    let peer = self.roster.find(sender.tag()).map(|node| node.id);
                    let address = self.route(sender);
                    self.want_exchange(address, peer);
                }
            }
            Rumour::Details(tag, details) => {
                if tag != self.tag && self.take_details(tag, details.clone()) {
                    self.spread(&Rumour::Details(tag, details));
                }
            }
        }
    }

    /// Takes what a node said of itself. Whether it is news: a node says one thing in one incarnation, so
    /// what is known of the same one and differs was hearsay.
    fn take_details(&mut self, tag: Tag, details: Details) -> bool {
        let news = match self.details.get(&tag) {
            Some(known) => known.stamp <= details.stamp && *known != details,
            None => !self.is_plain(&details),
        };
        if news {
            self.keep_details(tag, details);
            self.actions.push_back(Action::Changed);
        }
        news
    }

    /// Takes what a peer knows of a node that is there. The peer may know only where it was last heard.
    fn take_hearsay(&mut self, tag: Tag, details: Details) {
        let better = self.details.get(&tag).is_none_or(|known| {
            known.stamp < details.stamp
                || known.stamp == details.stamp && known.addresses.len() < details.addresses.len()
        });
        if better {
            self.keep_details(tag, details);
        }
    }

    fn keep_details(&mut self, tag: Tag, details: Details) {
        if self.is_plain(&details) {
            self.details.remove(&tag);
        } else {
            self.details.insert(tag, details);
        }
    }

    /// Whether a node is like this one in its version and has but the address that gossip names: then
    /// nothing need be kept of it, which at thousands of nodes is most of the memory.
    fn is_plain(&self, details: &Details) -> bool {
        let own = self.details.get(&self.tag).map(|own| own.version.as_str());
        details.addresses.len() <= 1 && own == Some(&details.version)
    }

    /// Passes a rumour on.
    pub(super) fn spread(&mut self, rumour: &Rumour) {
        let Some(bytes) = rumour.encode() else { return };
        if let Err(error) = self.detector.add_broadcast(&bytes) {
            tracing::debug!(%error, ?rumour, "a rumour that cannot be passed on");
        }
    }

    /// Says again what this node says of itself, in its present incarnation: what it said in an earlier one
    /// counts no more. One address the others know from gossip anyway.
    pub(super) fn restate_details(&mut self) {
        let incarnation = self.incarnation();
        let Some(details) = self.details.get_mut(&self.tag) else { return };
        details.stamp = incarnation;
        if details.addresses.len() > 1 {
            self.spread_details();
        }
    }

    /// Passes on what this node says of itself.
    pub(super) fn spread_details(&mut self) {
        if let Some(details) = self.details.get(&self.tag) {
            self.spread(&Rumour::Details(self.tag, details.clone()));
        }
    }

    /// Takes what the last run of this daemon knew: where to look for the others. Whether they live is
    /// not known from that.
    pub(super) fn recall(&mut self, remembered: Vec<Member>) {
        for member in remembered {
            let tag = Tag::of(member.id);
            if tag == self.tag || self.roster.denies(tag) {
                continue;
            }
            self.opener.expect_epoch(tag, Endpoint::epoch_of(member.incarnation));
            self.picture.recall(&self.roster, tag, &member);
            let stamp = member.incarnation;
            self.details.insert(tag, Details::new(stamp, &member.addresses, &member.version));
        }
    }

    /// Takes how a peer sees the members. Nothing of it is passed on: the others can ask as well, and a
    /// thousand nodes that are told to a newcomer are no news to the rest.
    pub(super) fn learn(&mut self, members: &[Member]) {
        let heard = self.heard();
        let mut updates = Vec::new();
        for member in members {
            let tag = Tag::of(member.id);
            if tag == self.tag {
                self.compare_self(member);
                continue;
            }
            let Some(at) = self.roster.position(tag).filter(|_| member.incarnation != 0) else {
                continue;
            };
            let known = heard.get(at).copied().flatten().map(|(_, known)| known);
            if known.is_some_and(|known| self.is_as_known(&known, member)) {
                continue;
            }
            let details = Details::new(member.incarnation, &member.addresses, &member.version);
            match (member.state, member.addresses.first()) {
                (MemberState::Alive | MemberState::Suspect, Some(address)) => {
                    let endpoint = Endpoint::new(tag, member.incarnation, *address);
                    // The detector searches its list for each update: only what is news goes there.
                    if known.is_none_or(|known| endpoint.win_addr_conflict(&known)) {
                        updates.push(Update::new(endpoint, 0, State::Alive));
                    }
                    self.take_hearsay(tag, details);
                }
                // That a peer takes a node for dead may be its own verdict about its own network.
                _ => {
                    self.opener.expect_epoch(tag, Endpoint::epoch_of(member.incarnation));
                    self.details.entry(tag).or_insert(details);
                }
            }
        }
        self.apply(updates, false);
        self.actions.push_back(Action::Changed);
    }

    /// Whether a peer's word on a node that it can reach says nothing that is not known: in a large cluster at
    /// rest this is so of nearly all, and they need not be looked at any closer.
    fn is_as_known(&self, known: &Endpoint, seen: &Member) -> bool {
        let own = self.details.get(&self.tag).map(|own| own.version.as_str());
        matches!(seen.state, MemberState::Alive | MemberState::Suspect)
            && known.incarnation() == seen.incarnation
            && seen.addresses == [known.address()]
            && own == Some(&seen.version)
            && !self.details.contains_key(&known.tag())
    }

    /// Compares how a peer sees this node with what it is.
    fn compare_self(&mut self, seen: &Member) {
        if Endpoint::epoch_of(seen.incarnation) > self.epoch {
            self.catch_up(Endpoint::epoch_of(seen.incarnation));
        }
        let known = self
            .details
            .get(&self.tag)
            .is_some_and(|me| me.addresses == seen.addresses && me.version == seen.version);
        self.upkeep.details_known |= known;
    }

    /// Gives the detector updates.
    pub(super) fn apply(&mut self, updates: Vec<Update<Endpoint>>, spread: bool) {
        if let Err(error) = self.detector.apply_many(updates.into_iter(), spread, &mut self.outbox)
        {
            tracing::debug!(%error, "the detector refuses an update");
        }
    }

    /// Declares a node that must not be a member dead, for everybody.
    pub(super) fn bury(&mut self, node: &Endpoint) {
        self.apply(vec![Update::down(*node)], true);
        self.opener.forget(node.tag());
        self.details.remove(&node.tag());
        self.paths.remove(&node.tag());
        self.actions.push_back(Action::Changed);
    }

    /// Takes what a connection says of a node.
    pub(super) fn take_contact(&mut self, node: NodeId, contact: Contact) {
        let tag = Tag::of(node);
        if tag == self.tag || self.roster.find(tag).is_none() {
            return;
        }
        match contact {
            Contact::Silent => {
                if self.doubts.raise(tag, self.now.elapsed) {
                    self.ask(tag);
                }
            }
            Contact::Answered => {
                // The news of its return is under way: who has a connection knows it already.
                if self.is_down(tag) {
                    self.doubts.contradicted(tag, self.now.elapsed);
                }
                self.doubts.settle(tag);
                self.actions.push_back(Action::Changed);
            }
            // Its host answers: its daemon has some time to come back.
            Contact::Refused => {
                self.doubts.refused(tag, self.now.elapsed);
                self.doubts.settle(tag);
                self.actions.push_back(Action::Changed);
            }
        }
    }

    /// Whether the detector takes a node for dead.
    fn is_down(&self, node: Tag) -> bool {
        let mut known = self.detector.iter_membership_state();
        known.any(|update| update.id().tag() == node && update.state() == State::Down)
    }

    /// Asks a doubted node, at all its addresses, whether it is there.
    pub(super) fn ask(&mut self, node: Tag) {
        if self.roster.find(node).is_none() {
            self.doubts.settle(node);
            return;
        }
        let Some(asking) = self.doubts.ask(node, self.now.elapsed) else { return };
        self.timers.set(asking.next, Alarm::Doubt(node));
        for address in self.addresses_of(node) {
            self.send(node, address, FRAME_ASK, &[]);
        }
        let Some(reach) = asking.changed else { return };
        self.actions.push_back(Action::Changed);
        if reach == Reach::Lost {
            self.report(node, Action::Lost);
            // Only a suspicion for the others: it may be just the way from here that is cut.
            let known = self.detector.iter_members().find(|update| update.id().tag() == node);
            if let Some(known) = known.cloned() {
                let suspect = Update::new(*known.id(), known.incarnation(), State::Suspect);
                self.apply(vec![suspect], true);
            }
        }
    }
}
