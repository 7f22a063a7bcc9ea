//! `mount.mfs`: from the words of mount(8) to a mount that answers.
//!
//! mount(8) calls `/sbin/mount.mfs` for a line of type `mfs`; by hand it is the same program. It checks,
//! splits off the daemon, waits until the mount answers, and returns with the exit status that mount(8)
//! documents.

mod args;
mod config;
mod daemonize;
mod mountpoint;
mod options;
mod sys;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use mfs::config::paths;
use mfs::telemetry::log::{self, Sink};

use self::args::{MountRequest, Request};
use self::daemonize::{Herald, Role};

pub use self::config::MountConfig;

/// Exit statuses of mount(8).
const WRONG_CALL: u8 = 1;
const SYSTEM_ERROR: u8 = 2;
const MOUNT_FAILED: u8 = 32;

/// Why there is no mount: a sentence, and the status to exit with.
struct Failure {
    status: u8,
    why: String,
}

/// Mounts and serves until the mount ends; what the daemon does.
pub type Serve = fn(MountConfig, &mut dyn FnMut()) -> anyhow::Result<()>;

/// The whole program: understands the command line, mounts, returns the exit status. `journal_stream` is
/// the environment's JOURNAL_STREAM, `filter` its MFS_LOG.
pub fn run(
    words: impl IntoIterator<Item = OsString>,
    journal_stream: Option<OsString>,
    filter: Option<String>,
    serve: Serve,
) -> ExitCode {
    let here = std::env::current_dir().ok();
    let request = match args::parse(words, here.as_deref()) {
        Ok(Request::Help) => return print(&args::usage()),
        Ok(Request::Version) => {
            return print(concat!("mount.mfs ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Ok(Request::Mount(request)) => *request,
        Err(why) => return fail(&Failure { status: WRONG_CALL, why }),
    };
    let filter = filter.unwrap_or_else(|| log::DEFAULT_FILTER.to_owned());
    let sink = Sink::for_stream(journal_stream.as_deref());
    match mount(request, &filter, sink, serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// A reader that has seen enough, or a full disk, is no reason to panic.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(SYSTEM_ERROR),
    }
}

fn tell(what: &str) {
    // There is nowhere to tell that it cannot be told.
    let _ = writeln!(io::stderr(), "mount.mfs: {what}");
}

fn fail(failure: &Failure) -> ExitCode {
    tell(&failure.why);
    ExitCode::from(failure.status)
}

fn mount(request: MountRequest, filter: &str, sink: Sink, serve: Serve) -> Result<(), Failure> {
    let MountRequest { mut config, mistaken, fake, foreground } = request;
    check_machine()?;
    if mistaken && mountpoint::is_mounted(&config.mountpoint) {
        // What `mount -a` would have found out itself, had it understood the source.
        if io::stderr().is_terminal() {
            tell(&format!("{} is mounted already", config.mountpoint.display()));
        }
        return Ok(());
    }
    config.mountpoint = mountpoint::prepare(&config.mountpoint)
        .map_err(|why| Failure { status: MOUNT_FAILED, why })?;
    if fake {
        return Ok(());
    }
    if foreground {
        return daemon(config, Herald::silent(), filter, sink, serve)
            .map_err(|error| Failure { status: MOUNT_FAILED, why: format!("{error:#}") });
    }
    let socket = paths::socket(&config.runtime);
    let log_file = config.runtime.join("mfs-fuse.log");
    let role = daemonize::daemonize(&log_file).map_err(|error| Failure {
        status: SYSTEM_ERROR,
        why: format!("the daemon of the mount could not be started: {error}"),
    })?;
    match role {
        Role::Caller(Ok(())) => {
            if io::stderr().is_terminal() && UnixStream::connect(&socket).is_err() {
                tell("mounted; mfsd is not running: systemctl start mfsd");
            }
            Ok(())
        }
        Role::Caller(Err(why)) => Err(Failure { status: MOUNT_FAILED, why }),
        Role::Daemon(herald) => {
            let status = match daemon(config, herald, filter, Sink::Journal, serve) {
                Ok(()) => 0,
                Err(_) => 1,
            };
            std::process::exit(status);
        }
    }
}

/// Everything from here on happens in the daemon (or in the foreground).
fn daemon(
    config: MountConfig,
    mut herald: Herald,
    filter: &str,
    sink: Sink,
    serve: Serve,
) -> anyhow::Result<()> {
    let result = log::start(filter, sink)
        .map_err(anyhow::Error::from)
        .and_then(|()| serve(config, &mut || herald.ready()));
    if let Err(error) = &result {
        herald.failed(&format!("{error:#}"));
        tracing::error!("the mount ended: {error:#}");
    }
    result
}

fn check_machine() -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure {
            status: WRONG_CALL,
            why: "only root can mount: sudo mount ...".to_owned(),
        });
    }
    match std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure {
            status: SYSTEM_ERROR,
            why: format!("/dev/fuse cannot be opened ({error}): modprobe fuse"),
        }),
    }
}
