//! Leaves the caller: the daemon of a mount keeps nothing of who called mount(8).
//!
//! The caller waits on a pipe until the daemon says that the mount answers, or why there is none. The
//! daemon has a session of its own, / as its directory, and standard streams that lead nowhere (or to a
//! log file where there is no journal), so that `out=$(mount /mfs)` returns at once.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::sys::{self, Side};

/// First byte on the pipe: the mount answers.
const READY: u8 = b'R';

/// First byte on the pipe: there is no mount; a sentence follows.
const FAILED: u8 = b'F';

/// What the calling process becomes.
pub(super) enum Role {
    /// Still the caller: the daemon said that the mount answers (`Ok`), or why not.
    Caller(Result<(), String>),
    /// The daemon.
    Daemon(Herald),
}

/// Tells the caller how the mount went. Dropped without a word it tells that the daemon died.
pub(super) struct Herald {
    pipe: Option<PipeWriter>,
}

// === impl Herald ===

impl Herald {
    /// Of a process that stayed in the foreground: nobody waits.
    pub(super) fn silent() -> Self {
        Self { pipe: None }
    }

    /// The mount answers: lets the caller go.
    pub(super) fn ready(&mut self) {
        self.tell(READY, "");
    }

    /// There is no mount.
    pub(super) fn failed(&mut self, why: &str) {
        self.tell(FAILED, why);
    }

    fn tell(&mut self, what: u8, why: &str) {
        if let Some(mut pipe) = self.pipe.take() {
            let mut message = vec![what];
            message.extend_from_slice(why.as_bytes());
            // A caller that was killed meanwhile does not want to know.
            let _ = pipe.write_all(&message);
        }
    }
}

/// Splits off the daemon. `log` is where its standard error goes where there is no journal.
///
/// # Errors
/// The daemon could not be split off, or the process has other threads already.
pub(super) fn daemonize(log: &Path) -> io::Result<Role> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("{threads} threads run before the fork")));
    }
    let (mut reader, writer) = io::pipe()?;
    match sys::fork()? {
        Side::Parent => {
            drop(writer);
            let mut message = Vec::new();
            reader.read_to_end(&mut message)?;
            Ok(Role::Caller(match message.split_first() {
                Some((&READY, _)) => Ok(()),
                Some((_, why)) => Err(String::from_utf8_lossy(why).into_owned()),
                None => Err(format!(
                    "the daemon died before it mounted; see {} or the journal",
                    log.display()
                )),
            }))
        }
        Side::Child => {
            drop(reader);
            rustix::process::setsid()?;
            // A second child is no session leader and can never get a terminal again.
            if let Side::Parent = sys::fork()? {
                std::process::exit(0);
            }
            Ok(Role::Daemon(become_daemon(writer, log)?))
        }
    }
}

fn become_daemon(writer: PipeWriter, log: &Path) -> io::Result<Herald> {
    rustix::process::chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let errors = if Path::new("/run/systemd/journal/socket").exists() {
        null.try_clone()?
    } else {
        open_log(log).or_else(|_| null.try_clone())?
    };
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&errors)?;
    drop((null, errors));
    let pipe = sys::keep_only(writer.into())?;
    Ok(Herald { pipe: Some(pipe.into()) })
}

fn open_log(log: &Path) -> io::Result<File> {
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(log)
}
