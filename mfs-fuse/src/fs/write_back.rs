//! Writing back what programs have stored through mappings.
//!
//! What was stored under a lease goes out with the latest version of the file that is known, and its home decides
//! whether others have changed the file since: then the bytes are in a conflict copy there, and each open for
//! writing that the file has here is told EIO, once, by fsync(2) or close(2).
//!
//! While the home is out of reach it is kept here (`backlog`), and fsync(2) and close(2) say so.
//!
//! Lock order: `Conflicts::untold` is a leaf.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mfs::sync::Mutex;
use mfs::telemetry::metrics::MOUNT_WRITES_APART;
use mfs::types::op;
use mfs::types::{DataVersion, Errno, NodeId};

use super::MountedFs;
use super::backlog::{Full, Key, Piece};
use super::handle_map::{Fh, Handle, OpenFile};
use super::pages::Stored;
use super::process::Asker;

/// How long it is waited before a node that is out of reach is asked again.
const RETRY: Duration = Duration::from_millis(500);

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
        self: &Arc<Self>,
        asker: Asker,
        handle: &Arc<Handle>,
        offset: u64,
        data: &Bytes,
    ) -> Result<u32, Errno> {
        let open = handle.as_open().ok_or(Errno::IsDir)?;
        let key = (open.node, open.home);
        for Stored { piece, known } in self.cache.pages.stored(key, offset, data) {
            let (offset, data) = (offset + piece.start as u64, data.slice(piece));
            let later = known.map(|known| Piece {
                handle: handle.clone(),
                offset,
                data: data.clone(),
                known,
            });
            let error = match &later {
                // After what waits, or that would undo it.
                Some(_) if self.backlog.has(key) => Errno::HostDown,
                _ => match self.write_stored(asker, open, offset, data, known).await {
                    Ok(()) => continue,
                    Err(errno) => errno,
                },
            };
            match later.filter(|_| is_away(error)).map(|piece| self.backlog.push(key, piece)) {
                Some(Ok(true)) => {
                    let fs = Arc::clone(self);
                    tokio::spawn(async move { fs.write_backlog(key).await });
                }
                Some(Ok(false)) => {}
                Some(Err(Full)) | None => {
                    note_loss(open, offset, error);
                    return Err(error);
                }
            }
        }
        // The kernel is told of no error: what it has written is kept, and whom it would tell is not known.
        u32::try_from(data.len()).map_err(|_| Errno::Inval)
    }

    /// Waits until what of the file could not be written is.
    ///
    /// # Errors
    /// Its home is still out of reach.
    pub(super) async fn settle_backlog(&self, asker: Asker, open: &OpenFile) -> Result<(), Errno> {
        let key = (open.node, open.home);
        if !self.backlog.has(key) {
            return Ok(());
        }
        // Nobody's locks: it asks for nothing but an answer.
        let flush = op::Flush { open: open.bring_home(asker).await?, owner: None };
        open.backing.call(&open.origin(asker), flush).await?;
        let settled = self.backlog.settle(key);
        if self.terms().hard {
            settled.await;
            return Ok(());
        }
        tokio::time::timeout(self.terms().timeo, settled).await.map_err(|_| Errno::TimedOut)
    }

    /// Writes what of a file could not be written, as often as it takes.
    async fn write_backlog(&self, key: Key) {
        let node = key.0;
        tracing::info!(node = %node.short(), "stored bytes are kept here until the node is back");
        while let Some(Piece { handle, offset, data, known }) = self.backlog.first(key) {
            let Some(open) = handle.as_open() else { return };
            let nobody = Asker { uid: open.caller().uid, gid: open.caller().gid, tid: 0 };
            match self.write_stored(nobody, open, offset, data, Some(known)).await {
                Err(errno) if is_away(errno) && self.is_member(node) => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(errno) => {
                    note_loss(open, offset, errno);
                    self.conflicts.owe(self.handles.writers_of(open.node, open.home));
                }
                Ok(()) => {}
            }
            self.backlog.done(key);
        }
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.nodes.view().is_none_or(|view| view.by_id(node).is_some())
    }

    async fn write_stored(
        &self,
        asker: Asker,
        open: &OpenFile,
        offset: u64,
        data: Bytes,
        known: Option<DataVersion>,
    ) -> Result<(), Errno> {
        let number = open.bring_home(asker).await?;
        let write = op::Write { open: number, offset, data, pages: true, known };
        let written = self.change_data(open, asker, write).await?;
        self.cache.pages.wrote((open.node, open.home), written.version);
        if let Some(copy) = written.apart {
            self.note_conflict(open, &copy);
        }
        Ok(())
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

/// Whether the home may yet do it: it is out of reach, or who waited for it is being killed.
fn is_away(errno: Errno) -> bool {
    matches!(errno, Errno::HostDown | Errno::TimedOut | Errno::Intr)
}

fn note_loss(open: &OpenFile, offset: u64, errno: Errno) {
    tracing::error!(
        node = %open.node.short(),
        file = %open.home.get(),
        "what was stored through a mapping is lost, from byte {offset} on: {errno}"
    );
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
