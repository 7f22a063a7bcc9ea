//! The keeper: the process that the daemon started, outside the job's namespaces. It begins a job or restores
//! one, waits for the first process inside, and sees to it that it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use mfs_init::{Notice, OrderError, Task, read_frame, write_frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, waitpid};

use crate::call::JobUser;
use crate::refusal::{OrRefuse, Refusal};
use crate::restore::restore;
use crate::{DAEMON, ORDERS, REPORTS, entry, sys};

/// What the first process has to end the job after the daemon is gone: more than it gives the job itself.
/// It may hang in a file of a home that is away.
const GRACE: Duration = Duration::from_secs(5);

/// The ends of what leads to the daemon. Standard input, output and error are the job's.
#[derive(Debug)]
pub(super) struct Ends {
    /// The keeper's own.
    pub daemon: UnixStream,
    /// For the first process.
    pub orders: OwnedFd,
    /// For the first process.
    pub reports: OwnedFd,
}

/// Keeps a job from its beginning to its end. `None`: no daemon has called.
pub(super) fn run(user: Option<JobUser>) -> Option<ExitCode> {
    let daemon = sys::inherited(DAEMON).ok().filter(is_socket).map(UnixStream::from)?;
    let (orders, reports) = (sys::inherited(ORDERS).ok()?, sys::inherited(REPORTS).ok()?);
    // What else was left open leads out of the view, for whoever may look at this process.
    sys::close_above(REPORTS).ok()?;
    let to_daemon = daemon.try_clone().ok()?;
    Some(match keep(Ends { daemon, orders, reports }, user) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            // A notice that cannot be sent has nobody to hear it: the daemon is gone.
            let _ = write_frame(&to_daemon, &Notice::Failed(refusal.sentence));
            ExitCode::FAILURE
        }
    })
}

fn is_socket(descriptor: &OwnedFd) -> bool {
    rustix::net::sockopt::socket_type(descriptor) == Ok(rustix::net::SocketType::STREAM)
}

fn keep(ends: Ends, user: Option<JobUser>) -> Result<(), Refusal> {
    sys::hold_signals().or_refuse("hold its signals")?;
    let task = read_frame::<Task>(&ends.daemon);
    let (daemon, first) = match task {
        Ok(Some(Task::Begin(setup))) => entry::begin(ends, &setup)?,
        Ok(Some(Task::Restore(brought))) => restore(ends, &brought, user)?,
        Ok(Some(Task::Go)) => return Err(Refusal::new("a job cannot begin by going on")),
        // The daemon is gone before it began.
        Ok(None) => return Ok(()),
        Err(OrderError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            return Ok(());
        }
        Err(error) => return Err(error).or_refuse("begin"),
    };
    let number = first.as_raw_pid().unsigned_abs();
    let _ = write_frame(&daemon, &Notice::First(number));
    let in_order = watch(&daemon, first);
    if !in_order {
        let _ = write_frame(&daemon, &Notice::Lost);
    }
    Ok(())
}

/// Waits until the first process has ended; answers whether it has ended in order, with its report.
fn watch(daemon: &UnixStream, first: Pid) -> bool {
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
