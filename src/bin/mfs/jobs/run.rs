//! `mfs run`: a program on another node, as if it ran here.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use mfs::jobs::{Limit, Program, Terminal};
use mfs::wire::job::{self as wire, StartJob};
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, getrlimit};
use rustix::termios::{tcgetpgrp, tcgetwinsize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::connect;
use crate::cluster::{Daemon, refused};
use crate::out;
use crate::raw::Raw;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs run -- make -j8\n  mfs run -n n2 -- hostname\n  \
                  mfs run -n n3 --local-tmp -- sort big >sorted\n\nThe program sees the files, the user, the \
                  directory, the environment and the terminal of this node, wherever it runs.")]
pub(crate) struct Args {
    /// On this node, by name; else on the best
    #[arg(short, long, value_name = "NODE")]
    node: Option<String>,
    /// Give it a /tmp of its own, in the memory of the node where it runs
    #[arg(long)]
    local_tmp: bool,
    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Most bytes of one message.
const PIECE: usize = 32 << 10;

/// Messages on their way: whoever types or pipes more waits.
const IN_FLIGHT: usize = 8;

/// The status that a shell gives of a program that cannot be run.
const CANNOT_RUN: u8 = 126;

/// The limits that a program takes along, each with its number on Linux.
const LIMITS: &[(Resource, u32)] = &[
    (Resource::Cpu, libc::RLIMIT_CPU),
    (Resource::Fsize, libc::RLIMIT_FSIZE),
    (Resource::Data, libc::RLIMIT_DATA),
    (Resource::Stack, libc::RLIMIT_STACK),
    (Resource::Core, libc::RLIMIT_CORE),
    (Resource::Nofile, libc::RLIMIT_NOFILE),
    (Resource::As, libc::RLIMIT_AS),
];

/// Most bytes of input that the job may not have taken yet, so that signals never wait behind them.
const WINDOW: usize = 256 << 10;

/// How often it is looked whether this command has come to the foreground, which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The terminal of this command.
struct Screen {
    on_terminal: bool,
    is_running: bool,
    raw: Option<Raw>,
}

/// Signals that concern the program and not this command.
struct Signals([(i32, Signal); 7]);

/// Runs it; the exit status is the program's.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let program = program(args.command, on_terminal)?;
    let mut mfsd = connect(&args.daemon).await?;
    let node = args.node.unwrap_or_default();
    let start = StartJob { program, node, local_tmp: args.local_tmp, caller: None, number: 0 };
    let (inputs, received) = mpsc::channel(IN_FLIGHT);
    inputs.try_send(input(Input::Start(start.into()))).context("cannot start")?;
    let mut signals = Signals::take()?;
    let outputs = mfsd.run(ReceiverStream::new(received)).await;
    let mut outputs = outputs.map_err(refused)?.into_inner();
    let mut screen = Screen { on_terminal, is_running: false, raw: None };
    let window = Arc::new(Semaphore::new(WINDOW));
    loop {
        tokio::select! {
            output = outputs.message() => {
                let output = output.map_err(refused)?.and_then(|output| output.kind);
                let Some(output) = output else {
                    anyhow::bail!("mfsd went away, and the job with it");
                };
                match output {
                    // Not before: what is typed is the program's, and an error is shown as usual.
                    Output::Started(_) => {
                        screen.is_running = true;
                        screen.take_over()?;
                        take_input(inputs.clone(), Arc::clone(&window));
                    }
                    Output::Output(bytes) => write(io::stdout(), &bytes)?,
                    Output::Error(bytes) => write(io::stderr(), &bytes)?,
                    Output::Taken(bytes) => window.add_permits(bytes as usize),
                    Output::Stopped(_) => {
                        screen.stop()?;
                        // The job may have ended.
                        if let Some(size) = terminal_size().filter(|_| on_terminal) {
                            let _ = inputs.send(input(Input::Size(wire::terminal_size(size)))).await;
                        }
                        let _ = inputs.send(input(Input::Signal(libc::SIGCONT))).await;
                    }
                    Output::Ended(ended) => {
                        drop(screen);
                        return Ok(ExitCode::from(status(ended)));
                    }
                    // Between nodes only.
                    _ => {}
                }
            }
            number = signals.next() => {
                let message = match (number, terminal_size()) {
                    (libc::SIGWINCH, Some(size)) => Input::Size(wire::terminal_size(size)),
                    (libc::SIGWINCH, None) => continue,
                    (number, _) => Input::Signal(number),
                };
                // The job may have ended.
                let _ = inputs.send(input(message)).await;
            }
            () = tokio::time::sleep(LOOK_AGAIN), if screen.waits() => screen.take_over()?,
        }
    }
}

fn input(kind: Input) -> v1::JobInput {
    v1::JobInput { kind: Some(kind) }
}

/// What is run, with all that it takes along from here.
fn program(command: Vec<OsString>, on_terminal: bool) -> anyhow::Result<Program> {
    let directory = std::env::current_dir().context("the working directory is gone")?;
    let variable =
        |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let none = u64::MAX;
    let limit = |(resource, number): &(Resource, u32)| {
        let limit = getrlimit(*resource);
        Limit {
            resource: *number,
            soft: limit.current.unwrap_or(none),
            hard: limit.maximum.unwrap_or(none),
        }
    };
    // umask(2) can only be read by setting it.
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let program = Program {
        command: command.into_iter().map(OsString::into_vec).collect(),
        environment: std::env::vars_os().map(variable).collect(),
        directory: directory.into_os_string().into_vec(),
        umask: umask.bits(),
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        limits: LIMITS.iter().map(limit).collect(),
        terminal: if on_terminal { terminal_size() } else { None },
    };
    Ok(program.checked()?)
}

fn terminal_size() -> Option<Terminal> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    Some(Terminal { rows: size.ws_row, columns: size.ws_col })
}

