//! Conversion of what nodes say to each other about the locks of processes that move.

use mfs_proto::v1;

use super::error::{Malformed, Problem};
use super::{field, value};
use crate::types::op::{LockHolder, TakenLock, Taking};
use crate::types::{InodeNo, LockOwner};

/// Most files of one question.
pub const MAX_FILES: usize = 65_536;

/// Most locks of one answer.
pub const MAX_LOCKS: usize = 4_096;

impl From<TakenLock> for v1::TakenLock {
    fn from(lock: TakenLock) -> Self {
        Self {
            ino: lock.ino.get(),
            family: value::encode_family(lock.family),
            owner: lock.owner.0,
            kind: value::encode_lock_kind(lock.kind),
            start: lock.range.start,
            end: lock.range.end,
            pid: lock.taking.pid,
            by_description: lock.taking.by == LockHolder::Description,
        }
    }
}

impl TryFrom<v1::TakenLock> for TakenLock {
    type Error = Malformed;

    fn try_from(lock: v1::TakenLock) -> Result<Self, Malformed> {
        Ok(Self {
            ino: field::ino("TakenLock.ino", lock.ino)?,
            family: value::decode_family("TakenLock.family", lock.family)?,
            owner: LockOwner(lock.owner),
            kind: value::decode_lock_kind("TakenLock.kind", lock.kind)?,
            range: value::decode_range("TakenLock.end", lock.start, lock.end)?,
            taking: Taking { pid: lock.pid, by: value::lock_holder(lock.by_description) },
        })
    }
}

/// The files that a question is about.
///
/// # Errors
/// There are too many, or one has no number.
pub fn files(request: &v1::HeldLocksRequest) -> Result<Vec<InodeNo>, Malformed> {
    most("HeldLocksRequest.inos", request.inos.len(), MAX_FILES)?;
    request.inos.iter().map(|ino| field::ino("HeldLocksRequest.inos", *ino)).collect()
}

/// The locks of an answer.
///
/// # Errors
/// There are too many, or one is malformed.
pub fn held(reply: v1::HeldLocksReply) -> Result<Vec<TakenLock>, Malformed> {
    most("HeldLocksReply.locks", reply.locks.len(), MAX_LOCKS)?;
    reply.locks.into_iter().map(TryInto::try_into).collect()
}

fn most(field: &'static str, length: usize, limit: usize) -> Result<(), Malformed> {
    if length > limit {
        return Err(Malformed::new(field, Problem::TooLong { length, limit }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::op::{LockFamily, LockKind, LockRange};

    const LOCK: TakenLock = TakenLock {
        ino: InodeNo::FIRST,
        family: LockFamily::Range,
        owner: LockOwner(7),
        kind: LockKind::Exclusive,
        range: LockRange { start: 5, end: 9 },
        taking: Taking { pid: 17, by: LockHolder::Description },
    };

    #[test]
    fn a_lock_arrives_as_it_was_sent() {
        let reply = v1::HeldLocksReply { locks: vec![LOCK.into()] };
        assert_eq!(held(reply), Ok(vec![LOCK]));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        assert!(TakenLock::try_from(v1::TakenLock::default()).is_err());
        let locks = vec![LOCK.into(); MAX_LOCKS + 1];
        assert!(held(v1::HeldLocksReply { locks }).is_err());
        assert!(files(&v1::HeldLocksRequest { inos: vec![0] }).is_err());
    }
}
