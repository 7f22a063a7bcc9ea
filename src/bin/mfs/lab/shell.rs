//! `mfs lab shell`: a login shell in a node on a terminal of the node's own.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use super::enter::{self, Inside};
use super::names::LabNode;
use super::state::Lab;
use super::sys::{Setup, Signals};
use crate::raw::Raw;

/// Runs a shell in `node`; without a terminal one that reads commands from standard input.
pub(super) fn run(lab: Lab, node: LabNode) -> anyhow::Result<ExitCode> {
    let words = [OsString::from("bash"), OsString::from("-l")];
    if !io::stdin().is_terminal() {
        return enter::exec(Ok(lab), node, &words);
    }
    let init = lab.running(node)?;
    let setup = Setup { new_session: true, terminal: true, ..Setup::default() };
    let mut command = enter::prepare(&lab, node, &words, setup)?;
    let signals = Signals::take(&[
        libc::SIGCHLD,
        libc::SIGWINCH,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
    ])?;
    enter::enter(&init)?;

    // Of the node's devpts, so that the shell finds its own terminal by name.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).context("cannot open a terminal in the node")?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let end = ioctl_tiocgptpeer(&terminal, flags).context("cannot open a terminal in the node")?;
    follow_size(&terminal);
    let copy = || -> io::Result<Stdio> { Ok(end.try_clone()?.into()) };
    command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
    let inside = match Inside::spawn(command) {
        Ok(inside) => inside,
        Err(error) => return Ok(enter::refuse(&words[0], &error)),
    };
    drop(end);
    let raw = Raw::enter()?;
    let end = relay(&terminal, &signals, &inside);
    drop(raw);
    Ok(end?.map_or(ExitCode::FAILURE, enter::as_own))
}

/// Carries bytes between the two terminals until the shell has ended; `None` when the caller's terminal
/// ended first: closing that of the shell hangs it up, as it would be hung up here.
fn relay(terminal: &OwnedFd, signals: &Signals, inside: &Inside) -> io::Result<Option<ExitStatus>> {
    let (input, output) = (io::stdin(), io::stdout());
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        let mut fds = [
            PollFd::new(terminal, PollFlags::IN),
            PollFd::new(&input, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        let [from_shell, from_caller, arrived] = fds.map(|fd| !fd.revents().is_empty());
        if from_shell {
            // An error means that nothing has the terminal open any more.
            let length = rustix::io::read(terminal, &mut buffer).unwrap_or(0);
            write_all(&output, &buffer[..length])?;
            if length == 0 {
                return wait_for(inside, signals).map(Some);
            }
        } else if arrived {
            match signals.next()?.number {
                libc::SIGWINCH => follow_size(terminal),
                libc::SIGCHLD => {
                    if let Some(end) = inside.ended()? {
                        return Ok(Some(end));
                    }
                }
                _ => return Ok(None),
            }
        } else if from_caller {
            match rustix::io::read(&input, &mut buffer)? {
                0 => return Ok(None),
                length => write_all(terminal, &buffer[..length])?,
            }
        }
    }
}

fn wait_for(inside: &Inside, signals: &Signals) -> io::Result<ExitStatus> {
    loop {
        if let Some(end) = inside.ended()? {
            return Ok(end);
        }
        signals.next()?;
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&to, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Gives the node's terminal the size of the caller's; a terminal without one keeps its own.
fn follow_size(terminal: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(io::stdin()) {
        let _ = tcsetwinsize(terminal, size);
    }
}
