//! System calls of a job's first process that the safe libraries do not offer: fork, exec, signals by
//! number, and the attributes of a mount.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use std::os::unix::process::CommandExt;
use std::process::Command;

use mfs_init::{Limit, Modes};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// On which side of a fork this process is.
#[derive(Debug)]
pub(super) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(Pid),
}

/// Words as exec takes them: an array of pointers that ends in a null.
pub(super) struct Words {
    pointers: Vec<*const libc::c_char>,
    // What the pointers point to; a `CString`'s bytes stay in place when it is moved.
    _owned: Vec<CString>,
}

/// Splits this process in two.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: no pointer is involved, and mfs-init never starts a thread, so that no lock can stay locked
    // in the child by a thread that it does not have.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        child => Pid::from_raw(child).filter(|_| child > 0).map(Fork::Parent).ok_or_else(last),
    }
}

/// Gives this process new namespaces; of process ids only its future children.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: unsafe only because of CLONE_FILES, which could close descriptors under another thread's
    // hands; it is never passed, and there is no other thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Takes the descriptor that the daemon left open under this number.
///
/// # Preconditions
/// Called once for a number, before this process opens anything.
///
/// # Errors
/// It is not open.
pub(super) fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes no pointer, and answers EBADF where nothing is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(last());
    }
    // SAFETY: it is open, and nothing in this process owns it (precondition).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes all descriptors above the daemon's.
