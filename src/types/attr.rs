//! Attributes: what `stat(2)` shows of a file, and what may be set of it.

use super::InodeNo;

/// The kind of a file, `st_mode & S_IFMT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe; a local object of each node.
    Fifo,
    /// Unix socket; a local object of each node.
    Socket,
    /// Character device: visible, not usable.
    CharDevice,
    /// Block device: visible, not usable.
    BlockDevice,
}

/// A point of the file system's time: seconds since the epoch (may be negative) and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// 0..1_000_000_000
    pub nanos: u32,
}

/// The attributes of a file (statx(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attr {
    /// The file's number, equal on every node.
    pub ino: InodeNo,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits and set-uid, set-gid, sticky (`st_mode & 0o7777`).
    pub mode: u16,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size, bytes.
    pub size: u64,
    /// Space allocated, units of 512 bytes.
    pub blocks: u64,
    /// Preferred I/O size, bytes.
    pub block_size: u32,
    /// Device number of a device node (major, minor); (0, 0) else.
    pub rdev: (u32, u32),
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Creation, where the file system has it.
    pub btime: Option<Timestamp>,
}

/// Which data a regular file has, as far as its attributes tell: what is written changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DataVersion {
    /// Last change of the attributes or the data: of two versions the later one has the later one.
    pub ctime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Size, bytes.
    pub size: u64,
}

/// A time to set: the server's own clock, or one given (UTIME_NOW or not; UTIME_OMIT is `None` outside).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The file system's current time. Needs only write permission (utimensat(2)).
    Now,
    /// This time. Needs ownership.
    To(Timestamp),
}

/// The attributes to change; `None` leaves one as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// New permission bits (12 bits).
    pub mode: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size, bytes.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
}

/// What `statvfs(3)` shows of the file system that holds a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatFs {
    /// Unit of the block counts, bytes.
    pub fragment_size: u32,
    /// Preferred I/O size, bytes.
    pub block_size: u32,
    /// Total blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for ordinary users.
    pub blocks_available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, bytes.
    pub name_max: u32,
}

// === impl DataVersion ===

impl DataVersion {
    /// Of the file that has these attributes.
    pub const fn of(attr: &Attr) -> Self {
        Self { ctime: attr.ctime, mtime: attr.mtime, size: attr.size }
    }

    /// Whether both are of the same data. A change of nothing but the attributes (chmod(2), rename(2)) is
    /// none of the data.
    pub fn is_same_data(&self, other: &Self) -> bool {
        (self.mtime, self.size) == (other.mtime, other.size)
    }
}

// === impl FileKind ===

impl FileKind {
    /// The file-type bits of `st_mode`.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
        }
    }

    /// The kind in a `st_mode`; `None` if its file-type bits are none that Linux has.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_attributes_is_none_of_the_data() {
        let at = |seconds| Timestamp { seconds, nanos: 5 };
        let version = DataVersion { ctime: at(1), mtime: at(1), size: 3 };
        assert!(version.is_same_data(&DataVersion { ctime: at(2), ..version }));
        assert!(!version.is_same_data(&DataVersion { mtime: at(2), ..version }));
        assert!(!version.is_same_data(&DataVersion { size: 4, ..version }));
    }

    #[test]
    fn kinds_survive_the_mode_bits() {
        for kind in [
            FileKind::Regular,
            FileKind::Directory,
            FileKind::Symlink,
            FileKind::Fifo,
            FileKind::Socket,
            FileKind::CharDevice,
            FileKind::BlockDevice,
        ] {
            assert_eq!(FileKind::from_mode(kind.mode_bits() | 0o644), Some(kind));
        }
        assert_eq!(FileKind::from_mode(0o644), None);
    }
}
