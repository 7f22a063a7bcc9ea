//! The terminal of a job: a pair of the job's own devpts. Both ends stay inside, so that they can be carried
//! with the job; the first process passes on what is typed and shown (`relay`).

use std::os::fd::OwnedFd;

use mfs_init::{Setup, Terminal};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, open};
use rustix::pty::{ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::refusal::{OrRefuse, Refusal};
use crate::sys;

/// Both ends.
#[derive(Debug)]
pub(super) struct Pair {
    /// For who types and looks. It never blocks.
    pub master: OwnedFd,
    /// For the program.
    pub slave: OwnedFd,
}

// === impl Pair ===

impl Pair {
    /// Opens a terminal inside the view, of this size, that belongs to the job's user. It controls this
    /// process's session, which the program shares.
    pub(super) fn open(setup: &Setup, size: Terminal) -> Result<Self, Refusal> {
        Self::try_open(setup, size).or_refuse("have a terminal")
    }

    fn try_open(setup: &Setup, size: Terminal) -> rustix::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = open("/dev/ptmx", flags | OFlags::NONBLOCK, Mode::empty())?;
        unlockpt(&master)?;
        let slave = open(ptsname(&master, Vec::new())?, flags, Mode::empty())?;
        resize(&slave, size)?;
        if let Some(modes) = &setup.program.modes {
            // One that the kernel does not take stays as it is.
            let _ = sys::set_modes(&slave, modes);
        }
        // The group stays tty (the mount's gid=5), for write(1) and its like.
        fchown(&slave, Some(Uid::from_raw(setup.uid)), None::<Gid>)?;
        fchmod(&slave, Mode::from_raw_mode(0o620))?;
        rustix::process::ioctl_tiocsctty(&slave)?;
        Ok(Self { master, slave })
    }
}

/// Gives a terminal another size.
pub(super) fn resize(terminal: &OwnedFd, size: Terminal) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size)
}
