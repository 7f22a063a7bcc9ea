//! A read-only export: one gate before all operations, so that none can be forgotten.

use crate::types::op::Operation;
use crate::types::{AccessMode, Errno, OpenFlags};

/// Lets an operation through that changes nothing.
///
/// # Errors
/// EROFS for all others.
pub(super) fn admit(operation: &Operation) -> Result<(), Errno> {
    let changes = match operation {
        Operation::SetAttributes(_)
        | Operation::MakeNode(_)
        | Operation::MakeDir(_)
        | Operation::MakeSymlink(_)
        | Operation::Link(_)
        | Operation::Unlink(_)
        | Operation::RemoveDir(_)
        | Operation::Rename(_)
        | Operation::Create(_)
        | Operation::Write(_)
        | Operation::SetXattr(_)
        | Operation::RemoveXattr(_)
        | Operation::Fallocate(_)
        | Operation::CopyRange(_) => true,
        Operation::Open(open) => open.access.writes() || open.flags.contains(OpenFlags::TRUNCATE),
        Operation::CheckAccess(check) => check.mode.contains(AccessMode::WRITE),
        Operation::Lookup(_)
        | Operation::GetAttr(_)
        | Operation::ReadLink(_)
        | Operation::Read(_)
        | Operation::Flush(_)
        | Operation::Release(_)
        | Operation::Sync(_)
        | Operation::ReadDir(_)
        | Operation::StatFsOf(_)
        | Operation::GetXattr(_)
        | Operation::ListXattr(_)
        | Operation::Seek(_)
        | Operation::GetLock(_)
        | Operation::SetLock(_) => false,
    };
    if changes { Err(Errno::RoFs) } else { Ok(()) }
}
