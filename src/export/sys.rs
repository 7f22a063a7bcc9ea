//! The system calls of serving a tree that rustix does not have, with typed arguments.
//!
//! The only file of `export` with `unsafe`. What rustix offers is called from it directly.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::OFlags;
use rustix::thread::UnshareFlags;
use smallvec::SmallVec;

use crate::types::{AccessMode, op::LockKind, op::LockRange};

/// What `name_to_handle_at(2)` says of a file: opaque bytes that name it within its file system for
/// as long as it exists, its generation included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct KernelHandle {
    /// `handle_type`, the file system's own.
    pub(super) kind: i32,
    /// `f_handle`; at most [`KernelHandle::MAX_LEN`].
    pub(super) bytes: SmallVec<[u8; 32]>,
}

/// A handle may name the file only to tell it from others, not to open it (AT_HANDLE_FID, Linux 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandleUse {
    /// `open_by_handle_at(2)` will take it.
    Open,
    /// It identifies only.
    Identify,
}

/// A range lock that another holds (F_OFD_GETLK).
#[derive(Debug, Clone, Copy)]
pub(super) struct Conflict {
    pub(super) kind: LockKind,
    pub(super) range: LockRange,
    pub(super) pid: i32,
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct RawHandle {
    len: u32,
    kind: c_int,
    bytes: [u8; KernelHandle::MAX_LEN],
}

/// `AT_HANDLE_FID` of `linux/fcntl.h`, which libc does not have yet.
const AT_HANDLE_FID: c_int = 0x200;

// === impl KernelHandle ===

impl KernelHandle {
    /// Longest handle, bytes (MAX_HANDLE_SZ).
    pub(super) const MAX_LEN: usize = 128;
}

/// `name_to_handle_at(2)` of `name` in `dir`, or of `dir` itself for an empty name. Also answers the
/// id of the mount. Needs no privilege; follows no link.
///
/// # Errors
/// EOPNOTSUPP where the file system has no such handles.
pub(super) fn name_to_handle(
    dir: BorrowedFd<'_>,
    name: &CStr,
    purpose: HandleUse,
) -> io::Result<(KernelHandle, i32)> {
    let mut raw =
        RawHandle { len: KernelHandle::MAX_LEN as u32, kind: 0, bytes: [0; KernelHandle::MAX_LEN] };
    let mut mount_id: c_int = 0;
    let mut flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    if purpose == HandleUse::Identify {
        flags |= AT_HANDLE_FID;
    }
    // SAFETY: `name` ends with NUL; `raw` is laid out as struct file_handle with `len` bytes of room
    // behind its head, which the kernel does not exceed; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            c_long::from(dir.as_raw_fd()),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            c_long::from(flags),
        )
    };
    check(done)?;
    let len = (raw.len as usize).min(KernelHandle::MAX_LEN);
    Ok((KernelHandle { kind: raw.kind, bytes: SmallVec::from_slice(&raw.bytes[..len]) }, mount_id))
}

/// `open_by_handle_at(2)` in the file system that `mount` is open on (not O_PATH). Needs
/// CAP_DAC_READ_SEARCH.
///
/// # Errors
/// ESTALE if the file is gone.
pub(super) fn open_by_handle(
    mount: BorrowedFd<'_>,
    handle: &KernelHandle,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    if handle.bytes.len() > KernelHandle::MAX_LEN {
        return Err(io::Error::from_raw_os_error(libc::ESTALE));
    }
    let mut raw = RawHandle {
        len: handle.bytes.len() as u32,
        kind: handle.kind,
        bytes: [0; KernelHandle::MAX_LEN],
    };
    raw.bytes[..handle.bytes.len()].copy_from_slice(&handle.bytes);
    // SAFETY: `raw` is laid out as struct file_handle and holds `len` bytes; it outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            c_long::from(mount.as_raw_fd()),
            &raw mut raw,
            c_long::from(flags.bits() as c_int),
        )
    };
    check(fd)?;
    // SAFETY: the call just returned this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `faccessat2(2)` on the file itself, with the thread's file-system identity and effective
/// capabilities (AT_EACCESS), which rustix refuses together with AT_EMPTY_PATH.
pub(super) fn check_access(fd: impl AsFd, mode: AccessMode) -> io::Result<()> {
    // SAFETY: the path is a constant that ends with NUL.
    let done = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            c_long::from(fd.as_fd().as_raw_fd()),
            c"".as_ptr(),
            c_long::from(mode.bits()),
            c_long::from(libc::AT_EACCESS | libc::AT_EMPTY_PATH),
        )
    };
    check(done)
}

