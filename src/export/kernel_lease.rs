//! `KernelLease`s: files that nobody on this machine opens for writing before this process has heard of it.
//!
//! While such a lease (fcntl(2), F_SETLEASE with F_RDLCK) is held, nobody has the file open for writing, be it
//! only to store through a mapping, and whoever wants to, or wants to cut the file off, waits: until the lease
//! is given back, or for `/proc/sys/fs/lease-break-time` seconds. Of changes of names and attributes it tells
//! nothing. (fs/locks.c, `__break_lease`.)
//!
//! The kernel tells one thread of this process, by a real-time signal that only this thread holds back; if too
//! many are pending, by SIGIO, and then all leases are looked at.
//!
//! Lock order: `KernelLeases::setting`, which is held while the kernel is asked, before `KernelLeases::files`.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fmt, io, thread};

use super::fd_budget::FdSlot;
use super::local_use::LocalUse;
use super::open_file::{Body, OpenFile};
use super::sys::{self, FileLease};
use super::tree::Tree;
use super::{Export, local_use};
use crate::sync::Mutex;
use crate::types::{FileId, InodeNo};

/// Called with the files that somebody waits to write.
pub type OnWriters = Box<dyn Fn(&[InodeNo]) + Send>;

/// The leases of one export, and the thread that is told of those who wait for them.
#[derive(Debug, Default)]
pub(super) struct KernelLeases {
    told: OnceLock<Told>,
    /// Held from asking the kernel until it is known: who looks takes a lease and gives it back.
    setting: Mutex<()>,
    files: Arc<Mutex<HashMap<RawFd, InodeNo>>>,
}

/// The thread.
#[derive(Debug)]
struct Told {
    thread: libc::pid_t,
    stop: Arc<AtomicBool>,
}

/// A lease of the kernel's own. Given back when it is dropped.
#[must_use = "the lease is given back when this is dropped"]
pub struct KernelLease {
    tree: Arc<Tree>,
    file: FileId,
    /// The description of an open that may have ended since.
    fd: Arc<OwnedFd>,
    _slot: FdSlot,
}

/// For how many seconds the kernel lets who wants to write wait for a lease (proc_sys_fs(5)); 0: as long as it takes.
const BREAK_TIME: &str = "/proc/sys/fs/lease-break-time";

/// Whether it waits as long as that.
fn is_enough(waits: &str, longest: Duration) -> bool {
    waits.trim().parse().is_ok_and(|seconds: u64| seconds == 0 || seconds >= longest.as_secs())
}

/// The signal by which the kernel tells. One that nothing else uses; the C library has the first few.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 7
}

// === impl Export ===

impl Export {
    /// From now on has `wake` called, on a thread of its own, with the files that somebody waits to write.
    /// Before, no leases are given; nor are they where the kernel would not let writers wait for as long as it may
    /// take to give them back. Called again, it changes nothing.
    pub fn on_writers(&self, longest: Duration, wake: OnWriters) {
        let leases = &self.tree.kernel_leases;
        if !self.tree.abilities.leases || leases.told.get().is_some() {
            return;
        }
        let waits = std::fs::read_to_string(BREAK_TIME).unwrap_or_default();
        if !is_enough(&waits, longest) {
            return tracing::warn!(
                "each open of another node's mount is a message: local writers would wait for it for {} s only, \
                 and not {}; see {BREAK_TIME}",
                waits.trim(),
                longest.as_secs()
            );
        }
        match leases.start(wake) {
            Ok(told) => drop(leases.told.set(told)), // by whoever composes the daemon, once
            Err(error) => tracing::warn!("local writers cannot be noticed in time: {error}"),
        }
    }

    /// A lease on an open file that is open for reading alone, and who else of this machine has it open.
    /// `None`: somebody has it open for writing, the file system has no leases, or there are too many. Does
    /// not wait.
    pub fn lease_for_reading(&self, open: &OpenFile) -> Option<(KernelLease, LocalUse)> {
        let leases = &self.tree.kernel_leases;
        let told = leases.told.get()?;
        let Body::File(fd) = &open.0.body else { return None };
        let slot = self.tree.budget.take().ok()?;
        let _setting = leases.setting.lock();
        // Before the lease: who waits for it from then on is found by its number.
        leases.files.lock().insert(fd.as_raw_fd(), open.number());
        let set = sys::tell_by(fd.as_fd(), signal(), Some(told.thread))
            .and_then(|()| sys::set_lease(fd.as_fd(), FileLease::Read));
        if !matches!(set, Ok(true)) {
            leases.files.lock().remove(&fd.as_raw_fd());
            return None;
        }
        let (tree, file) = (Arc::clone(&self.tree), open.file().clone());
        tree.opens.note(&file, fd);
        let lease = KernelLease { tree, file, fd: Arc::clone(fd), _slot: slot };
        let used = match &self.tree.opens.all(open.file())[..] {
            [_] => match is_open_elsewhere(fd.as_fd(), true) {
                Ok(true) => LocalUse::Reads,
                Ok(false) => LocalUse::None,
                Err(_) => LocalUse::Unknown,
            },
            _ => LocalUse::Unknown,
        };
        Some((lease, used))
    }
}

