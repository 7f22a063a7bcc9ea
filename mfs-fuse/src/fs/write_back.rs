//! Writing back what programs have stored through mappings.
//!
//! What was stored under a lease goes out with the latest version of the file that is known, and its home decides
//! whether others have changed the file since: then the bytes are in a conflict copy there, and each open for
//! writing that the file has here is told EIO, once, by fsync(2) or close(2).
//!
//! Lock order: `Conflicts::untold` is a leaf.

use std::collections::HashSet;

use bytes::Bytes;
use mfs::sync::Mutex;
use mfs::telemetry::metrics::MOUNT_WRITES_APART;
use mfs::types::Errno;
use mfs::types::op;

use super::MountedFs;
use super::handle_map::{Fh, OpenFile};
use super::pages::Stored;
use super::process::Asker;

/// The opens that are yet to be told of a conflict copy.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    untold: Mutex<HashSet<Fh>>,
}

// === impl Conflicts ===

impl Conflicts {
    /// EIO, once for each conflict that came before.
    pub(super) fn tell(&self, fh: Fh) -> Result<(), Errno> {
        if self.untold.lock().remove(&fh) { Err(Errno::Io) } else { Ok(()) }
    }

    /// Nobody is left to be told.
    pub(super) fn forget(&self, fh: Fh) {
        self.untold.lock().remove(&fh);
    }

    fn owe(&self, opens: Vec<Fh>) {
        self.untold.lock().extend(opens);
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// Writes back of a piece of a file what programs have stored here.
    pub(super) async fn write_back(
        &self,
        asker: Asker,
        open: &OpenFile,
        offset: u64,
        data: &Bytes,
    ) -> Result<u32, Errno> {
        let key = (open.node, open.home);
        for Stored { piece, known } in self.cache.pages.stored(key, offset, data) {
            let (offset, data) = (offset + piece.start as u64, data.slice(piece));
            let write = op::Write { open: open.open, offset, data, pages: true, known };
            let written = self.change_data(open, asker, write).await.inspect_err(|errno| {
                tracing::error!(
                    node = %open.node.short(),
                    file = %open.home.get(),
                    "what was stored through a mapping is lost, from byte {offset} on: {errno}"
                );
            })?;
            self.cache.pages.wrote(key, written.version);
            if let Some(copy) = written.apart {
                self.note_conflict(open, &copy);
            }
        }
        // The kernel is told of no error: what it has written is kept, and whom it would tell is not known.
        u32::try_from(data.len()).map_err(|_| Errno::Inval)
    }

    fn note_conflict(&self, open: &OpenFile, copy: &[u8]) {
        MOUNT_WRITES_APART.add_one();
        let opens = self.handles.writers_of(open.node, open.home);
        tracing::warn!(
            node = %open.node.short(),
            "{} there holds what was stored through a mapping here: others had changed the file while this \
             mount was away; who has it open is told EIO",
            String::from_utf8_lossy(copy)
        );
        self.conflicts.owe(opens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_open_is_told_once() {
        let conflicts = Conflicts::default();
        assert_eq!(conflicts.tell(Fh(1)), Ok(()));
        conflicts.owe(vec![Fh(1), Fh(2), Fh(3)]);
        conflicts.owe(vec![Fh(1)]);
        assert_eq!(conflicts.tell(Fh(1)), Err(Errno::Io));
        assert_eq!(conflicts.tell(Fh(1)), Ok(()));
        assert_eq!(conflicts.tell(Fh(2)), Err(Errno::Io));
        conflicts.forget(Fh(3));
        assert_eq!(conflicts.tell(Fh(3)), Ok(()));
    }
}
