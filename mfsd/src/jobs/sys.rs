//! What jobs need of the system and safe code cannot say: a socket under a number that the first process knows, and
//! a terminal that is read when there is something to read.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::OFlags;
use tokio::io::unix::AsyncFd;

/// The number under which a job's first process finds its socket to the daemon.
const CONTROL: i32 = 3;

/// Gives the program that is about to be started this socket, as descriptor 3.
pub(super) fn pass_control(command: &mut Command, control: OwnedFd) {
    let pass = move || {
        let fd = control.as_raw_fd();
        let passed = if fd == CONTROL {
            // dup2(2) of a descriptor to itself leaves it to be closed.
            // SAFETY: these commands of fcntl(2) take an integer; the descriptor is open.
            unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }
        } else {
            // SAFETY: both are numbers of descriptors; what 3 was in the child of fork(2) is of no use to it.
            unsafe { libc::dup2(fd, CONTROL) }
        };
        if passed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork(2) and execve(2) it makes system calls only, and neither allocates nor locks.
    unsafe { command.pre_exec(pass) };
}

/// A descriptor that is read and written without waiting, when it is ready.
///
/// # Errors
/// Those of fcntl(2) and epoll_ctl(2).
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    // SAFETY: an OwnedFd names the same open descriptor as long as it lives.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}
