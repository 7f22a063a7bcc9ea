//! `mfs lab exec`: a command inside a node, as if it had been started there.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::ThreadNameSpaceType;

use super::cgroup;
use super::names::LabNode;
use super::process::Process;
use super::state::Lab;
use super::sys::{self, Arrived, Setup, Signals};
use crate::out::tell;

/// Ends of `mfs lab exec` itself, as far as they are not the command's: as those of env(1) and its like.
const CANNOT_ENTER: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The search path of a node, before what the caller has.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of the caller that would mislead in a node: they name sockets and directories of the machine.
const NOT_PASSED: [&str; 14] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "OLDPWD",
    "SSH_AUTH_SOCK",
    "TMPDIR",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_RUNTIME_DIR",
    "HOSTNAME",
];

/// Signals that are passed on to the command: all that ask a program for something.
const PASSED: [i32; 12] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// A command that runs in a node.
#[derive(Debug)]
pub(super) struct Inside {
    child: Pid,
}

/// Runs `command` in `node` and answers as it answered.
pub(super) fn exec(
    lab: anyhow::Result<Lab>,
    node: LabNode,
    command: &[OsString],
) -> anyhow::Result<ExitCode> {
    match lab.and_then(|lab| run(&lab, node, command)) {
        Ok(code) => Ok(code),
        Err(error) => {
            tell(format_args!("mfs: {error:#}"));
            Ok(CANNOT_ENTER.into())
        }
    }
}

fn run(lab: &Lab, node: LabNode, words: &[OsString]) -> anyhow::Result<ExitCode> {
    let init = lab.running(node)?;
    let mut command = prepare(lab, node, words, Setup { new_session: true, ..Setup::default() })?;
    // A command in the background must not take what is typed for others; it would be stopped for it, but
    // its session of its own hides it from the terminal's control.
    if io::stdin().is_terminal() && !in_foreground() {
        command.stdin(Stdio::null());
    }
    let signals = Signals::take(&[&PASSED[..], &[libc::SIGCHLD]].concat())?;
    enter(&init)?;
    let inside = match Inside::spawn(command) {
        Ok(inside) => inside,
        Err(error) => return Ok(refuse(&words[0], &error)),
    };
    loop {
        let arrived = signals.next()?;
        if arrived.number != libc::SIGCHLD {
            inside.pass(arrived, &signals)?;
        } else if let Some(end) = inside.ended()? {
            return Ok(as_own(end));
        }
    }
}

/// The command with the environment of a node. It is killed when this process is.
pub(super) fn prepare(
    lab: &Lab,
    node: LabNode,
    words: &[OsString],
    setup: Setup,
) -> anyhow::Result<Command> {
    let (program, arguments) = words.split_first().context("there is no command to run")?;
    let cgroup = match lab.settings.cpus {
        Some(_) => Some(cgroup::door(&lab.home, node)?),
        None => None,
    };
    let mut path = OsString::from(PATH);
    if let Some(callers) = std::env::var_os("PATH") {
        let known = |dir: &&[u8]| !PATH.split(':').any(|known| known.as_bytes() == *dir);
        for dir in callers.as_encoded_bytes().split(|&byte| byte == b':').filter(known) {
            path.push(":");
            path.push(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(dir));
        }
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/root");
    for name in NOT_PASSED {
        command.env_remove(name);
    }
    command.envs([("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("PWD", "/root")]);
    command.env("PATH", path);
    sys::prepare(&mut command, Setup { cgroup, dies_with_parent: true, ..setup });
    Ok(command)
}

/// Moves this process into a node; its children become processes of the node altogether.
pub(super) fn enter(init: &Process) -> anyhow::Result<()> {
    let spaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::PROCESS_ID;
    rustix::thread::move_into_thread_name_spaces(init.as_fd(), spaces)
        .context("cannot enter the node: it ended just now")
}

/// Says that a command could not be started, and answers as a shell would.
pub(super) fn refuse(program: &OsStr, error: &io::Error) -> ExitCode {
    tell(format_args!("mfs: cannot run {}: {error}", program.display()));
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND.into(),
        _ => CANNOT_RUN.into(),
    }
}

/// Ends as the command ended: with its status, or by the same signal.
pub(super) fn as_own(end: ExitStatus) -> ExitCode {
    match end.signal() {
        Some(signal) => sys::die_of(signal),
        None => u8::try_from(end.code().unwrap_or(1)).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

fn in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

// === impl Inside ===

impl Inside {
    /// Starts the command.
    ///
    /// # Preconditions
    /// This process has entered the node; the command begins a session of its own.
    pub(super) fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { child: child.ok_or(io::ErrorKind::InvalidData)? })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> io::Result<Option<ExitStatus>> {
        let found = rustix::process::waitpid(Some(self.child), WaitOptions::NOHANG)?;
        let ended = found.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
        Ok(ended.filter(|status| status.code().is_some() || status.signal().is_some()))
    }

    /// Passes a signal on, to whom it would have gone: keys of the terminal to the whole group in the
    /// foreground, what a process sent to the command alone.
    fn pass(&self, arrived: Arrived, signals: &Signals) -> io::Result<()> {
        let stops = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&arrived.number);
        if stops {
            // The command's own group is orphaned, so that only SIGSTOP stops it.
            self.send_to_group(Signal::STOP)?;
            return signals.default_action(arrived.number);
        }
        let Some(signal) = Signal::from_named_raw(arrived.number) else { return Ok(()) };
        if arrived.from_kernel || signal == Signal::CONT {
            return self.send_to_group(signal);
        }
        ignore_ended(rustix::process::kill_process(self.child, signal))
    }

    fn send_to_group(&self, signal: Signal) -> io::Result<()> {
        ignore_ended(rustix::process::kill_process_group(self.child, signal))
    }
}

fn ignore_ended(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.map_err(Into::into),
    }
}
