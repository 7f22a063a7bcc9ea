//! Recalls and returns of leases.

use mfs_proto::v1;

use super::error::Malformed;
use super::field;
use crate::types::{InodeNo, Leases};

/// Most files of one recall or return.
pub const MAX_LEASED: usize = 4_096;

/// A file and leases on it.
pub type Leased = (InodeNo, Leases);

/// The server asks for leases back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    /// Numbers the recalls of a session.
    pub id: u64,
    /// What to give back; 1 to [`MAX_LEASED`].
    pub files: Vec<Leased>,
    /// A session that has not answered after so many milliseconds is ended.
    pub deadline_ms: u32,
}

/// The client gives leases back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnLease {
    /// The recall that is answered, or 0.
    pub recall: u64,
    /// What is given back; 1 to [`MAX_LEASED`].
    pub files: Vec<Leased>,
}

impl From<Recall> for v1::Recall {
    fn from(recall: Recall) -> Self {
        Self {
            recall_id: recall.id,
            files: recall.files.into_iter().map(message).collect(),
            deadline_ms: recall.deadline_ms,
        }
    }
}

impl TryFrom<v1::Recall> for Recall {
    type Error = Malformed;

    fn try_from(recall: v1::Recall) -> Result<Self, Malformed> {
        Ok(Self {
            id: recall.recall_id,
            files: files("recall.files", recall.files)?,
            deadline_ms: recall.deadline_ms,
        })
    }
}

impl From<ReturnLease> for v1::ReturnLease {
    fn from(lease: ReturnLease) -> Self {
        Self { recall_id: lease.recall, files: lease.files.into_iter().map(message).collect() }
    }
}

impl TryFrom<v1::ReturnLease> for ReturnLease {
    type Error = Malformed;

    fn try_from(lease: v1::ReturnLease) -> Result<Self, Malformed> {
        // Of one's own motion nothing may be given back, too: nothing is left of before.
        if lease.recall_id == 0 && lease.files.is_empty() {
            return Ok(Self { recall: 0, files: Vec::new() });
        }
        Ok(Self { recall: lease.recall_id, files: files("return_lease.files", lease.files)? })
    }
}

fn message((ino, leases): Leased) -> v1::Leased {
    v1::Leased { ino: ino.get(), leases: leases.bits() }
}

fn files(field: &'static str, files: Vec<v1::Leased>) -> Result<Vec<Leased>, Malformed> {
    if files.is_empty() {
        return Err(Malformed::missing(field));
    }
    field::length_at_most(field, files.len(), MAX_LEASED)?;
    let leased = |leased: v1::Leased| {
        let ino = InodeNo::new(leased.ino).ok_or(Malformed::missing(field))?;
        // A kind that this side does not know it neither holds nor grants.
        Ok((ino, Leases::from_bits_truncate(leased.leases)))
    };
    files.into_iter().map(leased).collect()
}