/// Carries standard input into the job, on a thread that ends with this command.
fn take_input(inputs: mpsc::Sender<v1::JobInput>, window: Arc<Semaphore>) {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        loop {
            wait_for_the_foreground();
            let message = match io::stdin().lock().read(&mut piece) {
                Ok(length @ 1..) => Input::Input(Bytes::copy_from_slice(&piece[..length])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => Input::InputEnd(v1::InputEnd {}),
            };
            if let Input::Input(bytes) = &message {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                match runtime.block_on(window.acquire_many(length)) {
                    Ok(taken) => taken.forget(),
                    Err(_) => return,
                }
            }
            let is_end = matches!(message, Input::InputEnd(_));
            if inputs.blocking_send(input(message)).is_err() || is_end {
                return;
            }
        }
    });
}

/// Waits until there is something to read that this command may read: in the background the terminal would
/// stop it (SIGTTIN), though the program asks for nothing.
fn wait_for_the_foreground() {
    let pause = LOOK_AGAIN.try_into().unwrap_or_default();
    loop {
        let stdin = io::stdin();
        let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
        match is_background() {
            true => drop(poll(&mut [], Some(&pause))),
            false if poll(&mut polled, Some(&pause)) != Ok(0) => return,
            false => {}
        }
    }
}

/// Whether somebody else has the terminal.
fn is_background() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground != rustix::process::getpgrp())
}

/// A reader that has seen enough ends the program here as it would there: the next write fails.
fn write(mut to: impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).context("cannot write")
}

/// The exit status, as a shell gives it.
fn status(ended: v1::JobEnded) -> u8 {
    use v1::job_ended::How;
    match ended.how {
        Some(How::Exited(status)) => u8::try_from(status).unwrap_or(u8::MAX),
        Some(How::Killed(signal)) => mfs::jobs::Ended::Killed(signal).status(),
        Some(How::Failed(failure)) => {
            out::tell(format_args!("mfs: {}", failure.message));
            u8::try_from(failure.status).unwrap_or(CANNOT_RUN)
        }
        None => CANNOT_RUN,
    }
}

// === impl Screen ===

impl Screen {
    /// Whether the terminal is to be taken over as soon as it can be.
    const fn waits(&self) -> bool {
        self.on_terminal && self.is_running && self.raw.is_none()
    }

    /// Takes over the terminal, if this command is in its foreground.
    fn take_over(&mut self) -> anyhow::Result<()> {
        if self.waits() && !is_background() {
            self.raw = Some(Raw::enter()?);
        }
        Ok(())
    }

    /// Stops this command as the program was stopped, until it is continued (`fg`, `bg`).
    fn stop(&mut self) -> anyhow::Result<()> {
        self.raw = None;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?;
        self.take_over()
    }
}

// === impl Signals ===

impl Signals {
    fn take() -> anyhow::Result<Self> {
        let taken = |number: i32| -> anyhow::Result<(i32, Signal)> {
            Ok((number, signal(SignalKind::from_raw(number))?))
        };
        Ok(Self([
            taken(libc::SIGINT)?,
            taken(libc::SIGTERM)?,
            taken(libc::SIGQUIT)?,
            taken(libc::SIGHUP)?,
            taken(libc::SIGUSR1)?,
            taken(libc::SIGTSTP)?,
            taken(libc::SIGWINCH)?,
        ]))
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