/// `truncate(2)`, which rustix lacks: needs the right to write to the file, but opens nothing.
pub(super) fn truncate(path: &str, size: u64) -> io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    let size = i64::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: `path` ends with NUL and outlives the call.
    check(c_long::from(unsafe { libc::truncate(path.as_ptr(), size) }))
}

/// Sets the calling thread's file-system user id, and answers the one it had; an impossible id
/// (`u32::MAX`) changes nothing, which is how the present one is read. Cannot fail visibly:
/// the caller reads back.
pub(super) fn set_fsuid(uid: u32) -> u32 {
    // SAFETY: takes and returns integers; affects only the calling thread's credentials.
    unsafe { libc::syscall(libc::SYS_setfsuid, c_long::from(uid)) as u32 }
}

/// As [`set_fsuid`], for the group.
pub(super) fn set_fsgid(gid: u32) -> u32 {
    // SAFETY: takes and returns integers; affects only the calling thread's credentials.
    unsafe { libc::syscall(libc::SYS_setfsgid, c_long::from(gid)) as u32 }
}

/// Gives the calling thread its own umask and working directory (CLONE_FS): one process has one
/// umask otherwise.
pub(super) fn unshare_fs() -> io::Result<()> {
    // SAFETY: CLONE_FS unshares nothing that Rust's guarantees rest on (no descriptors, no memory).
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    Ok(())
}

/// Takes, changes or releases a range lock of the open description (F_OFD_SETLK); never waits.
///
/// # Errors
/// EAGAIN if another holds it; EBADF if the description's mode does not fit; EINVAL for a range that
/// cannot be.
pub(super) fn set_range_lock(fd: impl AsFd, kind: LockKind, range: LockRange) -> io::Result<()> {
    let raw = raw_lock(kind, range)?;
    // SAFETY: `raw` is a struct flock that outlives the call; F_OFD_SETLK reads it only.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const raw) };
    check(c_long::from(done))
}

/// Which lock stands in the way of this one (F_OFD_GETLK); `None` if none does.
pub(super) fn get_range_lock(
    fd: impl AsFd,
    kind: LockKind,
    range: LockRange,
) -> io::Result<Option<Conflict>> {
    let mut raw = raw_lock(kind, range)?;
    // SAFETY: `raw` is a struct flock that outlives the call, which may write to it.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &raw mut raw) };
    check(c_long::from(done))?;
    let kind = match c_int::from(raw.l_type) {
        libc::F_RDLCK => LockKind::Shared,
        libc::F_WRLCK => LockKind::Exclusive,
        _ => return Ok(None),
    };
    let start = raw.l_start.max(0) as u64;
    let end = if raw.l_len <= 0 { u64::MAX } else { start + (raw.l_len as u64 - 1) };
    Ok(Some(Conflict { kind, range: LockRange { start, end }, pid: raw.l_pid }))
}

/// fcntl(2): the signal that tells of a lease to be given back (include/uapi/asm-generic/fcntl.h).
const F_SETSIG: c_int = 10;

/// fcntl(2): who gets that signal.
const F_SETOWN_EX: c_int = 15;

/// `struct f_owner_ex`.
#[repr(C)]
struct Owner {
    kind: c_int,
    id: libc::pid_t,
}

/// One thread (`F_OWNER_TID`).
const OWNER_THREAD: c_int = 0;

/// A lease of the kernel's own on a file (fcntl(2), F_SETLEASE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileLease {
    /// Who opens the file for writing waits.
    Read,
    /// Who opens it at all waits.
    Write,
    /// None.
    None,
}

/// Takes, changes or gives back such a lease. `false`: somebody has the file open in the way that it is to
/// keep from opening it, through another description than this descriptor's.
///
/// # Errors
/// Those of fcntl(2): not all file systems have leases.
pub(super) fn set_lease(fd: BorrowedFd<'_>, lease: FileLease) -> io::Result<bool> {
    let lease = match lease {
        FileLease::Read => libc::F_RDLCK,
        FileLease::Write => libc::F_WRLCK,
        FileLease::None => libc::F_UNLCK,
    };
    // SAFETY: this command of fcntl(2) takes an integer.
    match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, lease) }.into()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Names the signal that tells of somebody who waits for a lease on the file: this process gets it, or that