///
/// # Preconditions
/// Called before this process opens anything.
///
/// # Errors
/// The kernel is older than 5.9 (no close_range(2)).
pub(super) fn close_above(number: i32) -> io::Result<()> {
    // SAFETY: nothing in this process owns any of them (precondition).
    match unsafe { libc::syscall(libc::SYS_close_range, number + 1, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Puts `file` in the place of standard input, output and error.
pub(super) fn replace_standard_streams(file: &impl AsFd) -> io::Result<()> {
    replace_streams(file, 0..=2)
}

/// Puts `file` in the place of these of them.
pub(super) fn replace_streams(
    file: &impl AsFd,
    streams: impl IntoIterator<Item = i32>,
) -> io::Result<()> {
    for stream in streams {
        // SAFETY: both are numbers of descriptors; what Rust's own handles of 0 to 2 refer to may change,
        // they own nothing.
        if unsafe { libc::dup2(file.as_fd().as_raw_fd(), stream) } == -1 {
            return Err(last());
        }
    }
    Ok(())
}

/// Has exec close all descriptors but the standard streams.
///
/// # Errors
/// The kernel is older than 5.11 (CLOSE_RANGE_CLOEXEC).
pub(super) fn keep_only_standard_streams() -> io::Result<()> {
    // SAFETY: nothing is closed here, and no pointer is involved.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// Gives all signals back what they do by default, and keeps them from being delivered, but for SIGCONT.
pub(super) fn hold_signals() -> io::Result<()> {
    // The kernel's struct sigaction of all zeroes: SIG_DFL, no flags, an empty mask; on no machine longer.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the structure lives longer than the call, which only reads it, and installs no handler.
        // Past the C library, which keeps two signals to itself and would leave them ignored. SIGKILL and
        // SIGSTOP are refused, and are as they should be.
        unsafe {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), none, MASK_BYTES)
        };
    }
    // SAFETY: a signal set is plain old data for which all zeroes is a value; the calls use it only while
    // it is borrowed.
    let result = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        // One that goes on after it was stopped for images would keep the signal, which has done its work when it
        // is sent, and no image with it can be restored (CRIU 4.2).
        libc::sigdelset(&mut all, libc::SIGCONT);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// Ignores signals: bit n-1 for signal n.
pub(super) fn ignore(signals: u64) {
    for number in 1..=libc::SIGRTMAX() {
        if signals & (1 << (number - 1)) != 0 {
            // SAFETY: no handler is installed. A signal that cannot be ignored is refused.
            unsafe { libc::signal(number, libc::SIG_IGN) };
        }
    }
}

/// Has signals delivered again.
pub(super) fn let_signals_in() -> io::Result<()> {
    // SAFETY: as above.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// A descriptor that can be read when a child has ended (SIGCHLD, which must be held); it never blocks.
pub(super) fn children() -> io::Result<OwnedFd> {
    // SAFETY: the set as above; signalfd answers a new descriptor that nobody else owns, or -1.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(last()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Sends a signal, by its number, to a process group.
pub(super) fn signal_group(group: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: no pointer is involved.
    let result = unsafe { libc::kill(-group.as_raw_nonzero().get(), signal) };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// Kills every process of this namespace but its first, which must be the caller.
pub(super) fn kill_all_others() {
    // For anybody else -1 means the whole machine.
    if rustix::process::getpid().is_init() {
        // SAFETY: no pointer is involved. That there is nobody left to kill is no error.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Sets the modes of a terminal.
pub(super) fn set_modes(terminal: &impl AsFd, modes: &Modes) -> io::Result<()> {
    let terminal = terminal.as_fd().as_raw_fd();
    // SAFETY: the structure is plain old data for which all zeroes is a value; the calls use it only while it
    // is borrowed.
    let result = unsafe {
        let mut wanted: libc::termios = std::mem::zeroed();
        if libc::tcgetattr(terminal, &mut wanted) != 0 {
            return Err(last());
        }
        (wanted.c_iflag, wanted.c_oflag) = (modes.input, modes.output);
        (wanted.c_cflag, wanted.c_lflag) = (modes.control, modes.local);
        for (place, character) in wanted.c_cc.iter_mut().zip(&modes.characters) {
            *place = *character;
        }
        libc::tcsetattr(terminal, libc::TCSANOW, &wanted)
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// Sets a resource limit. Where the hard limit may not be raised (CAP_SYS_RESOURCE), it stays.
pub(super) fn set_limit(limit: Limit) -> io::Result<()> {
    let resource = limit.resource as _;
    let mut wanted = libc::rlimit { rlim_cur: limit.soft.min(limit.hard), rlim_max: limit.hard };
    // SAFETY: the structure lives longer than the call, which only reads it.
    if unsafe { libc::setrlimit(resource, &wanted) } == 0 {
        return Ok(());
    }
    let mut present = wanted;
    // SAFETY: the structures live longer than the calls; the first call fills its own.
    unsafe {
        if libc::getrlimit(resource, &mut present) != 0 {
            return Err(last());
        }
        wanted.rlim_max = wanted.rlim_max.min(present.rlim_max);
        wanted.rlim_cur = wanted.rlim_cur.min(wanted.rlim_max);
        if libc::setrlimit(resource, &wanted) == 0 { Ok(()) } else { Err(last()) }
    }
}

/// Takes setuid programs and device nodes of a mount, and of all below it, their power; leaves its other
/// attributes.
///
/// # Errors
/// The kernel is older than 5.12.
pub(super) fn tame(mount: &impl AsFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: path and structure live longer than the call, which reads as many bytes as it is told the
    // structure has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// Leaves the keyring of the daemon's session for a new, empty one.
pub(super) fn leave_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null for the name is allowed: the keyring has none. A kernel without keys refuses, and then
    // there is nothing to leave.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
}

/// Becomes another program; answers only if it cannot.
pub(super) fn exec(file: &CStr, arguments: &Words, environment: &Words) -> io::Error {
    // SAFETY: `Words` are arrays of pointers to strings that live as long as they, and end in a null.
    unsafe {
        libc::execve(file.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr())
    };
    last()
}

/// Puts descriptors under these numbers, to be there after exec.
///
/// # Preconditions
/// Nothing is done after it but exec: what was open under these numbers is not any more.
pub(super) fn pass(passed: &[(BorrowedFd<'_>, i32)]) -> io::Result<()> {
    let above = passed.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
    let mut apart = Vec::new();
    for (fd, number) in passed {
        // First out of the way of each other.
        apart.push((rustix::io::fcntl_dupfd_cloexec(fd, above)?, *number));
    }
    for (fd, number) in &apart {
        // SAFETY: both are numbers of descriptors; whoever owns what was open under `number` is not used any
        // more (precondition).
        if unsafe { libc::dup2(fd.as_raw_fd(), *number) } == -1 {
            return Err(last());
        }
    }
    Ok(())
}

/// A copy of a descriptor that programs that are started inherit.
pub(super) fn inheritable(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// Above the standard streams, which a child has for itself.
    const ABOVE: i32 = 10;
    let copy = rustix::io::fcntl_dupfd_cloexec(fd, ABOVE)?;
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty())?;
    Ok(copy)
}

/// Starts a program with these real ids and groups; it is root in effect.
pub(super) fn lend_real_ids(command: &mut Command, uid: u32, gid: u32, groups: Vec<u32>) {
    let change = move || {
        // SAFETY: the list lives longer than the call, which only reads as many of it as it is told.
        let changed = unsafe {
            libc::setgroups(groups.len(), groups.as_ptr()) == 0
                && libc::setresgid(gid, 0, 0) == 0
                && libc::setresuid(uid, 0, 0) == 0
        };
        if changed { Ok(()) } else { Err(last()) }
    };
    // SAFETY: between fork(2) and execve(2) it makes system calls only, and neither allocates nor locks.
    unsafe { command.pre_exec(change) };
}

/// Becomes the copy of this program at `file`, in that role, without an environment; answers only if it cannot.
pub(super) fn become_copy(file: &str, role: &str) -> io::Error {
    let text = |text: &str| CString::new(text).map_err(|_| io::ErrorKind::InvalidInput);
    match (text(file), text("mfs-init"), text(role)) {
        (Ok(file), Ok(name), Ok(role)) => {
            exec(&file, &Words::new(vec![name, role]), &Words::new(Vec::new()))
        }
        _ => io::ErrorKind::InvalidInput.into(),
    }
}

fn last() -> io::Error {
    io::Error::last_os_error()
}

// === impl Words ===

impl Words {
    /// These words.
    pub(super) fn new(words: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { pointers, _owned: words }
    }
}
