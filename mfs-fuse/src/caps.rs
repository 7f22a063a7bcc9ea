//! Every capability of the kernel's FUSE protocol that this mount asks for or refuses, with the reason.
//!
//! Bits are those of `FUSE_INIT` in include/uapi/linux/fuse.h.

/// What is wanted of a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Asked for where the kernel offers it.
    Wanted,
    /// Never asked for.
    Refused,
}

/// A capability.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capability {
    /// Its bit in the flags of FUSE_INIT.
    pub(crate) bit: u32,
    /// Its name in fuse.h, without `FUSE_`.
    pub(crate) name: &'static str,
    /// Whether it is asked for.
    pub(crate) wish: Wish,
    /// Why.
    pub(crate) reason: &'static str,
}

/// Local files given to the kernel as backing files.
pub(crate) const PASSTHROUGH: u64 = 1 << 37;

const fn wanted(bit: u32, name: &'static str, reason: &'static str) -> Capability {
    Capability { bit, name, wish: Wish::Wanted, reason }
}

const fn refused(bit: u32, name: &'static str, reason: &'static str) -> Capability {
    Capability { bit, name, wish: Wish::Refused, reason }
}

/// All capabilities that ABI 7.40 knows, in the order of their bits.
pub(crate) const CAPABILITIES: &[Capability] = &[
    wanted(0, "ASYNC_READ", "several reads of one file under way at once"),
    wanted(1, "POSIX_LOCKS", "locks are taken on the real file at its home"),
    wanted(3, "ATOMIC_O_TRUNC", "open and truncation are one step at the home"),
    refused(4, "EXPORT_SUPPORT", "re-export over NFS is not supported: a number is no handle"),
    wanted(5, "BIG_WRITES", "writes of more than a page"),
    wanted(6, "DONT_MASK", "the home applies the umask, unless a default ACL does"),
    refused(7, "SPLICE_WRITE", "fuser does not splice"),
    refused(8, "SPLICE_MOVE", "fuser does not splice"),
    refused(9, "SPLICE_READ", "fuser does not splice"),
    wanted(10, "FLOCK_LOCKS", "flock(2) is taken on the real file at its home"),
    refused(11, "IOCTL_DIR", "no ioctl is passed on"),
    refused(
        12,
        "AUTO_INVAL_DATA",
        "it wins over EXPLICIT_INVAL_DATA and drops the sole writer's pages",
    ),
    refused(
        13,
        "DO_READDIRPLUS",
        "without leases its attributes are old at once: work for nothing",
    ),
    refused(14, "READDIRPLUS_AUTO", "goes with DO_READDIRPLUS"),
    wanted(15, "ASYNC_DIO", "direct reads and writes in parallel"),
    refused(
        16,
        "WRITEBACK_CACHE",
        "makes this node's sizes and times win over the home's; excludes passthrough",
    ),
    refused(17, "NO_OPEN_SUPPORT", "opens are kept at the home"),
    wanted(18, "PARALLEL_DIROPS", "lookups and listings of one directory at once"),
    refused(19, "HANDLE_KILLPRIV", "HANDLE_KILLPRIV_V2 is the better one"),
    wanted(20, "POSIX_ACL", "the kernel's own checks must know the lists that the home applies"),
    refused(21, "ABORT_ERROR", "an aborted mount ends its reader threads either way"),
    wanted(22, "MAX_PAGES", "requests of 1 MiB"),
    refused(23, "CACHE_SYMLINKS", "without leases a link's target may be old"),
    refused(24, "NO_OPENDIR_SUPPORT", "listings go on through an open directory"),
    wanted(25, "EXPLICIT_INVAL_DATA", "the home decides when cached pages are old"),
    refused(26, "MAP_ALIGNMENT", "only for DAX"),
    refused(27, "SUBMOUNTS", "one file system for the whole mount"),
    wanted(
        28,
        "HANDLE_KILLPRIV_V2",
        "the home clears set-id bits; spares a request for each write",
    ),
    refused(29, "SETXATTR_EXT", "fuser 0.18 ends the session on it"),
    refused(32, "SECURITY_CTX", "labels belong to the home"),
    refused(33, "HAS_INODE_DAX", "no shared memory with the home"),
    refused(34, "CREATE_SUPP_GROUP", "all groups are known, not only one"),
    refused(35, "HAS_EXPIRE_ONLY", "nothing is invalidated while nothing is cached"),
    wanted(36, "DIRECT_IO_ALLOW_MMAP", "shared mappings of files that are not cached otherwise"),
    wanted(37, "PASSTHROUGH", "direct access: the kernel reads and writes local files itself"),
    refused(38, "NO_EXPORT_SUPPORT", "handles of open files are harmless"),
    refused(39, "HAS_RESEND", "this mount ends with its process"),
    refused(40, "ALLOW_IDMAP", "users are the same by number on all nodes"),
    refused(41, "OVER_IO_URING", "fuser 0.18 does not speak it"),
    refused(42, "REQUEST_TIMEOUT", "it would end the whole mount for one slow node"),
];

/// The bits to ask for of those that the kernel offers.
pub(crate) fn wanted_of(offered: u64) -> u64 {
    CAPABILITIES.iter().filter(|c| c.wish == Wish::Wanted).fold(0, |bits, c| bits | 1 << c.bit)
        & offered
}

/// Wanted capabilities that the kernel does not offer, for the log.
pub(crate) fn missing_of(offered: u64) -> impl Iterator<Item = &'static Capability> {
    CAPABILITIES.iter().filter(move |c| c.wish == Wish::Wanted && offered >> c.bit & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_stands_once_with_a_reason() {
        for pair in CAPABILITIES.windows(2) {
            assert!(pair[0].bit < pair[1].bit, "{} and {}", pair[0].name, pair[1].name);
        }
        assert!(CAPABILITIES.iter().all(|c| !c.reason.is_empty()));
    }

    #[test]
    fn what_would_break_the_session_is_never_asked_for() {
        let all = wanted_of(u64::MAX);
        for (bit, name) in [(29, "SETXATTR_EXT"), (16, "WRITEBACK_CACHE"), (41, "OVER_IO_URING")] {
            assert_eq!(all >> bit & 1, 0, "{name}");
        }
        assert_eq!(all & PASSTHROUGH, PASSTHROUGH);
        assert_eq!(wanted_of(0), 0);
        assert_eq!(missing_of(u64::MAX).count(), 0);
    }
}
