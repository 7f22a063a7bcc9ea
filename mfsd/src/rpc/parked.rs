//! `ParkedLocks`: the locks of processes that move, between the session that has them and the one that gets them.
//!
//! A parked lock is held once more, beside the session that has it: that one goes on holding it, so that nothing
//! is to be undone when the move is. The node where the process is restored claims it, under the name of the
//! move, for the same file and range. What nobody claims is let go when the move is over, or its time.
//!
//! A machine without I/O and without a clock; what is held (`S`) is let go by being dropped, which may make system
//! calls, so it is handed out for that.

use std::collections::HashMap;
use std::time::Instant;

use mfs::types::op::{LockFamily, LockKind, LockRange, TakenLock};
use mfs::types::{InodeNo, LockOwner, NodeId, ParkingToken};

/// Most moves of one node whose locks are parked here.
const MOST_OF_NODE: usize = 256;

/// All that are parked.
#[derive(Debug)]
pub(super) struct ParkedLocks<S> {
    moves: HashMap<ParkingToken, Parked<S>>,
}

/// Those of one move.
#[derive(Debug)]
struct Parked<S> {
    source: NodeId,
    target: NodeId,
    until: Instant,
    carriers: Vec<Carrier<S>>,
}

/// What holds the locks of one owner on one file, or the lock of one open.
#[derive(Debug)]
struct Carrier<S> {
    ino: InodeNo,
    family: LockFamily,
    owner: LockOwner,
    locks: Vec<(LockKind, LockRange)>,
    held: S,
}

/// Who parks, for whom, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub(super) token: ParkingToken,
    pub(super) source: NodeId,
    pub(super) target: NodeId,
    pub(super) until: Instant,
}

/// Why nothing was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Another move has this name.
    #[error("locks are parked under this name already")]
    Known,
    /// There are too many.
    #[error("too many jobs of this node are moving: try again in a moment")]
    TooMany,
}

// === impl ParkedLocks ===

impl<S> Default for ParkedLocks<S> {
    fn default() -> Self {
        Self { moves: HashMap::new() }
    }
}

impl<S> ParkedLocks<S> {
    /// Parks the locks of a move.
    ///
    /// # Errors
    /// There are too many, or the name is taken.
    pub(super) fn park(
        &mut self,
        whose: Move,
        locks: impl IntoIterator<Item = (TakenLock, S)>,
    ) -> Result<(), Refused> {
        let Move { token, source, target, until } = whose;
        if self.moves.contains_key(&token) {
            return Err(Refused::Known);
        }
        if self.moves.values().filter(|parked| parked.source == source).count() >= MOST_OF_NODE {
            return Err(Refused::TooMany);
        }
        let mut carriers: Vec<Carrier<S>> = Vec::new();
        for (TakenLock { ino, family, owner, kind, range, .. }, held) in locks {
            let same = |c: &&mut Carrier<S>| (c.ino, c.family, c.owner) == (ino, family, owner);
            match carriers.iter_mut().find(same) {
                Some(carrier) => carrier.locks.push((kind, range)),
                None => {
                    let locks = vec![(kind, range)];
                    carriers.push(Carrier { ino, family, owner, locks, held });
                }
            }
        }
        self.moves.insert(token, Parked { source, target, until, carriers });
        Ok(())
    }

    /// The move of a node is over. What was not claimed, to be dropped.
    pub(super) fn unpark(&mut self, token: ParkingToken, source: NodeId) -> Vec<S> {
        match self.moves.get(&token) {
            Some(parked) if parked.source == source => self.take(token),
            _ => Vec::new(),
        }
    }

    /// What holds exactly this lock, if this node may have it; with it goes all that its owner has on the file.
    pub(super) fn claim(
        &mut self,
        token: ParkingToken,
        by: NodeId,
        wanted: &TakenLock,
        now: Instant,
    ) -> Option<S> {
        let parked = self.moves.get_mut(&token)?;
        if parked.target != by || now >= parked.until {
            return None;
        }
        let is_it = |carrier: &Carrier<S>| {
            let lock = (wanted.kind, wanted.range);
            let has = match wanted.family {
                LockFamily::Range => carrier.locks.contains(&lock),
                // It covers the file, whatever the range says.
                LockFamily::Flock => carrier.locks.iter().any(|(kind, _)| *kind == wanted.kind),
            };
            (carrier.ino, carrier.family) == (wanted.ino, wanted.family) && has
        };
        let place = parked.carriers.iter().position(is_it)?;
        Some(parked.carriers.swap_remove(place).held)
    }

