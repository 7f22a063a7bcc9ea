//! What the tests of mfs-init need of the system beyond the safe libraries: a child that has descriptors
//! under the numbers that the daemon gives them.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Arranges that `command`'s child has these descriptors as 3, 4, and so on.
pub(super) fn give(command: &mut Command, descriptors: Vec<OwnedFd>) {
    // Out of the way of the numbers that they are to have.
    let above = descriptors.into_iter().map(|descriptor| {
        rustix::io::fcntl_dupfd_cloexec(descriptor, 20).expect("there is room for a descriptor")
    });
    let above: Vec<OwnedFd> = above.collect();
    let in_child = move || {
        for (number, descriptor) in (3..).zip(&above) {
            // SAFETY: both are numbers of descriptors of the child alone.
            if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing, takes no lock
    // and touches no memory but its own captured descriptors.
    unsafe { command.pre_exec(in_child) };
}