// === impl KernelLeases ===

impl KernelLeases {
    /// Looks at what the kernel counts of a file by these descriptors of it.
    pub(super) fn local_use(&self, own: &[Arc<OwnedFd>]) -> LocalUse {
        let _setting = self.setting.lock();
        let is_leased = |fd: &Arc<OwnedFd>| self.files.lock().contains_key(&fd.as_raw_fd());
        local_use::of(own, is_leased)
    }

    fn start(&self, wake: OnWriters) -> io::Result<Told> {
        let stop = Arc::new(AtomicBool::new(false));
        let (files, stopped) = (Arc::clone(&self.files), Arc::clone(&stop));
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("mfs-writers".to_owned()).spawn(move || {
            let signals = [signal(), libc::SIGIO];
            let held_back = sys::hold_back(&signals);
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            let failed = held_back.is_err();
            // Who waits for it has started this thread.
            let _ = sender.send(held_back.map(|()| thread));
            while !failed && !stopped.load(Ordering::Acquire) {
                let Some(fd) = sys::wait_for_signal(&signals) else { continue };
                let known = files.lock();
                let awaited: Vec<InodeNo> = match fd {
                    Some(fd) => known.get(&fd).copied().into_iter().collect(),
                    None => known.values().copied().collect(),
                };
                drop(known);
                if !awaited.is_empty() {
                    wake(&awaited);
                }
            }
        })?;
        let gone = |_| io::Error::other("its thread has ended");
        Ok(Told { thread: receiver.recv().map_err(gone)??, stop })
    }
}

impl Drop for KernelLeases {
    fn drop(&mut self) {
        if let Some(told) = self.told.get() {
            told.stop.store(true, Ordering::Release);
        }
    }
}

// === impl KernelLease ===

impl Drop for KernelLease {
    fn drop(&mut self) {
        let leases = &self.tree.kernel_leases;
        let setting = leases.setting.lock();
        // The description may be that of an open which goes on.
        if let Err(error) = sys::set_lease(self.fd.as_fd(), FileLease::None) {
            tracing::debug!(%error, "a lease of the kernel could not be given back");
        }
        leases.files.lock().remove(&self.fd.as_raw_fd());
        drop(setting);
        self.tree.opens.forget(&self.file, &self.fd);
    }
}

impl fmt::Debug for KernelLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelLease").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// Whether any process of this machine has the file open for writing, by asking for a lease that nobody
/// gets who shares the file with a writer. The lease is given back at once. The descriptor holds none.
///
/// # Errors
/// Those of fcntl(2): not all file systems have leases.
pub(super) fn is_open_for_writing(fd: BorrowedFd<'_>) -> io::Result<bool> {
    is_refused(fd, FileLease::Read)
}

/// Whether the file is open elsewhere: in another process of this machine, or through another descriptor that
/// was opened by itself. By such a lease as well, which only the single one gets. `leased`: the descriptor
/// holds one for reading, and keeps it.
///
/// # Errors
/// Those of fcntl(2).
pub(super) fn is_open_elsewhere(fd: BorrowedFd<'_>, leased: bool) -> io::Result<bool> {
    if !leased {
        return is_refused(fd, FileLease::Write);
    }
    let single = sys::set_lease(fd, FileLease::Write)?;
    if single {
        // Refused if somebody waits to write by now; then the stronger one stays until it is given back.
        sys::set_lease(fd, FileLease::Read)?;
    }
    Ok(!single)
}

fn is_refused(fd: BorrowedFd<'_>, lease: FileLease) -> io::Result<bool> {
    // Who opens the file between the two calls waits that long, and this process is told of it. This signal
    // is ignored by default.
    sys::tell_by(fd, libc::SIGURG, None)?;
    if !sys::set_lease(fd, lease)? {
        return Ok(true);
    }
    sys::set_lease(fd, FileLease::None)?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_lets_writers_through_too_early_is_recognised() {
        let longest = Duration::from_secs(15);
        for (waits, enough) in
            [("45\n", true), ("15\n", true), ("14\n", false), ("0\n", true), ("", false)]
        {
            assert_eq!(is_enough(waits, longest), enough, "{waits:?}");
        }
    }
}
