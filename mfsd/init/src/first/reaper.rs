//! The first process of a job's namespace while the program runs: buries whoever ends, passes signals on, and
//! ends everything when the program has ended or the daemon is gone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mfs_init::{Ended, Order, Report, read_frame, write_frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use rustix::time::{ClockId, clock_gettime};

use crate::program::Started;
use crate::refusal::{OrRefuse, Refusal};
use crate::relay::Relay;
use crate::sys;

/// What a job has between the hang-up and its end, when its daemon is gone.
const GRACE: Duration = Duration::from_secs(2);

/// The state of a job.
#[derive(Debug)]
pub(super) struct Reaper<'a> {
    orders: File,
    reports: &'a File,
    children: OwnedFd,
    program: Pid,
    /// Until it is known whether the program runs.
    outcome: Option<File>,
    /// Its terminal.
    relay: Option<Relay>,
    /// The daemon is gone, and this is when the job is.
    deadline: Option<Duration>,
}

/// What can be done without waiting.
#[derive(Debug, Clone, Copy, Default)]
struct Ready {
    outcome: bool,
    children: bool,
    orders: bool,
}

// === impl Reaper ===

impl<'a> Reaper<'a> {
    /// For a program that was just started.
    pub(super) fn new(
        orders: File,
        reports: &'a File,
        started: Started,
        relay: Option<Relay>,
    ) -> Result<Self, Refusal> {
        let Started { pid: program, outcome } = started;
        let children = sys::children().or_refuse("watch its processes")?;
        let outcome = Some(outcome);
        Ok(Self { orders, reports, children, program, outcome, relay, deadline: None })
    }

    /// Until the program has ended, or could not be run; answers the last report.
    pub(super) fn run(mut self) -> Report {
        let report = loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(report)) => break report,
                // None is known to happen; without a loop there is nobody to end the job later.
                Err(_) => break Report::Ended(Ended::Killed(Signal::KILL.as_raw())),
            }
        };
        end_all();
        if let Some(relay) = self.relay.take() {
            relay.finish(&self.orders);
        }
        report
    }

    /// One wait, and what it brought.
    fn turn(&mut self) -> io::Result<Option<Report>> {
        let ready = self.wait()?;
        if ready.outcome
            && let Some(report) = self.hear_outcome()
        {
            return Ok(Some(report));
        }
        if ready.children
            && let Some(how) = self.bury()?
        {
            // Who dies before it has become its program closes the pipe, too: first things first.
            let failed = self.hear_outcome();
            return Ok(Some(failed.unwrap_or(Report::Ended(how))));
        }
        if ready.orders {
            self.obey();
        }
        if let Some(relay) = &mut self.relay {
            relay.pass();
        }
        if self.deadline.is_some_and(|deadline| now() >= deadline) {
            return Ok(Some(Report::Ended(Ended::Killed(Signal::KILL.as_raw()))));
        }
        Ok(None)
    }

    /// Waits for the outcome, the end of a process, the daemon, or the terminal.
    fn wait(&self) -> io::Result<Ready> {
        // Orders wait until the program can obey them; the daemon's end (POLLHUP) does not.
        let orders = if self.outcome.is_some() { PollFlags::empty() } else { PollFlags::IN };
        let mut polled = vec![PollFd::new(&self.children, PollFlags::IN)];
        polled.extend(self.outcome.as_ref().map(|outcome| PollFd::new(outcome, PollFlags::IN)));
        // Gone is gone: its descriptor would be ready all the time.
        if self.deadline.is_none() {
            polled.push(PollFd::new(&self.orders, orders));
        }
        let known = polled.len();
        polled.extend(self.relay.iter().flat_map(Relay::awaited));
        let left = self.deadline.map(|deadline| deadline.saturating_sub(now()));
        let left = left.map(|left| left.try_into()).transpose().map_err(io::Error::other)?;
        rustix::io::retry_on_intr(|| poll(&mut polled, left.as_ref()))?;
        let mut ready = polled[..known].iter().map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            children: ready.next() == Some(true),
            outcome: self.outcome.is_some() && ready.next() == Some(true),
            orders: self.deadline.is_none() && ready.next() == Some(true),
        })
    }

    /// Takes note that the program runs, and tells the daemon; or answers why it does not.
    fn hear_outcome(&mut self) -> Option<Report> {
        let outcome = self.outcome.take()?;
        if let Ok(Some(failed)) = read_frame::<Report>(outcome) {
            return Some(failed);
        }
        self.report(&Report::Running);
        None
    }

    fn report(&mut self, report: &Report) {
        if write_frame(self.reports, report).is_err() {
            self.hang_up();
        }
    }

    /// Buries all who have ended, and reports a stop of the program; answers how, if the program is one of them.
    fn bury(&mut self) -> io::Result<Option<Ended>> {
        // Only woken by it: who ended is asked of the kernel, since signals of one number become one.
        let mut signals = [0; 1024];
        let _ = rustix::io::read(&self.children, &mut signals);
        let mut how = None;
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid == self.program => match status.stopping_signal() {
                    Some(signal) => {
                        // What it has shown comes first: whoever is told shows nothing more.
                        self.relay.iter_mut().for_each(Relay::flush);
                        self.report(&Report::Stopped(signal));
                    }
                    None => how = Some(end_of(status)),
                },
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(how),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does what the daemon says.
    fn obey(&mut self) {
        let order = match self.outcome {
            Some(_) => None,
            None => read_frame::<Order>(&self.orders).ok().flatten(),
        };
        match order {
            // That the group has just ended, or that there is no such signal, is nobody's fault.
            Some(Order::Signal(signal)) => drop(sys::signal_group(self.program, signal)),
            Some(Order::Size(size)) => {
                if let Some(relay) = &self.relay {
                    relay.resize(size);
                }
            }
            Some(Order::Foreground(is_its)) => {
                let own = rustix::process::getpgrp();
                let group = if is_its { self.program } else { own };
                self.relay.iter().for_each(|relay| relay.give(group));
            }
            None => self.hang_up(),
        }
    }

    /// The daemon is gone: tells the program as a terminal would, once.
    fn hang_up(&mut self) {
        if self.deadline.is_none() {
            self.deadline = Some(now() + GRACE);
            let _ = sys::signal_group(self.program, Signal::HUP.as_raw());
            // Who is stopped could not hear it.
            let _ = sys::signal_group(self.program, Signal::CONT.as_raw());
        }
    }
}

/// The monotonic time.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Ends all other processes of the namespace, and waits until they are gone.
fn end_all() {
    sys::kill_all_others();
    while !matches!(wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {}
}

/// How a process ended.
fn end_of(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Ended::Exited((status & 0xff) as u8),
        (None, signal) => Ended::Killed(signal.unwrap_or(Signal::KILL.as_raw())),
    }
}
