//! Processes of a lab, found and ended without mistaking one for another whose id was used again.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process that runs, held by a descriptor that never means another one.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    fd: OwnedFd,
}

/// A process as a file can name it: ids are used again, but not with the same time of start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Its id in the machine's namespace.
    pub pid: i32,
    /// Its start, clock ticks since boot (field 22 of /proc/PID/stat).
    pub started: u64,
}

// === impl Process ===

impl Process {
    /// The process with this id; `None` when there is none, or only the remains of one.
    pub(super) fn open(pid: i32) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let process = Self { pid, fd };
        (!process.gone_within(Duration::ZERO)).then_some(process)
    }

    /// The process with this id, which may have ended: a child that was not waited for.
    pub(super) fn child(id: u32) -> std::io::Result<Self> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, fd })
    }

    /// The process of this stamp, if it still runs.
    pub(super) fn of(stamp: Stamp) -> Option<Self> {
        // The descriptor comes first: what is read afterwards is said of the process it holds.
        let process = Self::open(stamp.pid)?;
        (process.stamp()? == stamp).then_some(process)
    }

    /// All processes whose arguments, after the name of the program, begin with `words`.
    pub(super) fn called(words: &[OsString]) -> Vec<Self> {
        let is_called = |process: &Self| {
            let Ok(line) = fs::read(format!("/proc/{}/cmdline", process.id())) else {
                return false;
            };
            // Each argument ends with a zero byte, so an empty piece follows the last.
            let mut arguments = line.split(|&byte| byte == 0).skip(1);
            words
                .iter()
                .all(|word| arguments.next().is_some_and(|found| found == word.as_encoded_bytes()))
                && arguments.next().is_some()
        };
        every_id().filter_map(Self::open).filter(is_called).collect()
    }

    /// All processes in the process namespace whose first process this is, with their names as the
    /// kernel keeps them (15 bytes).
    pub(super) fn inside(&self) -> Vec<(Self, OsString)> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(own) = namespace(self.id()) else { return Vec::new() };
        every_id()
            .filter_map(Self::open)
            .filter(|process| namespace(process.id()).is_some_and(|other| other == own))
            .filter_map(|process| {
                let mut name = fs::read(format!("/proc/{}/comm", process.id())).ok()?;
                name.pop();
                Some((process, OsString::from_vec(name)))
            })
            .collect()
    }

    /// Those of them that have one of these names.
    pub(super) fn named(&self, names: &[&str]) -> Vec<Self> {
        let inside = self.inside().into_iter();
        let is_one = |name: &OsString| names.iter().any(|n| name == n);
        inside.filter(|(_, name)| is_one(name)).map(|(process, _)| process).collect()
    }

    /// Its id in the machine's namespace.
    pub(super) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its stamp; `None` when it has just ended.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        // The name in parentheses may hold blanks and parentheses; after the last one come plain fields,
        // of which the start is the 20th.
        let started = text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Stamp { pid: self.id(), started })
    }

    /// Whether it is stopped by a signal.
    pub(super) fn is_stopped(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.id()))
            .ok()
            .and_then(|text| {
                text.rsplit_once(')').map(|(_, rest)| rest.trim_start().starts_with('T'))
            })
            .unwrap_or(false)
    }

    /// Sends a signal; says nothing when it has ended meanwhile.
    pub(super) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended, at most this long; for the first process of a namespace this means that
    /// all processes in it have.
    pub(super) fn gone_within(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let timeout = Timespec::try_from(patience).ok();
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref())).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The ids of all processes that this one can see.
fn every_id() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_by_its_words_and_ended_once() {
        // Unlike any other process of this machine, by the id of this test's own process.
        let seconds = format!("10{}", std::process::id());
        let mut child = Command::new("sleep").arg(&seconds).stdin(Stdio::null()).spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        let stamp = Process::open(id).unwrap().stamp().unwrap();

        // Until the fork has become `sleep` it has this test's own arguments.
        let found = std::iter::repeat_with(|| Process::called(&[OsString::from(&seconds)]))
            .find(|found| !found.is_empty())
            .unwrap();
        assert_eq!(found.iter().map(Process::id).collect::<Vec<_>>(), [id]);
        assert!(Process::called(&[OsString::from(&seconds), OsString::from("1")]).is_empty());
        assert!(Process::of(Stamp { started: stamp.started + 1, ..stamp }).is_none());

        let process = Process::of(stamp).unwrap();
        assert!(!process.gone_within(Duration::ZERO));
        process.signal(Signal::KILL).unwrap();
        assert!(process.gone_within(Duration::from_secs(10)));
        assert!(Process::of(stamp).is_none(), "what is left of a process is no process");
        child.wait().unwrap();
        process.signal(Signal::KILL).unwrap();
    }
}
