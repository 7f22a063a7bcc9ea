//! What the session must know of an operation: how it travels, what it leaves behind, whether it may be
//! done again. Pure facts, one exhaustive `match` each where a new operation must be thought about.

use crate::types::op::{Flush, LockKind, Operation, Read, Release, SetLock, Write};
use crate::types::{FallocateMode, OpenFlags, OpenId, SetTime, SetXattrMode};

/// How an operation queues. Each class has its own limit, so that none can starve another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Opening again and taking locks again in a new session; before everything else.
    Reclaim,
    /// Small requests that are answered soon.
    Control,
    /// Locks that may be waited for: unlocking must not queue behind them.
    LockWait,
    /// File data.
    Bulk,
    /// File data of the kernel's page cache. Of its own, since what another session waits for may not queue
    /// behind what waits for that session.
    Pages,
}

// === impl Class ===

impl Class {
    pub(super) const ALL: [Self; 5] =
        [Self::Reclaim, Self::Control, Self::LockWait, Self::Pages, Self::Bulk];

    /// The class in which callers' operations of this kind queue.
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::SetLock(SetLock { wait: true, .. }) => Self::LockWait,
            Operation::Read(Read { pages: true, .. })
            | Operation::Write(Write { pages: true, .. }) => Self::Pages,
            _ if operation.is_bulk() => Self::Bulk,
            _ => Self::Control,
        }
    }
}

/// The opens that an operation needs, so that it must wait while they are opened again.
pub(crate) fn opens_of(operation: &Operation) -> impl Iterator<Item = OpenId> + use<> {
    let (first, second) = match operation {
        Operation::GetAttr(o) => (o.open, None),
        Operation::SetAttributes(o) => (o.open, None),
        Operation::Read(o) => (Some(o.open), None),
        Operation::Write(o) => (Some(o.open), None),
        Operation::Flush(o) => (Some(o.open), None),
        Operation::Release(o) => (Some(o.open), None),
        Operation::Sync(o) => (Some(o.open), None),
        Operation::ReadDir(o) => (Some(o.open), None),
        Operation::Fallocate(o) => (Some(o.open), None),
        Operation::Seek(o) => (Some(o.open), None),
        Operation::CopyRange(o) => (Some(o.source), Some(o.target)),
        Operation::GetLock(o) => (Some(o.open), None),
        Operation::SetLock(o) => (Some(o.open), None),
        Operation::Lookup(_)
        | Operation::ReadLink(_)
        | Operation::MakeNode(_)
        | Operation::MakeDir(_)
        | Operation::MakeSymlink(_)
        | Operation::Link(_)
        | Operation::Unlink(_)
        | Operation::RemoveDir(_)
        | Operation::Rename(_)
        | Operation::Open(_)
        | Operation::Create(_)
        | Operation::StatFsOf(_)
        | Operation::CheckAccess(_)
        | Operation::GetXattr(_)
        | Operation::SetXattr(_)
        | Operation::ListXattr(_)
        | Operation::RemoveXattr(_) => (None, None),
    };
    first.into_iter().chain(second)
}

/// Whether an operation of which nobody knows if it was done may be done (again): its second execution
/// brings the state, and the answer, that its only one would have brought. `appends` says whether an
/// open has O_APPEND.
pub(crate) fn may_repeat(operation: &Operation, appends: impl Fn(OpenId) -> bool) -> bool {
    match operation {
        // Positions are absolute, unless the end of the file decides.
        Operation::Write(o) => !appends(o.open),
        Operation::CopyRange(o) => !appends(o.target),
        // The new session holds exactly the locks that were acknowledged.
        Operation::SetLock(_) => true,
        // A size set again would cut off what others wrote behind it meanwhile; `Now` would be later.
        Operation::SetAttributes(o) => {
            o.set.size.is_none()
                && o.set.atime != Some(SetTime::Now)
                && o.set.mtime != Some(SetTime::Now)
        }
        // Finds the file that the first execution made.
        Operation::Create(o) => !o.flags.contains(OpenFlags::EXCLUSIVE),
        Operation::SetXattr(o) => o.mode == SetXattrMode::Any,
        // Only to allocate is the same twice; the other modes would destroy what came between.
        Operation::Fallocate(o) => FallocateMode::KEEP_SIZE.contains(o.mode),
        _ => !operation.is_once_only(),
    }
}

/// What must be done when the operation has succeeded for a caller who gave it up, so that the server
/// keeps nothing that nobody knows of.
pub(super) fn undo_of(operation: &Operation) -> Option<Operation> {
    match operation {
        Operation::Open(o) => Some(Release { open: o.open }.into()),
        Operation::Create(o) => Some(Release { open: o.open }.into()),
        Operation::SetLock(o) if o.kind != LockKind::Unlock => {
            Some(SetLock { kind: LockKind::Unlock, wait: false, ..o.clone() }.into())
        }
        _ => None,
    }
}

/// Whether it does no harm when the operation is done although its caller was told that it failed, as
/// long as it is undone then.
pub(super) fn ends_harmlessly(operation: &Operation) -> bool {
    match operation {
        Operation::SetLock(_) => true,
        Operation::Open(o) => !o.flags.contains(OpenFlags::TRUNCATE),
        _ => false,
    }
}

/// Whether the operation must reach the server even when its caller has given up: it ends something that
/// the server holds for the session.
pub(super) fn must_happen(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Release(_)
            | Operation::Flush(Flush { owner: Some(_), .. })
            | Operation::SetLock(SetLock { kind: LockKind::Unlock, .. })
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::op::{LockFamily, LockRange, SetAttributes, Taking};
    use crate::types::{FileId, LockOwner, SetAttr};

    fn lock(kind: LockKind, wait: bool) -> Operation {
        SetLock {
            open: OpenId::FIRST,
            owner: LockOwner(1),
            family: LockFamily::Range,
            kind,
            range: LockRange::ALL,
            wait,
            taking: Taking::default(),
        }
        .into()
    }

    #[test]
    fn only_locks_that_are_waited_for_queue_apart() {
        assert_eq!(Class::of(&lock(LockKind::Exclusive, true)), Class::LockWait);
        assert_eq!(Class::of(&lock(LockKind::Exclusive, false)), Class::Control);
        assert_eq!(Class::of(&lock(LockKind::Unlock, false)), Class::Control);
    }

    #[test]
    fn a_write_may_be_repeated_unless_it_appends() {
        let write = Write {
            open: OpenId::FIRST,
            offset: 0,
            data: Bytes::from_static(b"x"),
            pages: false,
            known: None,
        }
        .into();
        assert!(may_repeat(&write, |_| false));
        assert!(!may_repeat(&write, |_| true));
    }

    #[test]
    fn attributes_may_be_set_again_unless_size_or_the_clock_is_among_them() {
        let file = FileId::from_bytes(Bytes::from_static(b"f")).unwrap();
        let set = |set| SetAttributes { file: file.clone(), open: None, set }.into();
        let again = |set: Operation| may_repeat(&set, |_| false);
        assert!(again(set(SetAttr { mode: Some(0o600), ..SetAttr::default() })));
        assert!(!again(set(SetAttr { size: Some(0), ..SetAttr::default() })));
        assert!(!again(set(SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() })));
    }

    #[test]
    fn a_lock_that_nobody_wants_any_more_is_undone() {
        assert_eq!(undo_of(&lock(LockKind::Shared, true)), Some(lock(LockKind::Unlock, false)));
        assert_eq!(undo_of(&lock(LockKind::Unlock, false)), None);
        assert!(must_happen(&lock(LockKind::Unlock, false)));
    }
}
