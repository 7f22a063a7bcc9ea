//! The way in: from the keeper to the first process, in namespaces of its own, below the home's tree.
//!
//! The first process goes on as a copy of this program that lies inside: an image of it names no file of the
//! machine it was made on.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mfs_init::{Report, Setup, write_frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, open, openat};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open};
use rustix::thread::UnshareFlags;

use crate::keeper::Ends;
use crate::refusal::{OrRefuse, Refusal};
use crate::sys::{self, Fork};
use crate::{FIRST, view};

/// Where the copy lies.
const COPY: &str = "/dev/.mfs-init";

/// Descriptors of the first process when it begins inside: orders and reports as it keeps them, its `Setup`,
/// and its keeper (pidfd_open(2)).
pub(super) const INSIDE_ORDERS: i32 = 3;
pub(super) const INSIDE_REPORTS: i32 = 4;
pub(super) const INSIDE_SETUP: i32 = 5;
pub(super) const INSIDE_KEEPER: i32 = 6;

/// Starts the first process of a new job. What leads to the daemon, and the process.
pub(super) fn begin(ends: Ends, setup: &Setup) -> Result<(UnixStream, Pid), Refusal> {
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    sys::unshare(own | UnshareFlags::NEWUTS).or_refuse("have namespaces of its own")?;
    let keeper = pidfd_open(getpid(), PidfdFlags::empty()).or_refuse("watch its keeper")?;
    match sys::fork().or_refuse("start a process")? {
        Fork::Child => {
            let report = match enter(&ends, setup, keeper) {
                Ok(never) => match never {},
                Err(refusal) => Report::from(refusal),
            };
            let _ = write_frame(File::from(ends.reports), &report);
            std::process::exit(0)
        }
        Fork::Parent(first) => Ok((ends.daemon, first)),
    }
}

/// Makes the job's world, and becomes the copy inside.
fn enter(ends: &Ends, setup: &Setup, keeper: OwnedFd) -> Result<std::convert::Infallible, Refusal> {
    die_with(&keeper)?;
    // A leader of a session outside the namespace could not be carried to another node.
    rustix::process::setsid().or_refuse("have a session")?;
    let own = open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = own.or_refuse("find its own program")?;
    view::enter(setup)?;
    rustix::system::sethostname(setup.host_name.as_bytes()).or_refuse("have its host's name")?;
    copy(File::from(own)).or_refuse(format_args!("have {COPY}"))?;
    let told = tell(setup).or_refuse("be told what to run")?;
    let passed = [
        (ends.orders.as_fd(), INSIDE_ORDERS),
        (ends.reports.as_fd(), INSIDE_REPORTS),
        (told.as_fd(), INSIDE_SETUP),
        (keeper.as_fd(), INSIDE_KEEPER),
    ];
    sys::pass(&passed).or_refuse("pass on its descriptors")?;
    Err(sys::become_copy(COPY, FIRST)).or_refuse(format_args!("become {COPY}"))
}

/// Has the kernel kill this process, and with it the namespace, when its keeper ends.
pub(super) fn die_with(keeper: &OwnedFd) -> Result<(), Refusal> {
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

fn copy(mut own: File) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut copy = File::from(openat(CWD, COPY, flags, Mode::from_raw_mode(0o555))?);
    let mut program = Vec::new();
    own.read_to_end(&mut program)?;
    copy.write_all(&program)?;
    // The mask of the daemon may have taken bits away.
    Ok(rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o555))?)
}

/// The setup in a file of its own, to be read from its beginning.
fn tell(setup: &Setup) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("setup", MemfdFlags::CLOEXEC)?);
    write_frame(&file, setup).map_err(std::io::Error::other)?;
    file.rewind()?;
    Ok(file.into())
}
