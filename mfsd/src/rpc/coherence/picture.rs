//! `Holdings`: who may remember what of a file, and what waits for them, for people.

use std::time::Duration;

use mfs::clock;
use mfs::lease::{ChangeId, Held};
use mfs::types::{InodeNo, Leases, SessionId};

use super::{Asker, Coherence};

/// What is remembered and changed of one file, for people. Times are lengths, up to now.
#[derive(Debug, Default)]
pub(in crate::rpc) struct Holdings {
    pub(in crate::rpc) leases: Vec<Holding>,
    pub(in crate::rpc) changes: Vec<Pending>,
    /// Nothing is changed for so long at most.
    pub(in crate::rpc) grace: Option<Duration>,
}

/// What one session may remember.
#[derive(Debug)]
pub(in crate::rpc) struct Holding {
    pub(in crate::rpc) session: SessionId,
    pub(in crate::rpc) leases: Leases,
    /// Since it was granted the first of them.
    pub(in crate::rpc) held: Option<Duration>,
    /// Since it was asked for them.
    pub(in crate::rpc) asked: Option<Duration>,
    /// Since something was received from it.
    pub(in crate::rpc) silent: Duration,
    /// Until they end if nothing more is received from it.
    pub(in crate::rpc) left: Duration,
}

/// A change that is not done.
#[derive(Debug)]
pub(in crate::rpc) struct Pending {
    pub(in crate::rpc) session: Option<SessionId>,
    pub(in crate::rpc) leases: Leases,
    /// Where it waits: for whom, and since when.
    pub(in crate::rpc) waits: Option<(Asker, Duration)>,
}

// === impl Coherence ===

impl Coherence {
    /// Who may remember what of a file, and what waits for them.
    pub(in crate::rpc) fn holdings(&self, ino: InodeNo) -> Holdings {
        let inner = self.inner.lock();
        let (grantor, now) = (&inner.grantor, clock::since_boot());
        let ago = |then: Duration| now.saturating_sub(then);
        let holding = |held: Held| {
            let heard = grantor.heard(held.session).unwrap_or(now);
            Holding {
                session: held.session,
                leases: held.leases,
                held: held.since.map(ago),
                asked: held.asked.map(ago),
                silent: ago(heard),
                left: (heard + inner.term).saturating_sub(now),
            }
        };
        let pending = |(id, session, leases, _): (ChangeId, Option<SessionId>, Leases, bool)| {
            let waits = inner.waiting.get(&id).map(|delayed| (delayed.asker, ago(delayed.since)));
            Pending { session, leases, waits }
        };
        Holdings {
            leases: grantor.holders_of(ino).into_iter().map(holding).collect(),
            changes: grantor.changes_of(ino).into_iter().map(pending).collect(),
            grace: grantor.grace_until().map(|until| until.saturating_sub(now)),
        }
    }
}
