//! The system calls of fanotify(7), with typed arguments, and the events as they come.

#![allow(unsafe_code)]

use std::ffi::{CString, c_uint};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use smallvec::SmallVec;

use crate::export::mounts::proc_path;
use crate::export::sys::KernelHandle;

/// A file as an event names it: the `f_fsid` of its file system, and its handle.
pub(super) type Fid = (u64, KernelHandle);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// What happened (FAN_...); several things that happened to one name come as one event.
    pub(super) mask: u64,
    /// Which process did it.
    pub(super) pid: i32,
    /// The directory of the name, or the directory itself.
    pub(super) directory: Option<Fid>,
    /// The file.
    pub(super) file: Option<Fid>,
}

/// What is asked for of a file system: names that appear and go, attributes. Not FAN_ACCESS (each read), nor
/// what a change of names says already (FAN_DELETE_SELF, FAN_MOVE_SELF).
const WANTED: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;

/// What is asked for of a file besides. What was written through a map is said by FAN_CLOSE_WRITE alone, and who
/// may map it by FAN_OPEN.
const WRITES: u64 = libc::FAN_MODIFY | libc::FAN_OPEN | libc::FAN_CLOSE;

const METADATA_LEN: usize = 24;
const INFO_HEAD_LEN: usize = 4;

/// A group with no marks, read without waiting. Its queue is the kernel's usual one
/// (`fs.fanotify.max_queued_events`, 16,384): more is an overflow, which says that anything may have
/// happened.
pub(super) fn group() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF
        | libc::FAN_CLOEXEC
        | libc::FAN_NONBLOCK
        | libc::FAN_REPORT_DFID_NAME_TARGET;
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as c_uint) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call just returned this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Watches the names and attributes of the whole file system that `fd` lies in, whichever mount of it is
/// used. Needs CAP_SYS_ADMIN. Does not keep it from being unmounted.
///
/// # Errors
/// ENODEV, EOPNOTSUPP or EXDEV where a file system has no ids that events could name its files by.
pub(super) fn mark_file_system(group: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    mark(group, libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, WANTED, &proc_path(fd))
}

/// Watches what is written to the file that `fd` (O_PATH) is open on. Its inode stays in memory until the
/// mark goes, or the file; neither that nor unmounting is kept from happening.
///
/// # Errors
/// ENOSPC if there are as many marks as there may be (`fs.fanotify.max_user_marks`).
pub(super) fn mark_file(group: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    mark(group, libc::FAN_MARK_ADD, WRITES, &proc_path(fd))
}

/// Watches it no more.
///
/// # Errors
/// ENOENT if it was not watched.
pub(super) fn unmark_file(group: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    mark(group, libc::FAN_MARK_REMOVE, WRITES, &proc_path(fd))
}

/// Takes away the marks of all files.
///
/// # Errors
/// Of a descriptor that is no group.
pub(super) fn unmark_files(group: BorrowedFd<'_>) -> io::Result<()> {
    mark(group, libc::FAN_MARK_FLUSH, 0, "/")
}

/// Takes away the marks of all file systems.
///
/// # Errors
/// Of a descriptor that is no group.
pub(super) fn unmark_file_systems(group: BorrowedFd<'_>) -> io::Result<()> {
    mark(group, libc::FAN_MARK_FLUSH | libc::FAN_MARK_FILESYSTEM, 0, "/")
}

