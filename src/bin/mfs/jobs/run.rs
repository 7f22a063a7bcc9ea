//! `mfs run`: a program on another node, as if it ran here.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use mfs::wire::job::{self as wire, StartJob};
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::screen::{LOOK_AGAIN, Screen};
use super::{along, connect, input, place, screen, sys};
use crate::cluster::{Daemon, refused};
use crate::out;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs run -- make -j8\n  mfs run -n n2 -- hostname\n  \
                  mfs run --near /mfs/n3/data -- grep -r word /mfs/n3/data\n  \
                  mfs run --detach -- ./simulate\n\nThe program sees the files, the user, the \
                  directory, the environment and the terminal of this node, wherever it runs.")]
pub(crate) struct Args {
    /// On this node, by name; else on the best
    #[arg(short, long, value_name = "NODE", conflicts_with = "near")]
    node: Option<String>,
    /// On the node that holds this file or directory
    #[arg(long, value_name = "PATH")]
    near: Option<PathBuf>,
    /// It computes: any node with room will do
    #[arg(long)]
    cpu: bool,
    /// It reads and writes: on the node of its files, or else of its directory
    #[arg(long, conflicts_with = "cpu")]
    io: bool,
    /// Never move it to balance load
    #[arg(long)]
    stay: bool,
    /// Give it a /tmp of its own, in the memory of the node where it runs
    #[arg(long)]
    local_tmp: bool,
    /// Print the job's id and return; it goes on without this command and its terminal
    #[arg(short, long)]
    detach: bool,
    /// Where a detached job writes [default: mfs-JOB.out in its directory]
    #[arg(long, value_name = "FILE", requires = "detach")]
    output: Option<OsString>,
    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Messages on their way: whoever types or pipes more waits.
const IN_FLIGHT: usize = 8;

/// The status that a shell gives of a program that cannot be run.
const CANNOT_RUN: u8 = 126;

/// Most bytes of input that the job may not have taken yet, so that signals never wait behind them.
const WINDOW: usize = 256 << 10;

/// Signals that are the program's.
const PASSED: [i32; 8] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGALRM,
];

/// A program that runs.
struct Session {
    inputs: mpsc::Sender<v1::JobInput>,
    window: Arc<Semaphore>,
    screen: Screen,
}

/// Signals that concern the program and not this command.
struct Signals(Vec<(i32, Signal)>);

/// Runs it; the exit status is the program's.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Before anything is changed: whoever ignores a signal has the program ignore it.
    let ignored = sys::ignored();
    let detached = args.detach;
    let screen = if detached { Screen::none() } else { Screen::of_this_command() };
    let wanted = place::wanted(args.node, args.near, args.cpu, args.io, args.stay)?;
    let program = along::program(args.command, &screen, args.output, ignored)?;
    let mut mfsd = connect(&args.daemon).await?;
    let start = StartJob {
        program,
        node: wanted.node,
        local_tmp: args.local_tmp,
        caller: None,
        number: 0,
        detached,
        hints: wanted.hints,
    };
    let (inputs, received) = mpsc::channel(IN_FLIGHT);
    inputs.try_send(message(Input::Start(start.into()))).context("cannot start")?;
    let mut signals = Signals::take(ignored)?;
    // A read in the background is an error, and is tried again in the foreground.
    sys::ignore(libc::SIGTTIN);
    let outputs = mfsd.run(ReceiverStream::new(received)).await;
    let mut outputs = outputs.map_err(refused)?.into_inner();
    if detached {
        return detach(&mut outputs).await;
    }
    let mut session = Session { inputs, window: Arc::new(Semaphore::new(WINDOW)), screen };
    loop {
        tokio::select! {
            output = outputs.message() => {
                let output = output.map_err(refused)?.and_then(|output| output.kind);
                let Some(output) = output else {
                    anyhow::bail!("mfsd went away, and the job with it");
                };
                if let Some(ended) = session.take(output).await? {
                    return Ok(ExitCode::from(session.end(&ended)));
                }
            }
            number = signals.next() => session.signal(number).await,
            () = tokio::time::sleep(LOOK_AGAIN), if session.screen.waits() => {
                session.look_at_the_terminal().await?;
            }
        }
    }
}

/// Hears whether a detached job runs, and prints its id.
async fn detach(outputs: &mut Streaming<v1::JobOutput>) -> anyhow::Result<ExitCode> {
    loop {
        let output = outputs.message().await.map_err(refused)?.and_then(|output| output.kind);
        match output {
            Some(Output::Started(started)) => return out::print(&format!("{}\n", started.id)),
            Some(Output::Ended(ended)) => return Ok(ExitCode::from(status(&ended))),
            Some(_) => {}
            None => anyhow::bail!("mfsd went away, and the job with it"),
        }
    }
}

