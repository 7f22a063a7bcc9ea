//! Recalls and returns of leases.

use mfs_proto::v1;

use super::error::Malformed;
use super::field;
use crate::types::{FileId, Leases};

/// The server asks for leases back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    /// Numbers the recalls of a session.
    pub id: u64,
    /// The file.
    pub file: FileId,
    /// What to give back.
    pub leases: Leases,
    /// After so many milliseconds the server takes them.
    pub deadline_ms: u32,
}

/// The client gives leases back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnLease {
    /// The recall that is answered, or 0.
    pub recall: u64,
    /// The file.
    pub file: FileId,
    /// What is given back.
    pub leases: Leases,
}

impl From<Recall> for v1::Recall {
    fn from(recall: Recall) -> Self {
        Self {
            recall_id: recall.id,
            file: recall.file.as_bytes().clone(),
            leases: recall.leases.bits(),
            deadline_ms: recall.deadline_ms,
        }
    }
}

impl TryFrom<v1::Recall> for Recall {
    type Error = Malformed;

    fn try_from(recall: v1::Recall) -> Result<Self, Malformed> {
        Ok(Self {
            id: recall.recall_id,
            file: field::file("recall.file", &recall.file)?,
            // A kind that this side does not know it cannot hold.
            leases: Leases::from_bits_truncate(recall.leases),
            deadline_ms: recall.deadline_ms,
        })
    }
}

impl From<ReturnLease> for v1::ReturnLease {
    fn from(lease: ReturnLease) -> Self {
        Self {
            recall_id: lease.recall,
            file: lease.file.as_bytes().clone(),
            leases: lease.leases.bits(),
        }
    }
}

impl TryFrom<v1::ReturnLease> for ReturnLease {
    type Error = Malformed;

    fn try_from(lease: v1::ReturnLease) -> Result<Self, Malformed> {
        Ok(Self {
            recall: lease.recall_id,
            file: field::file("return_lease.file", &lease.file)?,
            leases: field::flags("return_lease.leases", lease.leases)?,
        })
    }
}
