//! What the tests of mfs-init need of the system beyond the safe libraries: a child that has a socket as its
//! descriptor 3.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Arranges that `command`'s child has `socket` as descriptor 3.
pub(super) fn give_as_3(command: &mut Command, socket: OwnedFd) {
    let in_child = move || {
        // SAFETY: both are numbers of descriptors of the child alone; dup2 of one to itself would leave it
        // close-on-exec, so that is cleared in any case.
        let failed = unsafe {
            libc::dup2(socket.as_raw_fd(), 3) == -1 || libc::fcntl(3, libc::F_SETFD, 0) == -1
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing, takes no lock
    // and touches no memory but its own captured descriptor.
    unsafe { command.pre_exec(in_child) };
}
