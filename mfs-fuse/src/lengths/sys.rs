//! open_by_handle_at(2) in a FUSE mount.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use mfs::types::InodeNo;

/// `FILEID_INO64_GEN` of include/linux/exportfs.h: a number of 64 bits, the higher half first, and a generation.
const KIND: c_int = 0x81;

/// `struct file_handle` with such a handle.
#[repr(C)]
struct Handle {
    len: u32,
    kind: c_int,
    number: [u32; 2],
    generation: u32,
}

/// Opens (O_PATH) the file of the mount that `mount` is open on (not O_PATH). Needs CAP_DAC_READ_SEARCH.
///
/// # Errors
/// ESTALE if the kernel does not have it in memory.
pub(super) fn open_by_number(mount: BorrowedFd<'_>, ino: InodeNo) -> io::Result<OwnedFd> {
    let number = [(ino.get() >> 32) as u32, ino.get() as u32];
    // This mount gives all of its files the generation 0.
    let mut handle = Handle { len: 12, kind: KIND, number, generation: 0 };
    // SAFETY: `handle` is laid out as struct file_handle and holds `len` bytes; it outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            c_long::from(mount.as_raw_fd()),
            &raw mut handle,
            c_long::from(libc::O_PATH | libc::O_CLOEXEC),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call just returned this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
