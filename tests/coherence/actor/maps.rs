//! Mappings: made, loaded from, stored into, synchronised.

use libc::{MAP_PRIVATE, MAP_SHARED, MS_SYNC, PROT_READ, PROT_WRITE};

use super::super::hand::{Blob, Call, Word};
use super::{Actor, Fd, Result};

/// A mapping in a hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    at: i64,
    length: usize,
}

// === impl Actor ===

impl Actor {
    /// A shared mapping of a file's first bytes, for loads and stores.
    pub(crate) fn map(&self, fd: Fd, length: usize) -> Result<Map> {
        self.mmap(fd, length, MAP_SHARED)
    }

    /// A private one.
    pub(crate) fn map_private(&self, fd: Fd, length: usize) -> Result<Map> {
        self.mmap(fd, length, MAP_PRIVATE)
    }

    fn mmap(&self, fd: Fd, length: usize, kind: i32) -> Result<Map> {
        let protection = i64::from(PROT_READ | PROT_WRITE);
        let words = [0, length as i64, protection, kind.into(), fd.0, 0];
        let at = self.number(libc::SYS_mmap, words)?;
        let map = Map { at, length };
        self.maps.lock().push(map);
        Ok(map)
    }

    /// pread(2) into whole pages, as O_DIRECT asks for.
    pub(crate) fn pread_aligned(&self, fd: Fd, length: usize, at: usize) -> Result<Vec<u8>> {
        let room = self.mmap(Fd(-1), length, MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
        let words = [fd.0, room.at, length as i64, at as i64];
        let read = self.number(libc::SYS_pread64, words)?;
        let bytes = self.load(room, usize::try_from(read).expect("a length"), 0);
        self.unmap(room)?;
        Ok(bytes)
    }

    /// munmap(2).
    pub(crate) fn unmap(&self, map: Map) -> Result<()> {
        self.maps.lock().retain(|other| *other != map);
        self.number(libc::SYS_munmap, [map.at, map.length as i64]).map(drop)
    }

    /// Loads.
    pub(crate) fn load(&self, map: Map, length: usize, at: usize) -> Vec<u8> {
        assert!(at + length <= map.length, "not in the mapping");
        let at = map.at as u64 + at as u64;
        self.tell(&Call::Load { at, length: length as u64 }).bytes.remove(0).0
    }

    /// Stores.
    pub(crate) fn store(&self, map: Map, bytes: &[u8], at: usize) {
        assert!(at + bytes.len() <= map.length, "not in the mapping");
        let at = map.at as u64 + at as u64;
        self.tell(&Call::Store { at, bytes: Blob(bytes.to_vec()) });
    }

    /// msync(2) with MS_SYNC.
    pub(crate) fn msync(&self, map: Map) -> Result<()> {
        self.number(libc::SYS_msync, [map.at, map.length as i64, MS_SYNC.into()]).map(drop)
    }

    /// Has the kernel load from a mapping: EFAULT where a program's own load would end it by SIGBUS.
    pub(crate) fn probe(&self, map: Map, at: usize) -> Result<()> {
        let (made, pipe) = self.system(libc::SYS_pipe2, vec![Word::Room(8), Word::Number(0)]);
        made?;
        let end = |at: usize| {
            let bytes = pipe[0][at..at + 4].try_into().expect("four bytes");
            Fd(i32::from_le_bytes(bytes).into())
        };
        let written = self.number(libc::SYS_write, [end(4).0, map.at + at as i64, 1]);
        self.close(end(0))?;
        self.close(end(4))?;
        written.map(drop)
    }
}
