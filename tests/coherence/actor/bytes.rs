//! Calls about what is in files: open, read, write, sizes, copies.

use libc::{O_APPEND, O_CLOEXEC, O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY};

use super::super::hand::{Blob, Word};
use super::{Actor, Result};

/// A descriptor of a hand. Not closed by being dropped; a hand that rests closes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fd(pub(super) i64);

// === impl Actor ===

impl Actor {
    /// open(2), with mode 0666.
    pub(crate) fn open(&self, name: &str, flags: i32) -> Result<Fd> {
        self.at_call(libc::SYS_openat, name, &[(flags | O_CLOEXEC).into(), 0o666]).map(Fd)
    }

    /// close(2).
    pub(crate) fn close(&self, fd: Fd) -> Result<()> {
        self.number(libc::SYS_close, [fd.0]).map(drop)
    }

    /// A file with these bytes and no others: created, or emptied and written anew.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let fd = self.open(name, O_WRONLY | O_CREAT | O_TRUNC)?;
        let written = self.write(fd, bytes);
        self.close(fd)?;
        written
    }

    /// Opens a file, reads it whole, closes it.
    pub(crate) fn get(&self, name: &str) -> Result<Vec<u8>> {
        let fd = self.open(name, O_RDONLY)?;
        let bytes = self.all(fd);
        self.close(fd)?;
        bytes
    }

    /// `get` as text.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        self.get(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Opens a file for appending, appends once, closes it.
    pub(crate) fn append(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let fd = self.open(name, O_WRONLY | O_CREAT | O_APPEND)?;
        let written = self.write(fd, bytes);
        self.close(fd)?;
        written
    }

    /// All of an open file, from its beginning.
    pub(crate) fn all(&self, fd: Fd) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let more = self.pread(fd, 1 << 20, bytes.len())?;
            if more.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(more);
        }
    }

    /// pread(2): what one call gives.
    pub(crate) fn pread(&self, fd: Fd, length: usize, at: usize) -> Result<Vec<u8>> {
        let words = vec![
            Word::Number(fd.0),
            Word::Room(length as u64),
            Word::Number(length as i64),
            Word::Number(at as i64),
        ];
        let (result, mut bytes) = self.system(libc::SYS_pread64, words);
        let mut bytes = bytes.remove(0);
        bytes.truncate(usize::try_from(result?).expect("a length"));
        Ok(bytes)
    }

    /// pwrite(2) of all the bytes.
    pub(crate) fn pwrite(&self, fd: Fd, bytes: &[u8], at: usize) -> Result<()> {
        let length = bytes.len() as i64;
        let words = vec![
            Word::Number(fd.0),
            Word::Bytes(Blob(bytes.to_vec())),
            Word::Number(length),
            Word::Number(at as i64),
        ];
        let written = self.system(libc::SYS_pwrite64, words).0?;
        assert_eq!(written, length, "a write was cut short");
        Ok(())
    }

    /// write(2) of all the bytes, by one call.
    pub(crate) fn write(&self, fd: Fd, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as i64;
        let words =
            vec![Word::Number(fd.0), Word::Bytes(Blob(bytes.to_vec())), Word::Number(length)];
        let written = self.system(libc::SYS_write, words).0?;
        assert_eq!(written, length, "a write was cut short");
        Ok(())
    }

    /// fsync(2).
    pub(crate) fn fsync(&self, fd: Fd) -> Result<()> {
        self.number(libc::SYS_fsync, [fd.0]).map(drop)
    }

    /// truncate(2).
    pub(crate) fn truncate(&self, name: &str, size: usize) -> Result<()> {
        self.path_call(libc::SYS_truncate, name, &[size as i64]).map(drop)
    }

    /// ftruncate(2).
    pub(crate) fn ftruncate(&self, fd: Fd, size: usize) -> Result<()> {
        self.number(libc::SYS_ftruncate, [fd.0, size as i64]).map(drop)
    }

    /// fallocate(2).
    pub(crate) fn fallocate(&self, fd: Fd, mode: i32, at: usize, length: usize) -> Result<()> {
        let words = [fd.0, mode.into(), at as i64, length as i64];
        self.number(libc::SYS_fallocate, words).map(drop)
    }

    /// lseek(2).
    pub(crate) fn seek(&self, fd: Fd, to: i64, whence: i32) -> Result<i64> {
        self.number(libc::SYS_lseek, [fd.0, to, whence.into()])
    }

    /// copy_file_range(2) from the beginning of one file to that of another.
    pub(crate) fn copy(&self, from: Fd, to: Fd, length: usize) -> Result<i64> {
        let words = vec![
            Word::Number(from.0),
            Word::Bytes(Blob(vec![0; 8])),
            Word::Number(to.0),
            Word::Bytes(Blob(vec![0; 8])),
            Word::Number(length as i64),
            Word::Number(0),
        ];
        self.system(libc::SYS_copy_file_range, words).0
    }

    /// copy_file_range(2); how many bytes it copied.
    pub(crate) fn copy_range(
        &self,
        (from, from_at): (Fd, usize),
        (to, to_at): (Fd, usize),
        length: usize,
    ) -> Result<usize> {
        let offset = |at: usize| Word::Bytes(Blob((at as u64).to_le_bytes().to_vec()));
        let words = vec![
            Word::Number(from.0),
            offset(from_at),
            Word::Number(to.0),
            offset(to_at),
            Word::Number(length as i64),
            Word::Number(0),
        ];
        let copied = self.system(libc::SYS_copy_file_range, words).0?;
        Ok(usize::try_from(copied).expect("a length"))
    }

    /// sendfile(2) from the beginning of a file into memory, and what arrived there.
    pub(crate) fn sent(&self, from: Fd, length: usize) -> Result<Vec<u8>> {
        let words = vec![Word::Bytes(Blob(b"sent\0".to_vec())), Word::Number(0)];
        let memory = Fd(self.system(libc::SYS_memfd_create, words).0?);
        let words = vec![
            Word::Number(memory.0),
            Word::Number(from.0),
            Word::Bytes(Blob(vec![0; 8])),
            Word::Number(length as i64),
        ];
        self.system(libc::SYS_sendfile, words).0?;
        let bytes = self.all(memory);
        self.close(memory)?;
        bytes
    }
}
