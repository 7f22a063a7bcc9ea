//! The terminal of a job: a pair of the job's own devpts, whose master goes to the daemon.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mfs::jobs::{OrderError, Report, Setup, Terminal, write_frame};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, open};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pty::{ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::refusal::{OrRefuse, Refusal};

/// Both ends.
#[derive(Debug)]
pub(super) struct Pair {
    /// For the daemon.
    pub master: OwnedFd,
    /// For the program.
    pub slave: OwnedFd,
}

// === impl Pair ===

impl Pair {
    /// Opens a terminal inside the view, of this size, that belongs to the job's user.
    pub(super) fn open(setup: &Setup, size: Terminal) -> Result<Self, Refusal> {
        Self::try_open(setup, size).or_refuse("have a terminal")
    }

    fn try_open(setup: &Setup, size: Terminal) -> rustix::io::Result<Self> {
        // O_NOCTTY: it is the program's controlling terminal, not that of the namespace's first process.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = open("/dev/ptmx", flags, Mode::empty())?;
        unlockpt(&master)?;
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size)?;
        let slave = open(ptsname(&master, Vec::new())?, flags, Mode::empty())?;
        // The group stays tty (the mount's gid=5), for write(1) and its like.
        fchown(&slave, Some(Uid::from_raw(setup.uid)), None::<Gid>)?;
        fchmod(&slave, Mode::from_raw_mode(0o620))?;
        Ok(Self { master, slave })
    }
}

/// Reports that the program runs, with the master of its terminal in the same message.
pub(super) fn report_running(daemon: &UnixStream, master: &OwnedFd) -> Result<(), OrderError> {
    let mut frame = Vec::new();
    write_frame(&mut frame, &Report::Running)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master.as_fd()];
    // The space is that of one descriptor.
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(daemon, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(std::io::Error::from)?;
    // A stream may take less than all; the descriptor went with the first byte.
    std::io::Write::write_all(&mut &*daemon, &frame[sent..])?;
    Ok(())
}
