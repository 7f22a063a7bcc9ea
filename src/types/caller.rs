//! `Caller`: on whose behalf an operation is done.

use smallvec::SmallVec;

/// The process that asks: its file-system identity on its own node, as the peer vouches for it.
///
/// Users are the same by number on every node (docs/SECURITY.md says what that means); root is
/// squashed by the server unless the vouching peer's root is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// File-system user id (fsuid).
    pub uid: u32,
    /// File-system group id (fsgid).
    pub gid: u32,
    /// Supplementary groups. At most [`Caller::MAX_GROUPS`].
    pub groups: SmallVec<[u32; 8]>,
    /// Process id in the peer's initial namespace; 0 where unknown. For messages only, never a decision.
    pub pid: u32,
    /// The process's file-mode creation mask, which the server applies where no default ACL does.
    pub umask: u32,
    /// File capabilities the process has; root without them (in a container) is not full root.
    pub capabilities: Capabilities,
}

bitflags::bitflags! {
    /// The capabilities of capabilities(7) that concern files; all others are irrelevant to a server.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Capabilities: u32 {
        /// CAP_CHOWN
        const CHOWN = 1 << 0;
        /// CAP_DAC_OVERRIDE
        const DAC_OVERRIDE = 1 << 1;
        /// CAP_DAC_READ_SEARCH
        const DAC_READ_SEARCH = 1 << 2;
        /// CAP_FOWNER
        const FOWNER = 1 << 3;
        /// CAP_FSETID
        const FSETID = 1 << 4;
        /// CAP_SETFCAP
        const SETFCAP = 1 << 5;
        /// CAP_MKNOD
        const MKNOD = 1 << 6;
        /// CAP_SYS_ADMIN, as far as trusted.* attributes go
        const SYS_ADMIN = 1 << 7;
        /// CAP_SYS_RESOURCE: reserved blocks and quotas
        const SYS_RESOURCE = 1 << 8;
        /// CAP_LINUX_IMMUTABLE
        const LINUX_IMMUTABLE = 1 << 9;
        /// CAP_LEASE
        const LEASE = 1 << 10;
    }
}

// === impl Caller ===

impl Caller {
    /// Most supplementary groups, as Linux itself allows (NGROUPS_MAX).
    pub const MAX_GROUPS: usize = 65_536;

    /// The superuser with every file capability and no umask.
    pub fn root() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: SmallVec::new(),
            pid: 0,
            umask: 0,
            capabilities: Capabilities::all(),
        }
    }

    /// An ordinary user without capabilities.
    pub fn user(uid: u32, gid: u32, groups: &[u32]) -> Self {
        Self {
            uid,
            gid,
            groups: SmallVec::from_slice(groups),
            pid: 0,
            umask: 0,
            capabilities: Capabilities::empty(),
        }
    }
}
