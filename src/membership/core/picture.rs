//! `Picture`: the view, composed of the member list, the detector's verdicts and this node's own.

use std::net::SocketAddr;
use std::time::Duration;

use foca::State;

use super::{Core, Moment};
use crate::membership::doubt::Reach;
use crate::membership::rumour::Details;
use crate::membership::{Admitted, Endpoint, Member, MemberState, Roster, Tag, View};

/// How long a member that was never heard is given before it is taken for dead: a node that starts, or
/// was admitted just now, is heard within this time if it is there.
const UNHEARD_PATIENCE: Duration = Duration::from_secs(10);

/// What the view must remember of each member beside what the detector knows.
#[derive(Debug)]
pub(super) struct Picture {
    /// In the order of the member list.
    shown: Vec<Shown>,
}

/// How a member was last shown. Kept small: there is one for each member.
#[derive(Debug, Clone, Copy)]
struct Shown {
    state: MemberState,
    /// When this node learnt of it, tenths of a second.
    known_from: u32,
    /// Since when, seconds since 1970.
    since: u64,
}

/// How a member is shown that this node learns of now.
fn fresh(now: Moment) -> Shown {
    // 13 years fit. Later, a newcomer would be given no time to be heard: no harm is done by that.
    let known_from = u32::try_from(now.elapsed.as_millis() / 100).unwrap_or(u32::MAX);
    Shown { state: MemberState::Suspect, since: now.unix, known_from }
}

// === impl Picture ===

impl Picture {
    pub(super) fn new(roster: &Roster, now: Moment) -> Self {
        Self { shown: vec![fresh(now); roster.admitted().len()] }
    }

    /// Takes over how the last run of this daemon showed a member.
    pub(super) fn recall(&mut self, roster: &Roster, tag: Tag, member: &Member) {
        if let Some(shown) = roster.position(tag).and_then(|at| self.shown.get_mut(at)) {
            shown.state = member.state;
            shown.since = member.since;
        }
    }

    /// Goes over to another member list.
    pub(super) fn adopt(&mut self, old: &Roster, new: &Roster, now: Moment) {
        let fresh = fresh(now);
        self.shown = new
            .admitted()
            .iter()
            .map(|node| {
                let at = old.position(Tag::of(node.id));
                at.and_then(|at| self.shown.get(at).copied()).unwrap_or(fresh)
            })
            .collect();
    }
}

// === impl Core ===

impl Core {
    /// The state of a member, given what the detector says of it.
    fn verdict(&self, tag: Tag, heard: Option<State>, known_from: u32) -> MemberState {
        if tag == self.tag {
            return MemberState::Alive;
        }
        let known_from = Duration::from_millis(u64::from(known_from) * 100);
        let unheard = self.now.elapsed >= known_from + UNHEARD_PATIENCE;
        match (heard, self.doubts.reach(tag)) {
            (_, Reach::Lost) => MemberState::Dead,
            (None | Some(State::Down), _) if self.doubts.may_return(tag, self.now.elapsed) => {
                MemberState::Suspect
            }
            (Some(State::Down), _) => MemberState::Dead,
            (None, _) if unheard => MemberState::Dead,
            (None | Some(State::Suspect), _) | (_, Reach::Doubted) => MemberState::Suspect,
            (Some(State::Alive), Reach::Open) => MemberState::Alive,
        }
    }

    /// A member's version; of one that is there and of which nothing is kept, this node's own.
    fn shown_version(&self, details: Option<&Details>, heard: bool) -> String {
        let own = self.details.get(&self.tag).filter(|_| heard);
        details.or(own).map_or_else(String::new, |details| details.version.clone())
    }

    /// Where a member can be reached, the best first.
    fn shown_addresses(&self, node: &Admitted, heard: Option<&Endpoint>) -> Vec<SocketAddr> {
        let details = self.details.get(&Tag::of(node.id));
        match (heard, details) {
            // What it said in an earlier life may be wrong by now; where it was heard is not.
            (Some(heard), Some(details)) if details.stamp != heard.incarnation() => {
                vec![heard.address()]
            }
            (_, Some(details)) => details.addresses.clone(),
            (Some(heard), None) => vec![heard.address()],
            (None, None) => node.addresses.clone(),
        }
    }

    /// What the detector knows of each member, in the order of the member list.
    pub(super) fn heard(&self) -> Vec<Option<(State, Endpoint)>> {
        let mut heard = vec![None; self.roster.admitted().len()];
        for update in self.detector.iter_membership_state() {
            if let Some(place) =
                self.roster.position(update.id().tag()).and_then(|at| heard.get_mut(at))
            {
                *place = Some((update.state(), *update.id()));
            }
        }
        heard
    }

    /// The members as this node sees them now.
    pub(super) fn compose_view(&mut self) -> View {
        let heard = self.heard();
        let mut members = Vec::with_capacity(heard.len());
        for (at, (node, heard)) in self.roster.admitted().iter().zip(heard).enumerate() {
            let tag = Tag::of(node.id);
            let Some(shown) = self.picture.shown.get(at).copied() else { continue };
            let state = self.verdict(tag, heard.map(|(state, _)| state), shown.known_from);
            let endpoint = match heard {
                _ if tag == self.tag => Some(*self.detector.identity()),
                Some((_, endpoint)) => Some(endpoint),
                None => None,
            };
            let since = if state == shown.state { shown.since } else { self.now.unix };
            if let Some(shown) = self.picture.shown.get_mut(at) {
                (shown.state, shown.since) = (state, since);
            }
            let details = self.details.get(&tag);
            members.push(Member {
                id: node.id,
                name: node.name.clone(),
                number: node.number,
                addresses: self.shown_addresses(node, endpoint.as_ref()),
                state,
                since,
                incarnation: endpoint
                    .map_or(details.map_or(0, |details| details.stamp), |endpoint| {
                        endpoint.incarnation()
                    }),
                version: self.shown_version(details, endpoint.is_some()),
            });
        }
        View::new(self.me, members)
    }
}