    /// What nobody has claimed in time, to be dropped.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<S> {
        let late = self.moves.iter().filter(|(_, parked)| now >= parked.until);
        let late: Vec<_> = late.map(|(token, _)| *token).collect();
        late.into_iter().flat_map(|token| self.take(token)).collect()
    }

    fn take(&mut self, token: ParkingToken) -> Vec<S> {
        let parked = self.moves.remove(&token);
        let carriers = parked.map_or_else(Vec::new, |parked| parked.carriers);
        carriers.into_iter().map(|carrier| carrier.held).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mfs::clock;
    use mfs::types::op::Taking;

    use super::*;

    const TOKEN: ParkingToken = ParkingToken([7; 16]);

    fn node(number: u8) -> NodeId {
        NodeId::from_digest([number; 32])
    }

    fn lock(owner: u64, family: LockFamily, start: u64) -> TakenLock {
        TakenLock {
            ino: InodeNo::FIRST,
            family,
            owner: LockOwner(owner),
            kind: LockKind::Exclusive,
            range: LockRange { start, end: start + 9 },
            taking: Taking::default(),
        }
    }

    fn range(owner: u64, start: u64) -> TakenLock {
        lock(owner, LockFamily::Range, start)
    }

    /// Two locks of owner 1 and one of owner 2, parked from node 1 for node 2.
    fn parked(until: Instant) -> ParkedLocks<&'static str> {
        let mut all = ParkedLocks::default();
        let whose = Move { token: TOKEN, source: node(1), target: node(2), until };
        let locks = [(range(1, 0), "one"), (range(1, 20), "one"), (range(2, 40), "two")];
        all.park(whose, locks).unwrap();
        assert_eq!(all.park(whose, []), Err(Refused::Known));
        all
    }

    #[test]
    fn only_the_target_claims_only_what_was_parked_and_once() {
        let now = clock::now();
        let mut all = parked(now + Duration::from_secs(1));
        assert_eq!(all.claim(TOKEN, node(3), &range(9, 0), now), None);
        assert_eq!(all.claim(TOKEN, node(1), &range(9, 0), now), None);
        assert_eq!(all.claim(ParkingToken([8; 16]), node(2), &range(9, 0), now), None);
        assert_eq!(all.claim(TOKEN, node(2), &range(9, 1), now), None, "another range");
        let shared = TakenLock { kind: LockKind::Shared, ..range(9, 0) };
        assert_eq!(all.claim(TOKEN, node(2), &shared, now), None, "another kind");
        let flock = lock(9, LockFamily::Flock, 0);
        assert_eq!(all.claim(TOKEN, node(2), &flock, now), None, "another family");
        let elsewhere = TakenLock { ino: InodeNo::FIRST.next(), ..range(9, 0) };
        assert_eq!(all.claim(TOKEN, node(2), &elsewhere, now), None, "another file");
        assert_eq!(all.claim(TOKEN, node(2), &range(9, 20), now), Some("one"));
        assert_eq!(all.claim(TOKEN, node(2), &range(9, 0), now), None, "it went with the other");
        assert_eq!(all.unpark(TOKEN, node(2)), Vec::<&str>::new(), "it is not that node's");
        assert_eq!(all.unpark(TOKEN, node(1)), ["two"]);
        assert_eq!(all.unpark(TOKEN, node(1)), Vec::<&str>::new());
    }

    #[test]
    fn what_is_late_is_let_go() {
        let now = clock::now();
        let until = now + Duration::from_secs(1);
        let mut all = parked(until);
        assert_eq!(all.expire(now), Vec::<&str>::new());
        assert_eq!(all.claim(TOKEN, node(2), &range(9, 0), until), None);
        assert_eq!(all.expire(until), ["one", "two"]);
    }

    #[test]
    fn a_node_parks_for_so_many_moves() {
        let (now, mut all) = (clock::now(), ParkedLocks::default());
        let mut park = |number: usize, source| {
            let mut token = [0; 16];
            token[..8].copy_from_slice(&number.to_le_bytes());
            let token = ParkingToken(token);
            let whose = Move { token, source: node(source), target: node(2), until: now };
            all.park(whose, [(range(1, 0), ())])
        };
        for number in 0..MOST_OF_NODE {
            assert_eq!(park(number, 1), Ok(()));
        }
        assert_eq!(park(MOST_OF_NODE, 1), Err(Refused::TooMany));
        assert_eq!(park(MOST_OF_NODE, 3), Ok(()));
    }
}
