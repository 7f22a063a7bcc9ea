//! What jobs need of the system and safe code cannot say: descriptors under numbers that a keeper knows, and those of
//! other processes.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use mfs::types::op::LockRange;

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

/// Whether two descriptors, each of a process, are of one open description (kcmp(2)).
pub(super) fn is_same_description(one: (u32, i32), other: (u32, i32)) -> bool {
    const KCMP_FILE: libc::c_long = 0;
    let ((pid, fd), (other_pid, other_fd)) = (one, other);
    // SAFETY: all arguments are integers, and nothing is written.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            libc::c_long::from(pid),
            libc::c_long::from(other_pid),
            KCMP_FILE,
            libc::c_long::from(fd),
            libc::c_long::from(other_fd),
        )
    };
    order == 0
}

/// Whether this open description could lock a range exclusively: nobody else has a lock there.
pub(super) fn is_range_free(fd: &OwnedFd, range: LockRange) -> io::Result<bool> {
    let offset = |number: u64| libc::off_t::try_from(number).unwrap_or(libc::off_t::MAX);
    let to_end = range.end == u64::MAX;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset(range.start),
        l_len: if to_end { 0 } else { offset(range.end - range.start + 1) },
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and `lock` is what this command reads and writes.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::from(lock.l_type) == libc::F_UNLCK)
}
