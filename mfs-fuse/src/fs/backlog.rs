//! `Backlog`: what programs have stored through mappings and could not be written, since the file's home was out
//! of reach. It is written when the home is back, in order, and before anything of the file is read.
//!
//! Not here: what becomes of it at the home (`write_back`).
//!
//! Lock order: `Backlog::inner` is a leaf.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mfs::sync::Mutex;
use mfs::types::{DataVersion, InodeNo, NodeId};
use tokio::sync::oneshot;

use super::handle_map::Handle;

/// Most bytes of all files.
const LIMIT: usize = 256 << 20;

/// A file by its home and its number there.
pub(super) type Key = (NodeId, InodeNo);

/// The pieces of all files.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<Key, File>,
    bytes: usize,
    /// The mount is ending.
    ended: bool,
}

#[derive(Debug, Default)]
struct File {
    pieces: VecDeque<Piece>,
    /// Who waits until there is nothing left; dropped, they wake.
    waiting: Vec<oneshot::Sender<()>>,
}

/// Bytes that are to be written.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The open, which stays as long as this is there.
    pub(super) handle: Arc<Handle>,
    pub(super) offset: u64,
    pub(super) data: Bytes,
    pub(super) known: DataVersion,
}

/// There is no room, or no time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

// === impl Backlog ===

impl Backlog {
    /// Whether something of the file waits.
    pub(super) fn has(&self, key: Key) -> bool {
        self.inner.lock().files.contains_key(&key)
    }

    /// Takes in what is to be written after all else of the file. Whether it is the first, so that somebody must
    /// begin to write.
    pub(super) fn push(&self, key: Key, piece: Piece) -> Result<bool, Full> {
        let mut inner = self.inner.lock();
        if inner.ended || inner.bytes + piece.data.len() > LIMIT {
            return Err(Full);
        }
        inner.bytes += piece.data.len();
        let file = inner.files.entry(key);
        let is_new = matches!(file, Entry::Vacant(_));
        file.or_default().pieces.push_back(piece);
        Ok(is_new)
    }

    /// What is to be written next.
    pub(super) fn first(&self, key: Key) -> Option<Piece> {
        self.inner.lock().files.get(&key)?.pieces.front().cloned()
    }

    /// That was written.
    pub(super) fn done(&self, key: Key) {
        let mut inner = self.inner.lock();
        let Some(file) = inner.files.get_mut(&key) else { return };
        let piece = file.pieces.pop_front();
        if file.pieces.is_empty() {
            inner.files.remove(&key);
        }
        inner.bytes -= piece.map_or(0, |piece| piece.data.len());
    }

    /// Waits until nothing of the file is left.
    pub(super) async fn settle(&self, key: Key) {
        let waits = {
            let mut inner = self.inner.lock();
            let Some(file) = inner.files.get_mut(&key) else { return };
            let (sender, receiver) = oneshot::channel();
            file.waiting.push(sender);
            receiver
        };
        let _ = waits.await; // dropped: it is
    }

    /// Takes in nothing any more, and lets go of all that is there. How many bytes that were.
    pub(super) fn end(&self) -> usize {
        let mut inner = self.inner.lock();
        inner.ended = true;
        inner.files.clear();
        std::mem::take(&mut inner.bytes)
    }
}

#[cfg(test)]
mod tests {
    use mfs::types::Timestamp;

    use super::*;

    fn piece(data: Bytes) -> Piece {
        let time = Timestamp::default();
        let known = DataVersion { ctime: time, mtime: time, size: 0 };
        Piece { handle: Arc::new(Handle::Synthetic(Vec::new())), offset: 0, data, known }
    }

    fn key() -> Key {
        (NodeId::from_digest([1; 32]), InodeNo::FIRST)
    }

    #[tokio::test]
    async fn pieces_go_in_order_and_wake_who_waits_when_the_last_is_gone() {
        let backlog = Backlog::default();
        backlog.settle(key()).await;
        assert_eq!(backlog.push(key(), piece(Bytes::from_static(b"one"))), Ok(true));
        assert_eq!(backlog.push(key(), piece(Bytes::from_static(b"two"))), Ok(false));
        let mut settled = std::pin::pin!(backlog.settle(key()));
        for data in [&b"one"[..], b"two"] {
            assert!(tokio::select! { biased; () = &mut settled => false, () = async {} => true });
            assert_eq!(backlog.first(key()).unwrap().data, data);
            backlog.done(key());
        }
        settled.await;
        assert!(!backlog.has(key()) && backlog.first(key()).is_none());
    }

    #[test]
    fn there_is_a_bound_and_an_end() {
        let backlog = Backlog::default();
        let much = piece(Bytes::from(vec![0; LIMIT]));
        assert_eq!(backlog.push(key(), much), Ok(true));
        assert_eq!(backlog.push(key(), piece(Bytes::from_static(b"x"))), Err(Full));
        backlog.done(key());
        assert_eq!(backlog.push(key(), piece(Bytes::from_static(b"x"))), Ok(true));
        assert_eq!(backlog.end(), 1);
        assert!(!backlog.has(key()));
        assert_eq!(backlog.push(key(), piece(Bytes::new())), Err(Full));
    }
}