/// The exit status, as a shell gives it.
pub(super) fn status(ended: &v1::JobEnded) -> u8 {
    use v1::job_ended::How;
    match &ended.how {
        Some(How::Exited(status)) => u8::try_from(*status).unwrap_or(u8::MAX),
        Some(How::Killed(signal)) => mfs::jobs::Ended::Killed(*signal).status(),
        Some(How::Failed(failure)) => {
            out::tell(format_args!("mfs: {}", failure.message));
            u8::try_from(failure.status).unwrap_or(CANNOT_RUN)
        }
        None => CANNOT_RUN,
    }
}

pub(super) fn message(kind: Input) -> v1::JobInput {
    v1::JobInput { kind: Some(kind) }
}

// === impl Session ===

impl Session {
    /// Takes what comes from the job; its end, if that has come.
    async fn take(&mut self, output: Output) -> anyhow::Result<Option<v1::JobEnded>> {
        match output {
            // Not before: what is typed is the program's, and an error is shown as usual.
            Output::Started(_) => {
                self.screen.is_running = true;
                self.look_at_the_terminal().await?;
                input::take(self.inputs.clone(), Arc::clone(&self.window));
            }
            Output::Output(bytes) => {
                let shown = self.screen.shown(&bytes);
                self.written(screen::write(io::stdout(), &shown))?;
            }
            Output::Error(bytes) => self.written(screen::write(io::stderr(), &bytes))?,
            Output::Taken(bytes) => self.window.add_permits(bytes as usize),
            Output::Stopped(signal) => self.stop(signal).await?,
            Output::Ended(ended) => return Ok(Some(ended)),
            // Between nodes only.
            _ => {}
        }
        Ok(None)
    }

    /// A reader that has seen enough ends the program here as it would there.
    fn written(&mut self, written: io::Result<()>) -> anyhow::Result<()> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.screen.leave();
                sys::suffer(libc::SIGPIPE);
                Err(error).context("cannot write")
            }
            written => written.context("cannot write"),
        }
    }

    /// Sends it to the job, which may have ended.
    async fn put(&self, kind: Input) {
        let _ = self.inputs.send(message(kind)).await;
    }

    async fn put_size(&self) {
        if let Some(size) = self.screen.size() {
            self.put(Input::Size(wire::terminal_size(size))).await;
        }
    }

    async fn signal(&mut self, number: i32) {
        match number {
            libc::SIGWINCH => self.put_size().await,
            number => self.put(Input::Signal(number)).await,
        }
    }

    /// Takes over the terminal, if it can be had now.
    async fn look_at_the_terminal(&mut self) -> anyhow::Result<()> {
        if self.screen.waits() && self.screen.take_over()? {
            self.put_size().await;
            self.put(Input::Foreground(true)).await;
        }
        Ok(())
    }

    /// Stops this command as the program was stopped, until it is continued (`fg`, `bg`).
    async fn stop(&mut self, signal: i32) -> anyhow::Result<()> {
        self.screen.stop(signal);
        self.look_at_the_terminal().await?;
        if self.screen.waits() {
            self.put(Input::Foreground(false)).await;
        }
        self.put(Input::Signal(libc::SIGCONT)).await;
        Ok(())
    }

    /// The exit status. Whoever was killed is seen to have been killed.
    fn end(&mut self, ended: &v1::JobEnded) -> u8 {
        let held_terminal = self.screen.leave();
        if let Some(v1::job_ended::How::Killed(signal)) = ended.how {
            // A key that ends the program would have been heard by all who run together with it.
            if held_terminal && [libc::SIGINT, libc::SIGQUIT].contains(&signal) {
                sys::tell_group(signal);
            }
            sys::suffer(signal);
        }
        status(ended)
    }
}

// === impl Signals ===

impl Signals {
    /// All but those that are ignored: bit n-1 for signal n.
    fn take(ignored: u64) -> anyhow::Result<Self> {
        let heard = PASSED.into_iter().filter(|number| ignored & sys::bit(*number) == 0);
        let taken = heard.chain([libc::SIGWINCH]).map(|number| -> anyhow::Result<_> {
            Ok((number, signal(SignalKind::from_raw(number))?))
        });
        Ok(Self(taken.collect::<anyhow::Result<_>>()?))
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
