//! `Init`: the keeper of a job on this node and its first process, from this side of their socket and pipes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use mfs::jobs::{MAX_FRAME, Notice, Order, Report, Streams, Task, read_frame, write_frame};
use mfs::sync::Mutex;
use mfs::types::{Caller, NodeName};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::sys;

/// The keeper of a job, and its first process. Dropped, it ends the job.
#[derive(Debug)]
pub(super) struct Init {
    keeper: Mutex<StdUnixStream>,
    orders: Mutex<fs::File>,
    /// The keeper; it ends when the first process has. Held, so that it is waited for.
    child: Child,
    /// What they say, in the order of each.
    pub(super) heard: mpsc::UnboundedReceiver<Heard>,
    /// What the program, or its terminal, reads; until its end.
    pub(super) input: Option<pipe::Sender>,
    /// What it writes.
    pub(super) output: pipe::Receiver,
    /// What it complains.
    pub(super) error: pipe::Receiver,
    /// All of them, as images name them.
    pub(super) streams: Streams,
}

/// Something that was said.
#[derive(Debug)]
pub(super) enum Heard {
    /// By the keeper.
    Notice(Notice),
    /// By the first process.
    Report(Report),
    /// The first process can say nothing any more.
    Silence,
}

/// A pipe: the job's end, and this daemon's.
struct Ends {
    theirs: OwnedFd,
    ours: OwnedFd,
}

// === impl Init ===

impl Init {
    /// Starts a keeper and gives it a task.
    pub(super) fn start(task: &Task, home: &NodeName, user: &Caller) -> anyhow::Result<Self> {
        let program = beside_this()?;
        let (keeper, theirs) = StdUnixStream::pair()?;
        let (input, output, error) = (Ends::read_there()?, Ends::read_here()?, Ends::read_here()?);
        let (orders, reports) = (Ends::read_there()?, Ends::read_here()?);
        let streams = Streams {
            input: input.number()?,
            output: output.number()?,
            error: error.number()?,
            orders: orders.number()?,
            reports: reports.number()?,
        };
        let mut command = std::process::Command::new(&program);
        // For the mount: it tells the job its home (/mfs/home), and takes whoever restores it for its user.
        command
            .arg("keep")
            .args(named(home, user))
            .env_clear()
            .stdin(input.theirs)
            .stdout(output.theirs);
        command.stderr(Stdio::from(error.theirs));
        sys::pass(&mut command, vec![theirs.into(), orders.theirs, reports.theirs]);
        // It ends by itself when this side is closed, and gives the job a moment to end in order.
        let child = Command::from(command)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        write_frame(&keeper, task)?;
        let (sender, heard) = mpsc::unbounded_channel();
        let notices = keeper.try_clone()?;
        notices.set_nonblocking(true)?;
        tokio::spawn(hear(UnixStream::from_std(notices)?, sender.clone(), Heard::Notice, None));
        let reports = pipe::Receiver::from_owned_fd(reports.ours)?;
        tokio::spawn(hear(reports, sender, Heard::Report, Some(Heard::Silence)));
        Ok(Self {
            keeper: Mutex::new(keeper),
            orders: Mutex::new(orders.ours.into()),
            child,
            heard,
            input: Some(pipe::Sender::from_owned_fd(input.ours)?),
            output: pipe::Receiver::from_owned_fd(output.ours)?,
            error: pipe::Receiver::from_owned_fd(error.ours)?,
            streams,
        })
    }

    /// The number of the keeper, as long as it was not waited for.
    pub(super) fn keeper_number(&self) -> Option<u32> {
        self.child.id()
    }

    /// Has the first process do something.
    pub(super) fn order(&self, order: &Order) {
        // It may have ended this moment. An order is shorter than a pipe takes whole (PIPE_BUF).
        let _ = write_frame(&*self.orders.lock(), order);
    }

    /// Has the keeper let a restored job go.
    pub(super) fn let_go(&self) {
        let _ = write_frame(&*self.keeper.lock(), &Task::Go); // as above
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Also ends the task that hears it.
        let _ = self.keeper.lock().shutdown(std::net::Shutdown::Both);
    }
}

// === impl Ends ===

impl Ends {
    fn read_here() -> std::io::Result<Self> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { theirs, ours })
    }

    fn read_there() -> std::io::Result<Self> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { theirs, ours })
    }

    fn number(&self) -> std::io::Result<u64> {
        Ok(rustix::fs::fstat(&self.ours)?.st_ino)
    }
}

/// Passes on what is said until there is nobody to say more.
async fn hear<T: DeserializeOwned>(
    mut from: impl AsyncRead + Unpin,
    to: mpsc::UnboundedSender<Heard>,
    as_heard: fn(T) -> Heard,
    last: Option<Heard>,
) {
    // Who listens is told of an error by the end.
    while let Ok(Some(said)) = next_frame(&mut from).await {
        if to.send(as_heard(said)).is_err() {
            return;
        }
    }
    if let Some(last) = last {
        let _ = to.send(last); // or nobody listens
    }
}

async fn next_frame<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> anyhow::Result<Option<T>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).await?;
    let length = usize::try_from(u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]))?;
    anyhow::ensure!(length <= MAX_FRAME, "no report is so long");
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(read_frame(&frame[..])?)
}

/// Words of a command by which a mount knows of which home and whose the processes below it are.
pub(super) fn named(home: &NodeName, user: &Caller) -> [String; 4] {
    let groups: Vec<_> = user.groups.iter().map(ToString::to_string).collect();
    [home.to_string(), user.uid.to_string(), user.gid.to_string(), groups.join(",")]
}

/// Where the program is: beside this one.
pub(super) fn beside_this() -> anyhow::Result<PathBuf> {
    let own = fs::read_link("/proc/self/exe").context("cannot tell where mfsd lies")?;
    let program = own.with_file_name("mfs-init");
    anyhow::ensure!(
        program.is_file(),
        "there is no {}, which jobs need: install mfs anew",
        program.display()
    );
    Ok(program)
}
