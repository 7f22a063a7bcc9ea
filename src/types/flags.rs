//! Flags of operations, with the protocol's own bits; `export::sys` translates them to the kernel's.

use bitflags::bitflags;

/// How an open file may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// O_RDONLY
    Read,
    /// O_WRONLY
    Write,
    /// O_RDWR
    ReadWrite,
}

bitflags! {
    /// The flags of open(2) that matter to a server, besides the access mode.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct OpenFlags: u32 {
        /// O_APPEND: the server appends, as one system call.
        const APPEND = 1 << 0;
        /// O_TRUNC
        const TRUNCATE = 1 << 1;
        /// O_EXCL (creation only)
        const EXCLUSIVE = 1 << 2;
        /// O_DIRECT
        const DIRECT = 1 << 3;
        /// O_SYNC
        const SYNC = 1 << 4;
        /// O_DSYNC
        const DSYNC = 1 << 5;
        /// O_NOATIME
        const NOATIME = 1 << 6;
        /// The kernel opens it to execute it (__FMODE_EXEC): x permission instead of r.
        const EXECUTE = 1 << 7;
        /// O_NONBLOCK: answer EWOULDBLOCK rather than wait for another's lease.
        const NONBLOCK = 1 << 8;
        /// The client has opened it already, under a lease that it has not returned: whether the caller may is
        /// not asked again.
        const LEASED = 1 << 9;
    }
}

bitflags! {
    /// What access(2) asks for; empty asks whether the file exists.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct AccessMode: u32 {
        /// R_OK
        const READ = 4;
        /// W_OK
        const WRITE = 2;
        /// X_OK
        const EXECUTE = 1;
    }
}

bitflags! {
    /// Flags of renameat2(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct RenameFlags: u32 {
        /// RENAME_NOREPLACE
        const NOREPLACE = 1 << 0;
        /// RENAME_EXCHANGE
        const EXCHANGE = 1 << 1;
        /// RENAME_WHITEOUT
        const WHITEOUT = 1 << 2;
    }
}

bitflags! {
    /// Modes of fallocate(2); empty allocates and extends.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct FallocateMode: u32 {
        /// FALLOC_FL_KEEP_SIZE
        const KEEP_SIZE = 1 << 0;
        /// FALLOC_FL_PUNCH_HOLE
        const PUNCH_HOLE = 1 << 1;
        /// FALLOC_FL_COLLAPSE_RANGE
        const COLLAPSE_RANGE = 1 << 2;
        /// FALLOC_FL_ZERO_RANGE
        const ZERO_RANGE = 1 << 3;
        /// FALLOC_FL_INSERT_RANGE
        const INSERT_RANGE = 1 << 4;
        /// FALLOC_FL_UNSHARE_RANGE
        const UNSHARE_RANGE = 1 << 5;
    }
}

bitflags! {
    /// The kinds of lease that a reply grants: the right to cache what it carries.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Leases: u32 {
        /// The file's data may be cached for reading.
        const DATA_READ = 1 << 0;
        /// The file's data may be cached and changed; exclusive.
        const DATA_WRITE = 1 << 1;
        /// Both of the data.
        const DATA = 0b11;
        /// Attributes, extended attributes, permissions.
        const ATTRIBUTES = 1 << 2;
        /// A directory's contents, and the absence of names in it.
        const DIRECTORY = 1 << 3;
        /// The open file may be kept and reopened without a message.
        const HANDLE = 1 << 4;
        /// Locks on the file may be granted without a message.
        const LOCK = 1 << 5;
        /// The file's data may be used this once: no lease is granted on it, and it is not to be kept.
        const DATA_ONCE = 1 << 6;
        /// The kernel knows how long the file is; asked back when it has become longer, and not given up by
        /// that.
        const LENGTH = 1 << 7;
    }
}

/// Which hole or data lseek(2) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeekWhence {
    /// SEEK_DATA
    Data,
    /// SEEK_HOLE
    Hole,
}

/// Whether setxattr(2) must find the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetXattrMode {
    /// Create or replace.
    Any,
    /// XATTR_CREATE: fails if it exists.
    Create,
    /// XATTR_REPLACE: fails if it does not.
    Replace,
}

// === impl Access ===

impl Access {
    /// Whether data may be read.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether data may be written.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}
