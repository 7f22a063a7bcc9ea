//! Whether a node can be reached, and when to try: the policy, without I/O.
//!
//! * Connection refused while the host answers: mfsd restarts; callers wait.
//! * The host is silent, or the membership says dead: callers are told EHOSTDOWN at once. While anybody
//!   is interested it is tried again, so that the node is noticed when it is back.
//! * A certificate or protocol version that does not fit: callers are told so at once; it is tried again
//!   seldom, since a person has to do something.

use std::time::{Duration, Instant};

use crate::membership::{Member, MemberState};
use crate::net::{Backoff, BackoffSettings, ConnectError};
use crate::types::Errno;
use crate::wire::{ProtocolCode, Refusal};

/// How long after the last caller the node is still tried. Beyond that the next caller waits for one
/// attempt instead.
const INTEREST: Duration = Duration::from_secs(30);

/// How long a connection must have been up for its end not to count as a failed attempt.
const SETTLED: Duration = Duration::from_secs(1);

/// How long the word that a node is dead must stand before it counts, where the node's host has just
/// answered: a daemon that comes back is for a moment known by its old life and its new one.
const BELIEVED_AFTER: Duration = Duration::from_millis(500);

/// Between attempts that only a person can make succeed.
const SELDOM: Duration = Duration::from_secs(10);

/// Why a connection ended, or was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Loss {
    /// It could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The peer refused the greeting.
    #[error("it refuses this node: {0}")]
    Refused(Refusal),
    /// The peer's host fell silent.
    #[error("its host does not answer any more")]
    Silent,
    /// It was up, and ended.
    #[error("the connection ended: {0}")]
    Ended(String),
}

/// What is known of the way to a node.
#[derive(Debug)]
pub(super) struct Reach {
    state: State,
    member: Standing,
    incarnation: u64,
    backoff: Backoff,
    /// Not before this.
    next_attempt: Instant,
    last_interest: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is known; an attempt tells.
    Unknown,
    /// Connected since then.
    Connected(Instant),
    /// The host answers, mfsd does not.
    Restarting,
    /// The host does not answer.
    Silent,
    /// The two sides do not fit together.
    Unfit(Errno),
}

/// What the membership says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    /// It counts from then on.
    Dead(Instant),
    Removed,
}

// === impl Loss ===

impl Loss {
    fn state(&self) -> State {
        match self {
            Self::Connect(ConnectError::Refused(_) | ConnectError::Unfinished(_)) => {
                State::Restarting
            }
            Self::Connect(ConnectError::Silent(_)) | Self::Silent => State::Silent,
            Self::Connect(ConnectError::Untrusted(_)) => State::Unfit(Errno::KeyRejected),
            Self::Refused(refusal) => match refusal.code {
                ProtocolCode::UnsupportedVersion => State::Unfit(Errno::Proto),
                ProtocolCode::NotAuthorised => State::Unfit(Errno::Perm),
                ProtocolCode::UnknownExport => State::Unfit(Errno::NoDev),
                _ => State::Restarting,
            },
            Self::Ended(_) => State::Unknown,
        }
    }
}

// === impl Reach ===