/// thread of it alone. Without, it would be SIGIO, which ends a process that does not expect it.
///
/// # Errors
/// Those of fcntl(2).
pub(super) fn tell_by(
    fd: BorrowedFd<'_>,
    signal: c_int,
    thread: Option<libc::pid_t>,
) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: this command of fcntl(2) takes an integer.
    check(unsafe { libc::fcntl(fd, F_SETSIG, signal) }.into())?;
    let Some(id) = thread else { return Ok(()) };
    let owner = Owner { kind: OWNER_THREAD, id };
    // SAFETY: this command takes a struct f_owner_ex, which outlives the call and is only read.
    check(unsafe { libc::fcntl(fd, F_SETOWN_EX, &raw const owner) }.into())
}

/// Holds signals back from the calling thread, for [`wait_for_signal`].
///
/// # Errors
/// Those of pthread_sigmask(3).
pub(super) fn hold_back(signals: &[c_int]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set was initialised, and nobody wants to know the old one.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Takes one of these signals, which are held back; the descriptor that it is about, if it says so. `None`
/// if none has come for a second.
pub(super) fn wait_for_signal(signals: &[c_int]) -> Option<Option<RawFd>> {
    let set = signal_set(signals);
    let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: a siginfo_t is plain data, for which zeros are a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: all three outlive the call, which writes to `info` alone.
    let signal = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const second) };
    if signal < 0 {
        return None;
    }
    // Of a signal of F_SETSIG the kernel says which descriptor (sigaction(2), si_fd); it follows the band.
    let of_file = signal != libc::SIGIO && info.si_code > 0;
    // SAFETY: for such a signal the kernel has written `si_band` (a long) and `si_fd` to the union that
    // begins 16 bytes into a siginfo_t of 128 bytes (include/uapi/asm-generic/siginfo.h).
    let fd = unsafe { (&raw const info).cast::<u8>().add(24).cast::<c_int>().read_unaligned() };
    Some(of_file.then_some(fd))
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: a sigset_t is plain data, and initialised by sigemptyset(3) before it is used.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a sigset_t of this function's own.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: as above; a number that is no signal is refused by the call, and changes nothing.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// The kernel's form of a lock: offsets are signed, and a length of 0 reaches to the end of any file.
fn raw_lock(kind: LockKind, range: LockRange) -> io::Result<libc::flock> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    if range.start > range.end {
        return Err(invalid());
    }
    let start = i64::try_from(range.start).map_err(|_| invalid())?;
    let length =
        if range.end >= i64::MAX as u64 { 0 } else { (range.end - range.start + 1) as i64 };
    // SAFETY: struct flock is plain integers, for which zero is a value.
    let mut raw: libc::flock = unsafe { std::mem::zeroed() };
    raw.l_type = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    } as libc::c_short;
    raw.l_whence = libc::SEEK_SET as libc::c_short;
    raw.l_start = start;
    raw.l_len = length;
    Ok(raw)
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_opens_the_file_it_was_made_from() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"here").unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let (handle, _) = name_to_handle(fd.as_fd(), c"a", HandleUse::Open).unwrap();
        {
            let found = open_by_handle(fd.as_fd(), &handle, OFlags::PATH).unwrap();
            let found = rustix::fs::fstat(&found).unwrap();
            let wanted = rustix::fs::stat(dir.path().join("a")).unwrap();
            assert_eq!((found.st_dev, found.st_ino), (wanted.st_dev, wanted.st_ino));
        }
        std::fs::remove_file(dir.path().join("a")).unwrap();
        let gone = open_by_handle(fd.as_fd(), &handle, OFlags::PATH).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESTALE));
    }

    #[test]
    fn ranges_that_cannot_be_are_refused_and_the_largest_is_to_the_end() {
        let lock = |start, end| raw_lock(LockKind::Shared, LockRange { start, end });
        assert!(lock(2, 1).is_err());
        assert!(lock(i64::MAX as u64 + 1, u64::MAX).is_err());
        assert_eq!(lock(0, u64::MAX).unwrap().l_len, 0);
        assert_eq!(lock(5, 5).unwrap().l_len, 1);
        assert_eq!(lock(0, i64::MAX as u64 - 1).unwrap().l_len, i64::MAX);
    }
}
