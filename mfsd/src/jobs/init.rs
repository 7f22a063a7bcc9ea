//! `Init`: the first process of a job on this node, from this side of its socket.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::{fs, io, thread};

use anyhow::Context;
use mfs::jobs::{Order, Report, Setup, read_frame, write_frame};
use mfs::sync::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::sys;

/// The first process of a job. Dropped, it ends the job.
#[derive(Debug)]
pub(super) struct Init {
    control: Mutex<UnixStream>,
    pub(super) child: Child,
    /// What it says, in order; ends with it.
    pub(super) reports: mpsc::UnboundedReceiver<(Report, Option<OwnedFd>)>,
}

/// A stream that takes a descriptor that comes along with the bytes.
struct Receiving<'a> {
    stream: &'a UnixStream,
    came: Option<OwnedFd>,
}

// === impl Init ===

impl Init {
    /// Starts it and tells it what to do.
    pub(super) fn start(setup: Setup) -> anyhow::Result<Self> {
        let program = beside_this()?;
        let (ours, theirs) = UnixStream::pair()?;
        let pipe = || if setup.program.terminal.is_some() { Stdio::null() } else { Stdio::piped() };
        let mut command = std::process::Command::new(&program);
        command.stdin(pipe()).stdout(pipe()).stderr(pipe()).env_clear();
        sys::pass_control(&mut command, theirs.into());
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        let child =
            command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        write_frame(&ours, &Order::Begin(Box::new(setup)))?;
        let (sender, reports) = mpsc::unbounded_channel();
        let from = ours.try_clone()?;
        thread::Builder::new().name("mfs-job".to_owned()).spawn(move || {
            loop {
                let mut receiving = Receiving { stream: &from, came: None };
                // Who listens is told of an error by the end.
                let Ok(Some(report)) = read_frame::<Report>(&mut receiving) else { return };
                if sender.send((report, receiving.came)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { control: Mutex::new(ours), child, reports })
    }

    /// Sends a signal to the program.
    pub(super) fn signal(&self, signal: i32) {
        // It may have ended this moment.
        let _ = write_frame(&*self.control.lock(), &Order::Signal(signal));
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Also ends the thread that reads.
        let _ = self.control.lock().shutdown(std::net::Shutdown::Both);
    }
}

// === impl Receiving ===

impl Read for Receiving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received =
            rustix::io::retry_on_intr(|| recvmsg(self.stream, &mut parts, &mut ancillary, flags))?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                self.came = descriptors.next().or(self.came.take());
            }
        }
        Ok(received.bytes)
    }
}

/// Where the program is: beside this one.
fn beside_this() -> anyhow::Result<PathBuf> {
    let own = fs::read_link("/proc/self/exe").context("cannot tell where mfsd lies")?;
    let program = own.with_file_name("mfs-init");
    anyhow::ensure!(
        program.is_file(),
        "there is no {}, which jobs need: install mfs anew",
        program.display()
    );
    Ok(program)
}
