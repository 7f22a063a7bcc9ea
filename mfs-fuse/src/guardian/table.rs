//! `Table`: what the daemon of a mount tells its guardian, in memory that both have.
//!
//! Eight bytes each: when the daemon last said that it lives, in nanoseconds since boot; then the numbers of
//! the files that it keeps, 0 where there is none. Written and read by calls, which are whole for so few bytes.
//!
//! Lock order: `Table::places` is a leaf.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use mfs::sync::Mutex;
use mfs::types::InodeNo;
use rustix::fs::{MemfdFlags, memfd_create};

const UNIT: u64 = 8;

/// The daemon's side.
#[derive(Debug)]
pub struct Table {
    memory: File,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    taken: HashMap<InodeNo, u64>,
    free: Vec<u64>,
}

// === impl Table ===

impl Table {
    /// An empty one.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> io::Result<Self> {
        let memory = memfd_create(c"mfs-kept", MemfdFlags::CLOEXEC)?;
        Ok(Self { memory: memory.into(), places: Mutex::default() })
    }

    /// The memory, for another process.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.memory.try_clone()?.into())
    }

    /// The daemon lives.
    pub(super) fn beat(&self, now: Duration) {
        self.write(0, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Writes down whether the daemon keeps a file.
    pub fn set(&self, ino: InodeNo, kept: bool) {
        let mut places = self.places.lock();
        if kept {
            if places.taken.contains_key(&ino) {
                return;
            }
            let next = places.taken.len() as u64 + places.free.len() as u64 + 1;
            let place = places.free.pop().unwrap_or(next);
            places.taken.insert(ino, place);
            self.write(place, ino.get());
        } else if let Some(place) = places.taken.remove(&ino) {
            places.free.push(place);
            self.write(place, 0);
        }
    }

    fn write(&self, place: u64, value: u64) {
        if let Err(error) = self.memory.write_all_at(&value.to_ne_bytes(), place * UNIT) {
            tracing::warn!(%error, "the guardian of the mount cannot be told what is kept");
        }
    }
}

/// What a table says: the last sign of life, and the files that are kept.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(memory: &File) -> io::Result<(Duration, Vec<InodeNo>)> {
    let length = usize::try_from(memory.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, 0)?;
    let mut values = bytes.chunks_exact(UNIT as usize).map(|unit| {
        u64::from_ne_bytes(unit.try_into().unwrap_or_default()) // each has eight bytes
    });
    let beat = Duration::from_nanos(values.next().unwrap_or(0));
    Ok((beat, values.filter_map(InodeNo::new).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_by_the_other_side() {
        let table = Table::new().unwrap();
        let other = File::from(table.descriptor().unwrap());
        table.beat(Duration::from_millis(1500));
        let [a, b, c] = [10, 11, 12].map(|number| InodeNo::new(number).unwrap());
        for ino in [a, b, a] {
            table.set(ino, true);
        }
        assert_eq!(read(&other).unwrap(), (Duration::from_millis(1500), vec![a, b]));
        table.set(a, false);
        table.set(a, false);
        table.set(c, true);
        assert_eq!(read(&other).unwrap().1, [c, b], "a free place is used again");
    }
}
