//! Whether an open description of a process holds a lock: tried on the description itself, without a change.
//!
//! An exclusive lock of flock(2) is granted once more to the description that has it, and to no other; and one of
//! ranges stands in the way of every description but its own.

use std::os::fd::OwnedFd;

use mfs::types::op::{LockFamily, TakenLock};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::matching::{Description, Holds};
use super::opened::Opened;
use crate::jobs::{processes, sys};

/// Asks the kernel.
pub(super) struct Probe;

/// Descriptors with their descriptions: those with equal numbers are one.
pub(super) fn descriptions<'a>(opened: &[&'a Opened]) -> Vec<(&'a Opened, Description)> {
    let mut known: Vec<(&Opened, Description)> = Vec::new();
    for (number, opened) in opened.iter().enumerate() {
        let same = known.iter().find(|(other, _)| {
            other.ino == opened.ino
                && sys::is_same_description((other.process, other.fd), (opened.process, opened.fd))
        });
        let description = same.map_or(number, |(_, description)| *description);
        known.push((opened, description));
    }
    known
}

// === impl Probe ===

impl Holds for Probe {
    fn is_there(&self, process: u32) -> bool {
        processes::is_there(process)
    }

    fn holds(&self, opened: &Opened, lock: &TakenLock) -> Option<bool> {
        let fd = take(opened).ok()?;
        match lock.family {
            LockFamily::Flock => match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Some(true),
                Err(Errno::WOULDBLOCK) => Some(false),
                Err(_) => None,
            },
            LockFamily::Range => sys::is_range_free(&fd, lock.range).ok(),
        }
    }
}

/// The description itself, under a number of this process.
fn take(opened: &Opened) -> rustix::io::Result<OwnedFd> {
    let process = i32::try_from(opened.process).ok().and_then(Pid::from_raw);
    let process = pidfd_open(process.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    pidfd_getfd(process, opened.fd, PidfdGetfdFlags::empty())
}
