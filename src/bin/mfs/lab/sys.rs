//! System calls of the laboratory that the safe libraries do not offer: fork, signals as a descriptor,
//! and what a child does between fork and exec.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

/// On which side of a fork this process is.
#[derive(Debug)]
pub(super) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id in its own namespace.
    Parent(Pid),
}

/// Signals that are taken out of their usual course and read from a descriptor.
#[derive(Debug)]
pub(super) struct Signals {
    fd: OwnedFd,
    set: libc::sigset_t,
}

/// One signal that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    /// Its number.
    pub number: i32,
    /// The kernel sent it, as it does for the keys of a terminal; not a process.
    pub from_kernel: bool,
}

/// What a child does before it becomes its program.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// `cgroup.procs` or `tasks` of the group that it joins.
    pub cgroup: Option<OwnedFd>,
    /// A process whose network namespace it enters.
    pub network_of: Option<OwnedFd>,
    /// Becomes the leader of a session of its own.
    pub new_session: bool,
    /// Takes its standard input as its controlling terminal.
    pub terminal: bool,
    /// Is killed when the thread that started it ends.
    pub dies_with_parent: bool,
}

/// Splits this process in two.
///
/// # Preconditions
/// The process has one thread: the child continues in Rust code, and a lock held by another thread
/// would stay locked in it for ever.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: no pointer is involved; that no other thread exists is the documented precondition, kept by
    // the callers, which are commands of their own that start no thread.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        child => Pid::from_raw(child).filter(|_| child > 0).map(Fork::Parent).ok_or_else(last),
    }
}

/// Gives this thread new namespaces; of process ids only its future children.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: unsafe only because of CLONE_FILES, which could close descriptors under another thread's
    // hands; the laboratory never passes it.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Arranges that `command`'s child does as `setup` says.
pub(super) fn prepare(command: &mut Command, setup: Setup) {
    let in_child = move || -> io::Result<()> {
        unblock_all_signals()?;
        if setup.dies_with_parent {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        }
        if let Some(group) = &setup.cgroup {
            // 0 is the process that writes, in every version of control groups.
            rustix::io::write(group, b"0")?;
        }
        if let Some(process) = &setup.network_of {
            let network = ThreadNameSpaceType::NETWORK;
            rustix::thread::move_into_thread_name_spaces(process.as_fd(), network)?;
        }
        if setup.new_session {
            rustix::process::setsid()?;
        }
        if setup.terminal {
            // SAFETY: 0 is the standard input that Command has just put in place.
            let input = unsafe { BorrowedFd::borrow_raw(0) };
            rustix::process::ioctl_tiocsctty(input)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing, takes no
    // lock and touches no memory but its own captured descriptors.
    unsafe { command.pre_exec(in_child) };
}

/// Ends this process by `signal`, so that its parent sees the same end as that of the process it stood
/// for.
pub(super) fn die_of(signal: i32) -> ! {
    // SAFETY: plain calls without pointers to anything but a local that lives long enough; raising a
    // signal with its default action has no effect on memory.
    unsafe {
        // A core file of this process would say nothing about the one that crashed.
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::signal(signal, libc::SIG_DFL);
    }
    if unblock_all_signals().is_ok() {
        // SAFETY: as above.
        unsafe { libc::raise(signal) };
    }
    std::process::exit(128 + signal)
}

/// Puts `file` in the place of standard input, output and error.
pub(super) fn replace_standard_streams(file: &impl AsFd) -> io::Result<()> {
    let file = file.as_fd().as_raw_fd();
    for stream in 0..=2 {
        // SAFETY: both descriptors are open; what Rust's own handles of 0 to 2 refer to may change, they
        // own nothing.
        if unsafe { libc::dup2(file, stream) } < 0 {
            return Err(last());
        }
    }
    Ok(())
}

/// Blocks no signal any more in this thread.
pub(super) fn unblock_all_signals() -> io::Result<()> {
    // SAFETY: a signal set is plain old data for which all zeroes is a value; sigemptyset makes it valid,
    // and both calls only use it while it is borrowed.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> io::Error {
    io::Error::last_os_error()
}

// === impl Signals ===

impl Signals {
    /// Takes these signals; they stay taken when this is dropped.
    pub(super) fn take(numbers: &[i32]) -> io::Result<Self> {
        // SAFETY: a signal set is plain old data for which all zeroes is a value; the calls use it only
        // while it is borrowed. signalfd answers a new descriptor that nobody else owns, or -1.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for &number in numbers {
                libc::sigaddset(&mut set, number);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
                return Err(last());
            }
            match libc::signalfd(-1, &set, libc::SFD_CLOEXEC) {
                fd if fd >= 0 => Ok(Self { fd: OwnedFd::from_raw_fd(fd), set }),
                _ => Err(last()),
            }
        }
    }

    /// Waits for the next one.
    pub(super) fn next(&self) -> io::Result<Arrived> {
        let mut buffer = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut buffer))?;
        if length != buffer.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the kernel filled all bytes of the structure, which is plain old data; the read is
        // unaligned because a byte buffer need not be aligned.
        let info: libc::signalfd_siginfo =
            unsafe { std::ptr::read_unaligned(buffer.as_ptr().cast()) };
        let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
        Ok(Arrived { number, from_kernel: info.ssi_code > 0 })
    }

    /// Lets `number` do what it does by default for a moment, and sends it to this process: how a program
    /// that takes SIGTSTP still stops.
    pub(super) fn default_action(&self, number: i32) -> io::Result<()> {
        // SAFETY: signal sets as in `take`; no handler is installed, so no code runs on the signal.
        unsafe {
            libc::raise(number);
            let mut one: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut one);
            libc::sigaddset(&mut one, number);
            libc::sigprocmask(libc::SIG_UNBLOCK, &one, std::ptr::null_mut());
            if libc::sigprocmask(libc::SIG_BLOCK, &self.set, std::ptr::null_mut()) != 0 {
                return Err(last());
            }
        }
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
