//! Conversion of what nodes say to each other when a job moves.

use bytes::Bytes;
use mfs_proto::v1;

use super::cluster::{node_id, node_id_bytes};
use super::error::{Malformed, Problem};
use super::field;
use super::job::StartJob;
use crate::jobs::{ImagesToken, Streams};
use crate::types::NodeId;

/// Most bytes of input that a job may leave unread: what a host holds for it, and a pipe of the largest size.
pub const MAX_UNREAD: usize = 2 << 20;

/// A node is to make images of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreezeJob {
    /// Names the images.
    pub token: ImagesToken,
    /// Who may fetch them.
    pub target: NodeId,
}

/// There are images of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFrozen {
    /// All of them, bytes.
    pub bytes: u64,
    /// Its streams as the images name them.
    pub streams: Streams,
    /// Input that it had not taken.
    pub unread: Bytes,
}

/// A node is to bring a job from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreJob {
    /// What was run, as it was begun.
    pub start: StartJob,
    /// Who has the images.
    pub source: NodeId,
    /// Names them.
    pub token: ImagesToken,
    /// What the source said.
    pub frozen: JobFrozen,
}

fn token(field: &'static str, bytes: &Bytes) -> Result<ImagesToken, Malformed> {
    let exact: Result<[u8; 16], _> = bytes[..].try_into();
    let wrong = Problem::TooLong { length: bytes.len(), limit: 16 };
    exact.map(ImagesToken).map_err(|_| Malformed::new(field, wrong))
}

impl From<FreezeJob> for v1::FreezeJob {
    fn from(freeze: FreezeJob) -> Self {
        let token = Bytes::copy_from_slice(&freeze.token.0);
        Self { token, target: node_id_bytes(freeze.target) }
    }
}

impl TryFrom<v1::FreezeJob> for FreezeJob {
    type Error = Malformed;

    fn try_from(freeze: v1::FreezeJob) -> Result<Self, Malformed> {
        Ok(Self {
            token: token("FreezeJob.token", &freeze.token)?,
            target: node_id("FreezeJob.target", &freeze.target)?,
        })
    }
}

impl TryFrom<v1::ImagesRequest> for ImagesToken {
    type Error = Malformed;

    fn try_from(request: v1::ImagesRequest) -> Result<Self, Malformed> {
        token("ImagesRequest.token", &request.token)
    }
}

impl From<JobFrozen> for v1::JobFrozen {
    fn from(frozen: JobFrozen) -> Self {
        let Streams { input, output, error, orders, reports } = frozen.streams;
        let streams = vec![input, output, error, orders, reports];
        Self { bytes: frozen.bytes, streams, unread: frozen.unread }
    }
}

impl TryFrom<v1::JobFrozen> for JobFrozen {
    type Error = Malformed;

    fn try_from(frozen: v1::JobFrozen) -> Result<Self, Malformed> {
        field::length_at_most("JobFrozen.unread", frozen.unread.len(), MAX_UNREAD)?;
        let streams: Result<[u64; 5], _> = frozen.streams.try_into();
        let [input, output, error, orders, reports] =
            streams.map_err(|_| Malformed::missing("JobFrozen.streams"))?;
        let streams = Streams { input, output, error, orders, reports };
        Ok(Self { bytes: frozen.bytes, streams, unread: frozen.unread })
    }
}

impl From<RestoreJob> for v1::RestoreJob {
    fn from(restore: RestoreJob) -> Self {
        Self {
            start: Some(restore.start.into()),
            source: node_id_bytes(restore.source),
            token: Bytes::copy_from_slice(&restore.token.0),
            frozen: Some(restore.frozen.into()),
        }
    }
}

impl TryFrom<v1::RestoreJob> for RestoreJob {
    type Error = Malformed;

    fn try_from(restore: v1::RestoreJob) -> Result<Self, Malformed> {
        let start = restore.start.ok_or(Malformed::missing("RestoreJob.start"))?;
        let frozen = restore.frozen.ok_or(Malformed::missing("RestoreJob.frozen"))?;
        Ok(Self {
            start: start.try_into()?,
            source: node_id("RestoreJob.source", &restore.source)?,
            token: token("RestoreJob.token", &restore.token)?,
            frozen: frozen.try_into()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen() -> JobFrozen {
        let streams = Streams { input: 1, output: 2, error: 3, orders: 4, reports: u64::MAX };
        JobFrozen { bytes: 7, streams, unread: Bytes::from_static(b"rest") }
    }

    #[test]
    fn what_is_said_arrives_as_it_was_sent() {
        let freeze =
            FreezeJob { token: ImagesToken([9; 16]), target: NodeId::from_digest([8; 32]) };
        assert_eq!(FreezeJob::try_from(v1::FreezeJob::from(freeze)), Ok(freeze));
        assert_eq!(JobFrozen::try_from(v1::JobFrozen::from(frozen())), Ok(frozen()));
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        let mut few = v1::JobFrozen::from(frozen());
        few.streams.pop();
        assert!(JobFrozen::try_from(few).is_err());
        let much = JobFrozen { unread: vec![0; MAX_UNREAD + 1].into(), ..frozen() };
        assert!(JobFrozen::try_from(v1::JobFrozen::from(much)).is_err());
        let short = v1::ImagesRequest { token: Bytes::from_static(b"short") };
        assert!(ImagesToken::try_from(short).is_err());
        assert!(RestoreJob::try_from(v1::RestoreJob::default()).is_err());
    }
}
