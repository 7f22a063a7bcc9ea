//! What jobs need of the system and safe code cannot say: descriptors under numbers that a keeper knows.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives the program that is about to be started these descriptors, under 3 and the numbers after it.
pub(super) fn pass(command: &mut Command, descriptors: Vec<OwnedFd>) {
    const FIRST: i32 = 3;
    let above = FIRST + descriptors.len() as i32;
    let pass = move || {
        let mut number = FIRST;
        // Those that lie under a number that is still to be given first go out of the way; the copies above
        // are closed by execve(2).
        let mut apart = [-1; 8];
        for (place, fd) in apart.iter_mut().zip(&descriptors) {
            // SAFETY: this command of fcntl(2) takes an integer; the descriptor is open.
            *place = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
            if *place < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for fd in apart.iter().take(descriptors.len()) {
            // SAFETY: both are numbers of descriptors; what `number` was in the child of fork(2) is of no use
            // to it, but for the originals, of which there are copies.
            if unsafe { libc::dup2(*fd, number) } < 0 {
                return Err(io::Error::last_os_error());
            }
            number += 1;
        }
        Ok(())
    };
    // SAFETY: between fork(2) and execve(2) it makes system calls only, and neither allocates nor locks.
    unsafe { command.pre_exec(pass) };
}
