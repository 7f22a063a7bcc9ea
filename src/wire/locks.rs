//! Conversion of what nodes say to each other about the locks of processes that move.

use std::time::Duration;

use bytes::Bytes;
use mfs_proto::v1;

use super::cluster::{node_id, node_id_bytes};
use super::error::{Malformed, Problem};
use super::{field, value};
use crate::types::op::{LockHolder, TakenLock, Taking};
use crate::types::{InodeNo, LockOwner, NodeId, ParkingToken};

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
            namespace: lock.taking.namespace,
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
            taking: Taking {
                pid: lock.pid,
                namespace: lock.namespace,
                by: value::lock_holder(lock.by_description),
                parked: None,
            },
        })
    }
}

/// Locks are to be parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkLocks {
    /// Names them.
    pub token: ParkingToken,
    /// Who may claim them.
    pub target: NodeId,
    /// For how long at most.
    pub life: Duration,
    /// They.
    pub locks: Vec<TakenLock>,
}

impl From<ParkLocks> for v1::ParkLocksRequest {
    fn from(park: ParkLocks) -> Self {
        Self {
            token: field::encode_parked(Some(park.token)),
            target: node_id_bytes(park.target),
            life_ms: u32::try_from(park.life.as_millis()).unwrap_or(u32::MAX),
            locks: park.locks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::ParkLocksRequest> for ParkLocks {
    type Error = Malformed;

    fn try_from(park: v1::ParkLocksRequest) -> Result<Self, Malformed> {
        most("ParkLocksRequest.locks", park.locks.len(), MAX_LOCKS)?;
        Ok(Self {
            token: token("ParkLocksRequest.token", &park.token)?,
            target: node_id("ParkLocksRequest.target", &park.target)?,
            life: Duration::from_millis(park.life_ms.into()),
            locks: park.locks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

/// Which parking is to end.
///
/// # Errors
/// It has no name.
pub fn unparked(request: &v1::UnparkLocksRequest) -> Result<ParkingToken, Malformed> {
    token("UnparkLocksRequest.token", &request.token)
}

/// The question for the end of a parking.
pub fn unpark(token: ParkingToken) -> v1::UnparkLocksRequest {
    v1::UnparkLocksRequest { token: field::encode_parked(Some(token)) }
}

/// Under which name a process finds its parked locks again; none if it is not being restored.
///
/// # Errors
/// It is no name.
pub fn restoring(reply: &v1::RestoringReply) -> Result<Option<ParkingToken>, Malformed> {
    field::parked("RestoringReply.token", &reply.token)
}

/// The answer to that.
pub fn restoring_reply(token: Option<ParkingToken>) -> v1::RestoringReply {
    v1::RestoringReply { token: field::encode_parked(token) }
}

fn token(name: &'static str, bytes: &Bytes) -> Result<ParkingToken, Malformed> {
    field::parked(name, bytes)?.ok_or(Malformed::missing(name))
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
        taking: Taking { pid: 17, namespace: 18, by: LockHolder::Description, parked: None },
    };

    #[test]
    fn a_lock_arrives_as_it_was_sent() {
        let reply = v1::HeldLocksReply { locks: vec![LOCK.into()] };
        assert_eq!(held(reply), Ok(vec![LOCK]));
        let token = ParkingToken([3; 16]);
        let (target, life) = (NodeId::from_digest([4; 32]), Duration::from_secs(5));
        let park = ParkLocks { token, target, life, locks: vec![LOCK] };
        assert_eq!(ParkLocks::try_from(v1::ParkLocksRequest::from(park.clone())), Ok(park));
        assert_eq!(unparked(&unpark(token)), Ok(token));
        assert_eq!(restoring(&restoring_reply(Some(token))), Ok(Some(token)));
        assert_eq!(restoring(&restoring_reply(None)), Ok(None));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        assert!(TakenLock::try_from(v1::TakenLock::default()).is_err());
        let locks = vec![LOCK.into(); MAX_LOCKS + 1];
        assert!(held(v1::HeldLocksReply { locks }).is_err());
        assert!(ParkLocks::try_from(v1::ParkLocksRequest::default()).is_err());
        assert!(unparked(&v1::UnparkLocksRequest { token: Bytes::from_static(b"short") }).is_err());
        assert!(files(&v1::HeldLocksRequest { inos: vec![0] }).is_err());
    }
}
