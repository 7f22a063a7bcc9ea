//! The keeper: the process that the daemon started, outside the job's namespace. It waits for the first
//! process inside, and sees to it that it ends.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, waitpid};

use crate::sys;

/// What the first process has to end the job after the daemon is gone: more than it gives the job itself.
/// It may hang in a file of a home that is away.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until the first process has ended; answers whether it has ended in order, with its report.
pub(super) fn keep(daemon: &UnixStream, first: Pid) -> bool {
    // The streams are the job's; held open here, nobody would see their end.
    if let Ok(null) = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = sys::replace_standard_streams(&null);
    }
    if let Ok(process) = pidfd_open(first, PidfdFlags::empty()) {
        let ended = PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN);
        let gone = PollFd::new(daemon, PollFlags::RDHUP);
        let woken = rustix::io::retry_on_intr(|| poll(&mut [ended.clone(), gone.clone()], None));
        let grace = GRACE.try_into().ok();
        let in_time = rustix::io::retry_on_intr(|| poll(&mut [ended.clone()], grace.as_ref()));
        if woken.is_err() || in_time != Ok(1) {
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        }
    }
    let end = rustix::io::retry_on_intr(|| waitpid(Some(first), WaitOptions::empty()));
    matches!(end, Ok(Some((_, status))) if status.exit_status() == Some(0))
}
