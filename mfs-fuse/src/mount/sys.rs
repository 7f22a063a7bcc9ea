//! The system calls of a daemon that Rust has no safe form of: fork(2), and closing what others opened.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Which side of a fork this is.
pub(super) enum Side {
    /// The caller.
    Parent,
    /// The new process.
    Child,
}

/// Forks.
///
/// # Preconditions
/// * The process has a single thread: in a child of several, locks that other threads held stay held.
///
/// # Errors
/// No memory, or a limit on processes.
pub(super) fn fork() -> io::Result<Side> {
    // SAFETY: the callers are in `daemonize`, before any thread was started (checked there), so the child
    // may go on to use everything that the parent could.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => Ok(Side::Parent),
    }
}

/// Keeps of all descriptors the standard streams and `kept`, which gets the number 3.
///
/// # Preconditions
/// * No object but `kept` owns a descriptor above 2.
///
/// # Errors
/// The kernel is older than 5.9 (no close_range(2)).
pub(super) fn keep_only(kept: OwnedFd) -> io::Result<OwnedFd> {
    const PLACE: i32 = 3;
    let kept = if kept.as_raw_fd() == PLACE {
        kept
    } else {
        // SAFETY: whatever descriptor 3 is, it is the caller's leftover and owned by no object of this
        // process (precondition), so replacing it takes it from nobody; dup3 returns it as new and ours.
        unsafe {
            if libc::dup3(kept.as_raw_fd(), PLACE, libc::O_CLOEXEC) == -1 {
                return Err(io::Error::last_os_error());
            }
            drop(kept);
            OwnedFd::from_raw_fd(PLACE)
        }
    };
    // SAFETY: no object owns a descriptor above 3 (precondition), so nobody will use or close them again.
    match unsafe { libc::syscall(libc::SYS_close_range, PLACE + 1, u32::MAX, 0) } {
        0 => Ok(kept),
        _ => Err(io::Error::last_os_error()),
    }
}
