//! The program of a job, from its fork on: becomes the user, then the program.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mfs_init::{Program, Report, Setup, write_frame};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::refusal::{OrRefuse, Refusal};
use crate::sys::{self, Fork, Words};
use crate::user;

/// Where a program is looked for without PATH in its environment: as execvp(3) of the C library.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
/// Runs what is text (ENOEXEC), as execvp(3) has it.
const SHELL: &CStr = c"/bin/sh";

/// A program that was started.
#[derive(Debug)]
pub(super) struct Started {
    /// It leads a process group of this number.
    pub pid: Pid,
    /// Ends without a word when it has become its program; else with its `Report::Failed`.
    pub outcome: File,
}

/// All that exec needs, made before there is a limit on memory.
struct Image {
    command: Vec<CString>,
    /// Where to look, in this order.
    files: Vec<CString>,
    environment: Words,
    directory: CString,
}

/// Starts it, on the standard streams of this process or on the terminal.
pub(super) fn start(setup: &Setup, terminal: Option<OwnedFd>) -> Result<Started, Refusal> {
    let program = setup.program.clone().checked().map_err(|e| Refusal::new(e.to_string()))?;
    // For the system calls the greatest number means "as it is": root.
    if [setup.uid, setup.gid].iter().chain(&setup.groups).any(|id| *id == u32::MAX) {
        return Err(Refusal::new("no user and no group has the number 4294967295"));
    }
    let image = Image::of(&program);
    let (outcome, telling) = pipe_with(PipeFlags::CLOEXEC).or_refuse("have a pipe")?;
    match sys::fork().or_refuse("start a process")? {
        Fork::Parent(pid) => Ok(Started { pid, outcome: File::from(outcome) }),
        Fork::Child => {
            let refusal = match prepare(setup, &program, &image, terminal) {
                Ok(()) => image.exec(),
                Err(refusal) => refusal,
            };
            let status = refusal.status;
            // Whoever does not hear it sees the status.
            let _ = write_frame(File::from(telling), &Report::from(refusal));
            std::process::exit(i32::from(status))
        }
    }
}

/// Takes on all that the program keeps.
fn prepare(
    setup: &Setup,
    program: &Program,
    image: &Image,
    terminal: Option<OwnedFd>,
) -> Result<(), Refusal> {
    // A group of its own in the session of the first process: as a shell starts its jobs, so that it can be
    // stopped (in a session of its own it would be an orphan, whom a terminal does not stop).
    rustix::process::setpgid(None, None).or_refuse("have a process group")?;
    if let Some(slave) = terminal {
        if !program.in_background {
            // From the background, which it is not any more: the signal that stops others (SIGTTOU) is held.
            let own = rustix::process::getpid();
            rustix::termios::tcsetpgrp(&slave, own).or_refuse("have the terminal")?;
        }
        let apart = [program.piped_input, false, program.piped_error];
        let streams = (0..).zip(apart).filter(|(_, piped)| !piped).map(|(stream, _)| stream);
        sys::replace_streams(&slave, streams).or_refuse("use its terminal")?;
    }
    own_pipes(setup);
    sys::keep_only_standard_streams().or_refuse("close what it inherits")?;
    sys::leave_keyring();
    lose_protection();
    // A nice value that the daemon may not give (CAP_SYS_NICE) is no reason not to run.
    let _ = rustix::process::setpriority_process(None, program.nice);
    rustix::process::umask(Mode::from_raw_mode(program.umask));
    for limit in &program.limits {
        sys::set_limit(*limit).or_refuse(format_args!("have resource limit {}", limit.resource))?;
    }
    user::become_user(setup).or_refuse(format_args!("become user {}", setup.uid))?;
    rustix::process::chdir(&image.directory).map_err(|error| {
        let directory = String::from_utf8_lossy(&program.directory);
        let host = &setup.host_name;
        Refusal::new(format!(
            "the working directory {directory} of {host} cannot be entered: {error}"
        ))
    })?;
    program.output.as_deref().map(write_to).transpose()?;
    sys::ignore(program.ignored);
    sys::let_signals_in().or_refuse("have signals")
}

/// Gives the user the pipes, or /dev/stdout and its like could not be opened.
fn own_pipes(setup: &Setup) {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [input.as_fd(), output.as_fd(), error.as_fd()] {
        let is_pipe =
            fstat(stream).is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_fifo());
        if is_pipe {
            // Without it they can still be read and written.
            let _ = fchown(stream, Some(Uid::from_raw(setup.uid)), Some(Gid::from_raw(setup.gid)));
        }
    }
}

/// Has its standard output and error written to a file of its user's, as nohup(1) does, and gives it nothing to
/// read.
fn write_to(file: &[u8]) -> Result<(), Refusal> {
    let what = format!("write to {}", String::from_utf8_lossy(file));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let output = open(file, flags, Mode::RUSR | Mode::WUSR).or_refuse(what)?;
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let null = null.or_refuse("read nothing")?;
    sys::replace_streams(&null, [0])
        .and_then(|()| sys::replace_streams(&output, [1, 2]))
        .or_refuse("have its standard streams")
}

/// The daemon is spared when memory runs out; its jobs are not. More exposed than others they may stay.
fn lose_protection() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let spared = std::fs::read_to_string(FILE).is_ok_and(|score| score.starts_with('-'));
    if spared {
        let _ = std::fs::write(FILE, "0");
    }
}

// === impl Image ===

impl Image {
    /// That of a program that was checked.
    fn of(program: &Program) -> Self {
        let text = |bytes: &[u8]| CString::new(bytes).expect("a checked program has no zero byte");
        let file = &program.command[0];
        let variable = program.environment.iter().find_map(|value| value.strip_prefix(b"PATH="));
        let files = if file.contains(&b'/') {
            vec![text(file)]
        } else {
            let directories = variable.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
            // An empty one is the working directory.
            let in_directory = |directory: &[u8]| match directory {
                [] => text(&[b"./", &file[..]].concat()),
                _ => text(&[directory, b"/", file].concat()),
            };
            directories.map(in_directory).collect()
        };
        Self {
            command: program.command.iter().map(|word| text(word)).collect(),
            files,
            environment: Words::new(program.environment.iter().map(|word| text(word)).collect()),
            directory: text(&program.directory),
        }
    }

    /// Becomes the first program that is found, as execvp(3); answers why none was.
    fn exec(&self) -> Refusal {
        let arguments = Words::new(self.command.clone());
        let mut reason = Errno::NOENT;
        for file in &self.files {
            let mut error = sys::exec(file, &arguments, &self.environment);
            if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) {
                let script = [SHELL.to_owned(), file.clone()];
                let script = script.into_iter().chain(self.command.iter().skip(1).cloned());
                error = sys::exec(SHELL, &Words::new(script.collect()), &self.environment);
            }
            match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
                // One that may not be run is named only if no other is found.
                Errno::ACCESS => reason = Errno::ACCESS,
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT
                    if self.files.len() > 1 => {}
                other => {
                    reason = other;
                    break;
                }
            }
        }
        let command = self.command[0].to_string_lossy();
        if reason == Errno::NOENT {
            return Refusal { sentence: format!("{command}: not found"), status: 127 };
        }
        Refusal::new(format!("{command}: cannot be run: {}", io::Error::from(reason)))
    }
}
