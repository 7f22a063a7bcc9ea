//! mmap(2), which has no safe form.
#![allow(unsafe_code)]

use std::fs::File;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// A mapping for reading and writing; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    length: usize,
}

impl Map {
    /// Changes go to the file.
    pub(crate) fn shared(file: &File, length: usize) -> Self {
        Self::new(file, length, MapFlags::SHARED)
    }

    /// Changes stay here.
    pub(crate) fn private(file: &File, length: usize) -> Self {
        Self::new(file, length, MapFlags::PRIVATE)
    }

    fn new(file: &File, length: usize, flags: MapFlags) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place (null), so nothing that exists is replaced.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, flags, file, 0) };
        let start = NonNull::new(start.expect("a mapping").cast()).expect("not at 0");
        Self { start, length }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped readable for `length` bytes until drop; the test changes the file by no other way
        // while it holds the slice.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes, to change.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and mapped writable; `&mut self` makes the slice the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Waits until changes are in the file.
    pub(crate) fn sync(&self) {
        // SAFETY: the range is mapped.
        unsafe { msync(self.start.as_ptr().cast(), self.length, MsyncFlags::SYNC) }.expect("msync");
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no slice outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}
