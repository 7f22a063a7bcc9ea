//! `Relay`: passes on what is typed on a job's terminal and what it shows, between the terminal and the pipes
//! to the daemon.
//!
//! It asks before each read and write whether it can be done at once, since a pipe that takes another's place
//! on another node need not have its flags.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mfs_init::Terminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write};
use rustix::process::Pid;
use rustix::time::Timespec;

use crate::terminal::{Pair, resize};

/// As much as a pipe takes without blocking when it is ready to be written (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;

/// What lies between a terminal and the daemon.
#[derive(Debug)]
pub(super) struct Relay {
    /// Until it has ended.
    input: Option<OwnedFd>,
    output: OwnedFd,
    master: OwnedFd,
    /// Held open, so that the terminal outlives whoever closes it.
    slave: OwnedFd,
    typed: Vec<u8>,
    shown: Vec<u8>,
}

// === impl Relay ===

impl Relay {
    /// Between standard output and, if it `types`, standard input of this process and that terminal.
    pub(super) fn new(pair: &Pair, types: bool) -> rustix::io::Result<Self> {
        let copy = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, 3);
        Ok(Self {
            input: types.then(|| copy(std::io::stdin().as_fd())).transpose()?,
            output: copy(std::io::stdout().as_fd())?,
            master: copy(pair.master.as_fd())?,
            slave: copy(pair.slave.as_fd())?,
            typed: Vec::new(),
            shown: Vec::new(),
        })
    }

    /// What it waits for.
    pub(super) fn awaited(&self) -> Vec<PollFd<'_>> {
        let mut awaited = Vec::with_capacity(3);
        let input = self.input.as_ref().filter(|_| self.typed.is_empty());
        awaited.extend(input.map(|input| PollFd::new(input, PollFlags::IN)));
        let mut of_master = PollFlags::empty();
        of_master.set(PollFlags::IN, self.shown.is_empty());
        of_master.set(PollFlags::OUT, !self.typed.is_empty());
        if !of_master.is_empty() {
            awaited.push(PollFd::new(&self.master, of_master));
        }
        if !self.shown.is_empty() {
            awaited.push(PollFd::new(&self.output, PollFlags::OUT));
        }
        awaited
    }

    /// Passes on what can be passed on at once. Who is gone is not waited for any more.
    pub(super) fn pass(&mut self) {
        if self.typed.is_empty()
            && let Some(input) = self.input.as_ref().filter(|input| is_ready(input, PollFlags::IN))
        {
            self.typed = piece(input);
            if self.typed.is_empty() {
                self.input = None;
            }
        }
        if !self.typed.is_empty() && is_ready(&self.master, PollFlags::OUT) {
            put(&self.master, &mut self.typed);
        }
        self.show();
    }

    fn show(&mut self) {
        if self.shown.is_empty() && is_ready(&self.master, PollFlags::IN) {
            self.shown = piece(&self.master);
        }
        if !self.shown.is_empty() && is_ready(&self.output, PollFlags::OUT) {
            put(&self.output, &mut self.shown);
        }
    }

    /// Passes on what the terminal shows, as far as it is taken at once.
    pub(super) fn flush(&mut self) {
        while is_ready(&self.output, PollFlags::OUT)
            && (!self.shown.is_empty() || is_ready(&self.master, PollFlags::IN))
        {
            self.show();
        }
    }

    /// Passes on the rest that the terminal shows when everybody who wrote on it has ended; stops when `gone`
    /// hangs up.
    pub(super) fn finish(mut self, gone: &impl AsFd) {
        loop {
            self.show();
            if self.shown.is_empty() && !is_ready(&self.master, PollFlags::IN) {
                return;
            }
            let mut awaited =
                [PollFd::new(&self.output, PollFlags::OUT), PollFd::new(gone, PollFlags::empty())];
            let woken = rustix::io::retry_on_intr(|| poll(&mut awaited, None));
            if woken.is_err() || !awaited[1].revents().is_empty() {
                return;
            }
        }
    }

    /// Gives the terminal another size; the kernel tells its foreground processes (SIGWINCH).
    pub(super) fn resize(&self, size: Terminal) {
        // A terminal that is not there any more has nobody who would see it.
        let _ = resize(&self.slave, size);
    }

    /// Gives the terminal to a process group of this process's session.
    pub(super) fn give(&self, group: Pid) {
        // A group that is gone needs no terminal. The signal that stops who is not in the foreground itself
        // (SIGTTOU) is held.
        let _ = rustix::termios::tcsetpgrp(&self.slave, group);
    }
}

fn is_ready(fd: &impl AsFd, flags: PollFlags) -> bool {
    let now = Timespec::default();
    let mut polled = [PollFd::new(fd, flags)];
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&now))) == Ok(1)
}

fn piece(from: &OwnedFd) -> Vec<u8> {
    let mut piece = vec![0; PIECE];
    // An error is an end.
    let length = rustix::io::retry_on_intr(|| read(from, &mut piece));
    piece.truncate(length.unwrap_or_default());
    piece
}

fn put(to: &OwnedFd, bytes: &mut Vec<u8>) {
    match rustix::io::retry_on_intr(|| write(to, bytes)) {
        Ok(length) => drop(bytes.drain(..length)),
        Err(Errno::AGAIN) => {}
        // Nobody wants it any more.
        Err(_) => bytes.clear(),
    }
}
