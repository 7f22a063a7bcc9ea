//! The two things a hand does that Rust has no safe words for: any system call, and loads and stores in a
//! mapping.

#![allow(unsafe_code)]

/// Does the system call `number`; the errno if it fails.
pub(super) fn system(number: i64, words: [usize; 6]) -> Result<i64, i32> {
    let [a, b, c, d, e, f] = words;
    // SAFETY: a hand is a process of its own that exists to do what the suite tells it; pointers among the
    // words are those of buffers that the caller holds, with their own lengths beside them.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match result {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        result => Ok(result),
    }
}

/// Loads bytes at an address.
pub(super) fn load(at: usize, length: usize) -> Vec<u8> {
    // SAFETY: the suite names addresses of mappings it has made in this process; each load is made,
    // since other processes change what is there.
    (at..at + length).map(|at| unsafe { (at as *const u8).read_volatile() }).collect()
}

/// Stores bytes at an address.
pub(super) fn store(at: usize, bytes: &[u8]) {
    for (byte, at) in bytes.iter().zip(at..) {
        // SAFETY: as in `load`; the mapping is writable, or this process ends by a signal and the suite
        // says so.
        unsafe { (at as *mut u8).write_volatile(*byte) }
    }
}
