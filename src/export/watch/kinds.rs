//! Which file systems can be watched: those whose files are changed through this kernel alone, in which an
//! event names a file as its id does, and which say of each directory whether it folds case. In all others
//! somebody else may change files, and no event says so.

use std::io;
use std::os::fd::BorrowedFd;

use super::sys;
use crate::export::mountinfo::{self, MountLine};
use crate::export::mounts;

const XFS: u64 = 0x5846_5342;
const OVERLAY: u64 = 0x794c_7630;

/// `f_type` of statfs(2).
const WATCHED: &[u64] = &[
    0xef53, // ext2, ext3, ext4
    XFS,
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0xca45_1a4e, // bcachefs
    0x3434,      // NILFS2
    0x0102_1994, // tmpfs
    OVERLAY,
];

/// Options of an overlay without which its files have other handles once they are copied up, or events
/// name the file system of its upper layer in place of its own.
const OVERLAY_OPTIONS: &[&str] = &["nfs_export=on", "uuid=on"];

/// The `f_fsid` by which events name the file system that `door` lies in.
///
/// # Errors
/// `Unsupported` if it cannot be watched; those of asking for what it is.
pub(super) fn watchable(door: BorrowedFd<'_>) -> io::Result<u64> {
    let fsid = rustix::fs::fstatvfs(door)?.f_fsid;
    let kind = rustix::fs::fstatfs(door)?.f_type as u64;
    let fits = match kind {
        _ if fsid == 0 || !WATCHED.contains(&kind) => false,
        XFS => !folds_case(sys::xfs_flags(door)?),
        OVERLAY => {
            let id = mounts::stat(door).map_err(io::Error::other)?.stx_mnt_id;
            mountinfo::read()?.iter().find(|line| line.id == id).is_some_and(has_own_handles)
        }
        _ => true,
    };
    if fits { Ok(fsid) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Whether an XFS file system takes names for equal that differ in ASCII capitals (`mkfs.xfs -n
/// version=ci`); its directories do not say so.
const fn folds_case(flags: u32) -> bool {
    /// `XFS_FSOP_GEOM_FLAGS_DIRV2CI` of `xfs_fs.h`.
    const DIRV2CI: u32 = 1 << 12;
    flags & DIRV2CI != 0
}

fn has_own_handles(overlay: &MountLine) -> bool {
    OVERLAY_OPTIONS.iter().all(|option| overlay.has_option(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xfs_that_folds_case_is_known_by_its_geometry() {
        // As Linux 6.18 says it of a file system that mkfs.xfs 6.1 made; version=ci adds one bit.
        assert!(!folds_case(0x0077_cdca));
        assert!(folds_case(0x0077_ddca));
    }

    #[test]
    fn an_overlay_needs_handles_that_last_and_an_id_of_its_own() {
        let line = |options: &str| {
            let text =
                format!("40 27 0:47 / /o rw - overlay overlay rw,lowerdir=/,upperdir=/u,{options}");
            MountLine::parse(text.as_bytes()).unwrap()
        };
        assert!(has_own_handles(&line("workdir=/w,index=on,uuid=on,nfs_export=on")));
        assert!(!has_own_handles(&line("index=on,uuid=on")));
        assert!(!has_own_handles(&line("index=on,nfs_export=on")));
        assert!(!has_own_handles(&line("index=on,nfs_export=on,uuid=null")));
    }
}
