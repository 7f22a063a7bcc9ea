//! `MountConfig`: everything a mount needs to know, proven.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;

/// A mount as asked for. Made by `args`; used by the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountConfig {
    /// First field of the fstab line; shown by findmnt(8) and df(1), otherwise without meaning.
    pub source: OsString,
    /// Absolute, without links.
    pub mountpoint: PathBuf,
    /// `dfsa=1`: files whose home is this node are used directly.
    pub direct_access: bool,
    /// `timeo=`: how long an operation waits for another node.
    pub timeout: Duration,
    /// `hard`: wait for ever instead (killable).
    pub hard: bool,
    /// What the kernel itself is told.
    pub flags: MountFlags,
    /// Where mfsd's socket lies.
    pub runtime: PathBuf,
    /// Where the last known members lie.
    pub state: PathBuf,
}

impl MountConfig {
    /// Default of `timeo=`: longer than a recall and a grace period.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// Device nodes are never usable, and set-uid programs only with `suid`.
    pub const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
}
