//! `Screen`: the terminal of `mfs run`, for a program that has one of its own where it runs.
//!
//! A program has a terminal if this command's output is one. It is in the foreground of its own as long as this
//! command is here; in the background it stops there when it reads, and this command with it.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use mfs::jobs::{Modes, Terminal};
use rustix::termios::{tcgetpgrp, tcgetwinsize};

use super::sys;
use crate::raw::Raw;

/// How often it is looked whether this command has come to the foreground, which nobody tells.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The terminal of this command, if it has one.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    /// What the program reads is no terminal.
    pub(super) has_piped_input: bool,
    /// Where it complains is no terminal.
    pub(super) has_piped_error: bool,
    /// The program runs.
    pub(super) is_running: bool,
    /// As long as what is typed is the program's.
    raw: Option<Raw>,
    /// A carriage return was the last that the program showed.
    owes_return: bool,
}

// === impl Screen ===

impl Screen {
    /// That of this command's standard streams.
    pub(super) fn of_this_command() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            has_piped_input: !io::stdin().is_terminal(),
            has_piped_error: !io::stderr().is_terminal(),
            is_running: false,
            raw: None,
            owes_return: false,
        }
    }

    /// That of a job that has nothing to do with this command's.
    pub(super) fn none() -> Self {
        Self { is_terminal: false, ..Self::of_this_command() }
    }

    /// Its size.
    pub(super) fn size(&self) -> Option<Terminal> {
        let size = tcgetwinsize(io::stdout()).ok().filter(|_| self.is_terminal)?;
        Some(Terminal { rows: size.ws_row, columns: size.ws_col })
    }

    /// Its modes. In the background they are somebody else's.
    pub(super) fn modes(&self) -> Option<Modes> {
        let is_own = self.is_terminal && !self.has_piped_input && !self.is_background();
        is_own.then(sys::modes).flatten()
    }

    /// Somebody else has it, who may type.
    pub(super) fn is_background(&self) -> bool {
        self.is_terminal && !self.has_piped_input && is_background(io::stdin())
    }

    /// It is to be taken over as soon as it can be.
    pub(super) const fn waits(&self) -> bool {
        self.is_terminal && !self.has_piped_input && self.is_running && self.raw.is_none()
    }

    /// Takes it over, if this command is in its foreground; whether it is.
    pub(super) fn take_over(&mut self) -> anyhow::Result<bool> {
        if self.is_background() {
            return Ok(false);
        }
        self.raw = Some(Raw::enter()?);
        Ok(true)
    }

    /// Gives it back; whether there was something to give back.
    pub(super) fn leave(&mut self) -> bool {
        self.raw.take().is_some()
    }

    /// Stops this command, and with a key all who run together with it, as `signal` has stopped the program.
    pub(super) fn stop(&mut self, signal: i32) {
        let held = self.leave();
        if held && signal == libc::SIGTSTP {
            sys::tell_group(signal);
        }
        sys::suffer(signal);
    }

    /// What is to be written of what the program's terminal shows: the terminal here makes its own line ends
    /// while it is not taken over.
    pub(super) fn shown<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.is_terminal || (self.raw.is_some() && !self.owes_return) {
            return Cow::Borrowed(bytes);
        }
        let mut shown = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            if std::mem::take(&mut self.owes_return) && *byte != b'\n' {
                shown.push(b'\r');
            }
            match byte {
                b'\r' if self.raw.is_none() => self.owes_return = true,
                byte => shown.push(*byte),
            }
        }
        Cow::Owned(shown)
    }
}

/// Whether somebody else than this command's process group has this terminal; not if it is none.
pub(super) fn is_background(terminal: impl std::os::fd::AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground != rustix::process::getpgrp())
}

/// Writes all of it.
pub(super) fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_made_once() {
        let mut screen = Screen { is_terminal: true, ..Screen::of_this_command() };
        assert_eq!(*screen.shown(b"a\r\nb\rc\n\r"), *b"a\nb\rc\n");
        assert_eq!(*screen.shown(b"\n"), *b"\n");
        let mut pipe = Screen { is_terminal: false, ..screen };
        assert_eq!(*pipe.shown(b"a\r\n"), *b"a\r\n");
    }
}
