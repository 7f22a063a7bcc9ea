//! The system calls that the tests need and rustix lacks, and identities of threads.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mfs::types::Caller;
use rustix::fs::{FileType, Mode};
use rustix::thread::UnshareFlags;

pub(crate) fn make_fifo(path: &Path) {
    make_node(path, FileType::Fifo, 0);
}

pub(crate) fn make_device(path: &Path, major: u32, minor: u32) {
    make_node(path, FileType::CharacterDevice, rustix::fs::makedev(major, minor));
}

fn make_node(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::from_raw_mode(0o666), device)
        .expect("mknod");
}

/// Gives the calling thread a mount namespace of its own, from which nothing spreads.
pub(crate) fn own_mounts() {
    // SAFETY: unsharing mounts and the working directory leaves memory and descriptors as they are.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.expect("unshare");
    let private =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("mount --make-rprivate");
}

/// Makes the calling thread an ordinary process of this user for good, real ids and all, by the means
/// of setuid(2) and not those of the export.
pub(crate) fn become_for_good(caller: &Caller) {
    // SAFETY: unsharing the umask and the working directory leaves memory and descriptors as they are.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.expect("unshare");
    rustix::process::umask(Mode::from_raw_mode(caller.umask));
    let groups: Vec<u32> = caller.groups.to_vec();
    // SAFETY: the raw calls take integers and a slice that outlives them, and change the calling
    // thread only.
    let failed = unsafe {
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) != 0
            || libc::syscall(libc::SYS_setresgid, caller.gid, caller.gid, caller.gid) != 0
            || libc::syscall(libc::SYS_setresuid, caller.uid, caller.uid, caller.uid) != 0
    };
    assert!(!failed, "{}", std::io::Error::last_os_error());
}

/// The lines of the calling thread's status that say who it is.
pub(crate) fn identity() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("/proc");
    let told = ["Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "Umask:"];
    status
        .lines()
        .filter(|line| told.iter().any(|told| line.starts_with(told)))
        .map(str::to_owned)
        .collect()
}

/// F_OFD_SETLK of one byte range on a local file; whether it was granted.
pub(crate) fn local_lock(file: &std::fs::File, exclusive: bool, start: i64, len: i64) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: struct flock is plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK } as libc::c_short;
    lock.l_start = start;
    lock.l_len = len;
    // SAFETY: the descriptor is open and `lock` outlives the call.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}

pub(crate) fn truncate(path: &Path, size: i64) -> std::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with NUL and outlives the call.
    match unsafe { libc::truncate(path.as_ptr(), size) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
