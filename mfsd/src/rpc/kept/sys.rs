//! The mapping of a file into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FallocateFlags;

use super::Memory;

/// A file as words of memory. What was stored is in the file, whatever becomes of this process.
#[derive(Debug)]
pub(super) struct Mapping {
    words: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory belongs to the mapping, may be used from any thread, and is used as atomics alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

// === impl Mapping ===

impl Mapping {
    /// Maps the first `count` words of a file, for which space is taken now: a page that could not be had
    /// later would kill the process (SIGBUS).
    pub(super) fn of(file: &File, count: usize) -> io::Result<Self> {
        let length = count * size_of::<u64>();
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length as u64)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is open.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, flags, file.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { words, count })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.count, "word {at} of {}", self.count);
        // SAFETY: within the mapping, which lives as long as `self`; pages are aligned for words, and any bits
        // are a word.
        unsafe { self.words.add(at).as_ref() }
    }
}

impl Memory for Mapping {
    fn set(&self, at: usize, word: u64) {
        // What was stored before is there before: the compiler must not change the order.
        self.word(at).store(word, Ordering::Release);
    }

    fn get(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let length = self.count * size_of::<u64>();
        // SAFETY: mapped with this length in `of`, and not used any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), length) };
    }
}