fn mark(group: BorrowedFd<'_>, flags: c_uint, events: u64, path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: `path` ends with NUL and outlives the call.
    let done = unsafe {
        libc::fanotify_mark(group.as_raw_fd(), flags, events, libc::AT_FDCWD, path.as_ptr())
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The flags of an XFS file system's geometry.
///
/// # Errors
/// ENOTTY of another file system.
pub(super) fn xfs_flags(fd: BorrowedFd<'_>) -> io::Result<u32> {
    /// `struct xfs_fsop_geom_v4` of `xfs_fs.h`: 112 bytes.
    type Geometry = [u64; 14];
    const FSGEOMETRY_V4: libc::Ioctl = libc::_IOR::<Geometry>(b'X' as u32, 124);
    /// Where in it the flags are.
    const FLAGS: usize = 92;
    let mut geometry: Geometry = [0; 14];
    // SAFETY: the kernel writes a struct of the size that is part of the request's number, which is that
    // of `geometry`.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), FSGEOMETRY_V4, &raw mut geometry) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes: Vec<u8> = geometry.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(number::<4>(&bytes, FLAGS) as u32)
}

/// Takes what is in the queue, up to the size of `buffer`. Nothing is there: 0.
pub(super) fn read(group: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(group.as_fd(), &mut *buffer) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(0),
            result => return Ok(result?),
        }
    }
}

/// The events in what was read. `None` in place of one that does not say what was changed.
pub(super) fn events(mut bytes: &[u8]) -> Vec<Option<Event>> {
    let mut events = Vec::new();
    while bytes.len() >= METADATA_LEN {
        let len = (number::<4>(bytes, 0) as usize).clamp(METADATA_LEN, bytes.len());
        let (event, rest) = bytes.split_at(len);
        events.push(parse(event));
        bytes = rest;
    }
    events
}

fn parse(event: &[u8]) -> Option<Event> {
    let mask = number::<8>(event, 8);
    if mask & libc::FAN_Q_OVERFLOW != 0 || event[4] != libc::FANOTIFY_METADATA_VERSION {
        return None;
    }
    let pid = number::<4>(event, 20) as u32 as i32;
    let mut parsed = Event { mask, pid, directory: None, file: None };
    let mut infos = &event[(number::<2>(event, 6) as usize).clamp(METADATA_LEN, event.len())..];
    while infos.len() >= INFO_HEAD_LEN {
        let len = (number::<2>(infos, 2) as usize).clamp(INFO_HEAD_LEN, infos.len());
        let (info, rest) = infos.split_at(len);
        match info[0] {
            libc::FAN_EVENT_INFO_TYPE_FID => parsed.file = Some(fid(info)?),
            libc::FAN_EVENT_INFO_TYPE_DFID | libc::FAN_EVENT_INFO_TYPE_DFID_NAME => {
                parsed.directory = Some(fid(info)?);
            }
            _ => {}
        }
        infos = rest;
    }
    (parsed.directory.is_some() || parsed.file.is_some()).then_some(parsed)
}

/// `struct fanotify_event_info_fid`; `None` where the file system could not make a handle.
fn fid(info: &[u8]) -> Option<Fid> {
    const HANDLE: usize = INFO_HEAD_LEN + 8;
    let len = number::<4>(info, HANDLE) as usize;
    let kind = number::<4>(info, HANDLE + 4) as u32 as i32;
    let bytes = info.get(HANDLE + 8..HANDLE + 8 + len).filter(|bytes| !bytes.is_empty())?;
    let handle = KernelHandle { kind, bytes: SmallVec::from_slice(bytes) };
    Some((number::<8>(info, INFO_HEAD_LEN), handle))
}

/// A number of `N` bytes in the machine's order; 0 where there are not as many.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    if let Some(found) = bytes.get(at..at + N) {
        // All numbers here are of the kernel's own machine.
        let start = if cfg!(target_endian = "little") { 0 } else { 8 - N };
        wide[start..start + N].copy_from_slice(found);
    }
    u64::from_ne_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_stands_for_anything_and_the_rest_is_read() {
        let mut bytes = vec![0; METADATA_LEN];
        bytes[0] = METADATA_LEN as u8;
        bytes[4] = libc::FANOTIFY_METADATA_VERSION;
        bytes[8..16].copy_from_slice(&libc::FAN_Q_OVERFLOW.to_ne_bytes());
        assert_eq!(events(&bytes), [None]);
        for len in 0..200 {
            for byte in [0, 1, 24, 255] {
                let _ = events(&vec![byte; len]);
            }
        }
        assert_eq!(events(&[]), []);
    }
}