impl Reach {
    /// Nothing is known at `now`.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            state: State::Unknown,
            member: Standing::Member,
            incarnation: 0,
            backoff: Backoff::new(BackoffSettings::RECONNECT),
            next_attempt: now,
            last_interest: now,
        }
    }

    /// The membership's word on the node; `None`: it is no member any more. `silent`: the connections say
    /// themselves that nothing comes from it.
    pub(super) fn hear(&mut self, now: Instant, member: Option<&Member>, silent: bool) {
        let answers = matches!(self.state, State::Connected(_) | State::Restarting) && !silent;
        let standing = match (member.map(|member| member.state), self.member) {
            (None | Some(MemberState::Left), _) => Standing::Removed,
            (Some(MemberState::Dead), Standing::Dead(from)) => Standing::Dead(from),
            (Some(MemberState::Dead), _) if answers => Standing::Dead(now + BELIEVED_AFTER),
            (Some(MemberState::Dead), _) => Standing::Dead(now),
            (Some(MemberState::Alive | MemberState::Suspect), _) => Standing::Member,
        };
        let incarnation = member.map_or(0, |member| member.incarnation);
        let is_back = standing == Standing::Member
            && (self.member != Standing::Member || incarnation != self.incarnation);
        if is_back && !matches!(self.state, State::Connected(_)) {
            self.state = State::Unknown;
            self.backoff.reset();
            self.next_attempt = now;
        }
        self.member = standing;
        self.incarnation = incarnation;
    }

    /// The node was removed, or left.
    pub(super) fn is_removed(&self) -> bool {
        self.member == Standing::Removed
    }

    /// Whether connections to it make sense.
    pub(super) fn is_member(&self, now: Instant) -> bool {
        match self.member {
            Standing::Member => true,
            Standing::Dead(from) => now < from,
            Standing::Removed => false,
        }
    }

    /// When the word that it is dead begins to count, if that is to come.
    pub(super) fn dies_at(&self, now: Instant) -> Option<Instant> {
        match self.member {
            Standing::Dead(from) if now < from => Some(from),
            _ => None,
        }
    }

    /// A caller wants something of the node.
    pub(super) fn note_interest(&mut self, now: Instant) {
        if !self.is_fresh(now) && matches!(self.state, State::Silent | State::Unfit(_)) {
            // What was true long ago is no reason to refuse this caller: it waits for one attempt.
            self.state = State::Unknown;
            self.next_attempt = now;
        }
        self.last_interest = now;
    }

    /// The control connection is up.
    pub(super) fn note_connected(&mut self, now: Instant) {
        self.state = State::Connected(now);
    }

    /// The control connection ended, or could not be made.
    pub(super) fn note_loss(&mut self, now: Instant, loss: &Loss) {
        let settled = matches!(self.state, State::Connected(since) if since + SETTLED <= now);
        self.state = loss.state();
        if settled {
            self.backoff.reset();
        }
        let wait = match self.state {
            State::Unknown if settled => Duration::ZERO,
            State::Unfit(_) => SELDOM,
            _ => self.backoff.next_wait(),
        };
        self.next_attempt = now + wait;
    }

    /// What callers are told at once instead of waiting; `None`: they wait.
    pub(super) fn verdict(&self, now: Instant) -> Option<Errno> {
        match self.state {
            _ if !self.is_member(now) => Some(Errno::HostDown),
            State::Silent if self.is_fresh(now) => Some(Errno::HostDown),
            State::Unfit(errno) if self.is_fresh(now) => Some(errno),
            _ => None,
        }
    }

    /// When to try to connect; `None`: not until something happens.
    pub(super) fn attempt_at(&self, now: Instant, wanted: bool) -> Option<Instant> {
        let try_it = match self.state {
            State::Connected(_) => false,
            State::Unknown | State::Restarting => wanted,
            State::Silent | State::Unfit(_) => wanted || self.is_fresh(now),
        };
        (try_it && self.is_member(now)).then_some(self.next_attempt)
    }

    /// Whether the last failure is recent enough to stand for the present: attempts go on.
    fn is_fresh(&self, now: Instant) -> bool {
        now < self.last_interest + INTEREST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::types::{NodeId, NodeName, NodeNumber};

    const S: Duration = Duration::from_secs(1);

    fn member(state: MemberState) -> Member {
        Member {
            id: NodeId::from_digest([1; 32]),
            name: NodeName::parse("n1").unwrap(),
            number: NodeNumber::new(1).unwrap(),
            addresses: vec![],
            state,
            since: 0,
            incarnation: 1,
            version: String::new(),
        }
    }

    fn silent() -> Loss {
        ConnectError::Silent(String::new()).into()
    }

    fn refused() -> Loss {
        ConnectError::Refused(String::new()).into()
    }

    #[test]
    fn a_restarting_daemon_is_waited_for_and_a_silent_host_is_not() {
        let now = clock::now();
        let mut reach = Reach::new(now);
        assert_eq!(reach.verdict(now), None);
        reach.note_loss(now, &refused());
        assert_eq!(reach.verdict(now), None);
        assert!(reach.attempt_at(now, true).is_some_and(|at| at > now));
        assert_eq!(reach.attempt_at(now, false), None);
        reach.note_loss(now, &silent());
        assert_eq!(reach.verdict(now), Some(Errno::HostDown));
        reach.note_connected(now);
        assert_eq!(reach.verdict(now), None);
        reach.note_loss(now, &Loss::Silent);
        assert_eq!(reach.verdict(now), Some(Errno::HostDown));
    }

    #[test]
    fn a_silent_host_is_tried_while_anybody_is_interested_and_then_forgotten() {
        let now = clock::now();
        let mut reach = Reach::new(now);
        reach.note_interest(now);
        reach.note_loss(now, &silent());
        assert!(reach.attempt_at(now + 29 * S, false).is_some());
        assert_eq!(reach.attempt_at(now + 30 * S, false), None);
        assert_eq!(reach.verdict(now + 30 * S), None, "the next caller waits for an attempt");
        reach.note_interest(now + 31 * S);
        assert_eq!(reach.verdict(now + 31 * S), None);
        assert_eq!(reach.attempt_at(now + 31 * S, true), Some(now + 31 * S));
    }

    #[test]
    fn the_membership_has_the_last_word_and_its_new_word_is_tried_at_once() {
        let now = clock::now();
        let mut reach = Reach::new(now);
        reach.hear(now, Some(&member(MemberState::Suspect)), false);
        assert_eq!(reach.verdict(now), None);
        reach.hear(now, Some(&member(MemberState::Dead)), false);
        assert_eq!(reach.verdict(now), Some(Errno::HostDown));
        assert!(!reach.is_member(now) && !reach.is_removed());
        assert_eq!(reach.attempt_at(now, true), None);
        reach.note_loss(now, &silent());
        reach.hear(now, Some(&member(MemberState::Alive)), false);
        assert_eq!(reach.verdict(now), None);
        assert_eq!(reach.attempt_at(now, true), Some(now));
        reach.hear(now, None, false);
        assert!(reach.is_removed());
        assert_eq!(reach.verdict(now), Some(Errno::HostDown));
    }

    #[test]
    fn a_death_must_stand_for_a_moment_where_the_host_has_just_answered() {
        let now = clock::now();
        let dead = member(MemberState::Dead);
        for (silent, believed) in [(false, now + BELIEVED_AFTER), (true, now)] {
            let mut reach = Reach::new(now);
            reach.note_connected(now);
            reach.hear(now, Some(&dead), silent);
            assert_eq!(reach.verdict(now).is_some(), silent);
            assert_eq!(reach.dies_at(now), (!silent).then_some(believed));
            reach.hear(now + S / 4, Some(&dead), silent);
            assert_eq!(reach.verdict(believed), Some(Errno::HostDown));
            reach.hear(believed, Some(&member(MemberState::Alive)), false);
            assert_eq!(reach.verdict(believed), None);
        }
    }

    #[test]
    fn a_new_incarnation_is_tried_at_once() {
        let now = clock::now();
        let mut reach = Reach::new(now);
        reach.hear(now, Some(&member(MemberState::Alive)), false);
        reach.note_loss(now, &refused());
        assert!(reach.attempt_at(now, true).is_some_and(|at| at > now));
        let again = Member { incarnation: 2, ..member(MemberState::Alive) };
        reach.hear(now, Some(&again), false);
        assert_eq!(reach.attempt_at(now, true), Some(now));
    }

    #[test]
    fn what_a_person_must_mend_is_told_at_once_and_tried_seldom() {
        let now = clock::now();
        let mut reach = Reach::new(now);
        reach.note_loss(now, &ConnectError::Untrusted(String::new()).into());
        assert_eq!(reach.verdict(now), Some(Errno::KeyRejected));
        assert_eq!(reach.attempt_at(now, true), Some(now + SELDOM));
        let version = Refusal::new(ProtocolCode::UnsupportedVersion, "");
        reach.note_loss(now, &Loss::Refused(version));
        assert_eq!(reach.verdict(now), Some(Errno::Proto));
    }

    #[test]
    fn a_connection_that_was_up_is_made_again_at_once_and_one_that_was_not_is_not() {
        let now = clock::now();
        let mut reach = Reach::new(now);
        let ended = Loss::Ended(String::new());
        reach.note_connected(now);
        reach.note_loss(now + 2 * S, &ended);
        assert_eq!(reach.attempt_at(now + 2 * S, true), Some(now + 2 * S));
        reach.note_connected(now + 3 * S);
        reach.note_loss(now + 3 * S, &ended);
        assert!(reach.attempt_at(now + 3 * S, true).is_some_and(|at| at > now + 3 * S));
    }
}
