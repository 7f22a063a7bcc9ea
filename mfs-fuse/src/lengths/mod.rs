//! Has the kernel see how long a file of the own mount is, which it refuses to load beyond (SIGBUS).
//!
//! The kernel takes a length from the answer to a question of its own only. FUSE_NOTIFY_STORE would raise it, too,
//! but puts bytes into a page that may have been changed meanwhile. So the file is looked at as by any program:
//! by its number, which is its handle (fs/fuse/inode.c, `fuse_encode_fh`), as long as the kernel has it in memory.
//! The questions come to this very program, so this must not be called by a thread that answers any.

mod sys;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mfs::types::InodeNo;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

/// How often it is looked. The kernel drops the answer if the length was changed through it meanwhile.
const MOST_LOOKS: usize = 16;

/// Has the kernel ask how long the file with this number is.
///
/// # Errors
/// `ESTALE`: the kernel does not have it. What the mount answers.
pub(crate) fn look(mountpoint: &Path, ino: InodeNo) -> io::Result<()> {
    let file = open(mountpoint, ino)?;
    for _ in 0..MOST_LOOKS {
        let told = length(&file, AtFlags::STATX_FORCE_SYNC)?;
        if length(&file, AtFlags::STATX_DONT_SYNC)? == told {
            break;
        }
    }
    Ok(())
}

/// Opens (O_PATH) the file with this number.
///
/// # Errors
/// `ESTALE`: the kernel does not have it.
pub(crate) fn open(mountpoint: &Path, ino: InodeNo) -> io::Result<OwnedFd> {
    // Not O_PATH, which open_by_handle_at(2) refuses. Not kept: it would hold the mount.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount = rustix::fs::open(mountpoint, flags, Mode::empty())?;
    sys::open_by_number(mount.as_fd(), ino)
}

/// How long a file is: as its home says, or as the kernel has it.
fn length(file: &OwnedFd, sync: AtFlags) -> io::Result<u64> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH | sync, StatxFlags::SIZE)?;
    Ok(stat.stx_size)
}
