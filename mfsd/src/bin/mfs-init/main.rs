//! mfs-init, the first process of a job: makes the home's tree its root, and runs the program in it.
//!
//! Started by mfsd with one end of a socket as descriptor 3 (`mfs::jobs` has what is said on it). It never
//! has a second thread: it forks, and children go on as Rust programs.

mod device;
mod keeper;
mod program;
mod reaper;
mod refusal;
mod sys;
mod terminal;
mod view;

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use mfs::jobs::{Ended, Order, Report, Setup, read_frame, write_frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open};
use rustix::thread::UnshareFlags;

use reaper::Reaper;
use refusal::{OrRefuse, Refusal};
use sys::Fork;
use terminal::Pair;

/// Where the daemon left its socket.
const DAEMON: i32 = 3;

fn main() -> ExitCode {
    let daemon = sys::inherited(DAEMON).ok().filter(is_socket).map(UnixStream::from);
    let Some(daemon) = daemon else {
        let sentence = "mfs-init: mfsd starts me, nobody else; to run a program as a job: mfs run";
        let _ = writeln!(std::io::stderr(), "{sentence}");
        return ExitCode::from(2);
    };
    // A report that cannot be sent has nobody to hear it: the daemon is gone.
    match run(&daemon) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => {
            let _ = write_frame(&daemon, &report);
            ExitCode::FAILURE
        }
        Err(refusal) => {
            let _ = write_frame(&daemon, &Report::from(refusal));
            ExitCode::FAILURE
        }
    }
}

fn is_socket(descriptor: &OwnedFd) -> bool {
    rustix::net::sockopt::socket_type(descriptor) == Ok(rustix::net::SocketType::STREAM)
}

/// Runs a job to its end; answers what is still to be reported. The process inside does not come back.
fn run(daemon: &UnixStream) -> Result<Option<Report>, Refusal> {
    // What else was left open leads out of the view, for whoever may look at this process.
    sys::close_above(DAEMON).or_refuse("close what it inherits")?;
    sys::hold_signals().or_refuse("hold its signals")?;
    let setup = match read_frame::<Order>(daemon) {
        Ok(Some(Order::Begin(setup))) => setup,
        Ok(None) => return Ok(None),
        Ok(Some(order)) => return Err(Refusal::new(format!("a job cannot begin with {order:?}"))),
        Err(error) => return Err(error).or_refuse("begin"),
    };
    let keeper = pidfd_open(getpid(), PidfdFlags::empty()).or_refuse("watch its keeper")?;
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    sys::unshare(own | UnshareFlags::NEWUTS).or_refuse("have namespaces of its own")?;
    match sys::fork().or_refuse("start a process")? {
        Fork::Child => {
            let report = match begin(daemon, &setup, keeper) {
                Ok(reaper) => reaper.run(),
                Err(refusal) => refusal.into(),
            };
            let _ = write_frame(daemon, &report);
            std::process::exit(0)
        }
        Fork::Parent(first) => {
            let in_order = keeper::keep(daemon, first);
            Ok((!in_order).then_some(Report::Ended(Ended::Killed(Signal::KILL.as_raw()))))
        }
    }
}

/// As the first process inside: makes the job's world, and starts the program.
fn begin<'a>(
    daemon: &'a UnixStream,
    setup: &Setup,
    keeper: OwnedFd,
) -> Result<Reaper<'a>, Refusal> {
    die_with(keeper)?;
    // A leader of a session outside the namespace could not be carried to another node.
    rustix::process::setsid().or_refuse("have a session")?;
    view::enter(setup)?;
    rustix::system::sethostname(setup.host_name.as_bytes()).or_refuse("have its host's name")?;
    let terminal = setup.program.terminal.map(|size| Pair::open(setup, size)).transpose()?;
    let (master, slave) = terminal.map(|pair| (pair.master, pair.slave)).unzip();
    let started = program::start(setup, slave)?;
    // Whoever reads what the program writes must see the end of it, and nothing here may lead out of the view.
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    null.map_err(std::io::Error::from)
        .and_then(|null| sys::replace_standard_streams(&null))
        .or_refuse("let go of the program's streams")?;
    Reaper::new(daemon, started, master)
}

/// Has the kernel kill this process, and with it the namespace, when its keeper ends.
fn die_with(keeper: OwnedFd) -> Result<(), Refusal> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .or_refuse("end with its keeper")?;
    // It may have ended just before; its id is none of this namespace, but its descriptor tells.
    let now = rustix::time::Timespec::default();
    let mut ended = [PollFd::from_borrowed_fd(keeper.as_fd(), PollFlags::IN)];
    match poll(&mut ended, Some(&now)) {
        Ok(0) => Ok(()),
        _ => Err(Refusal::new("the job has lost its keeper")),
    }
}
