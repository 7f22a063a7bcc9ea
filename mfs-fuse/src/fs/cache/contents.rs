//! `Contents`: what was read of a file that nobody can write while it is remembered.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

/// Most bytes that are kept of one file.
const MOST: usize = 8 << 20;

/// About what a piece takes beside its bytes.
const PIECE_BYTES: usize = 96;

/// Bytes of a file.
#[derive(Debug)]
pub(super) struct Contents {
    /// Where the file ends.
    end: u64,
    /// By where they begin in the file. They may overlap: all of them say the same.
    pieces: BTreeMap<u64, Bytes>,
    bytes: usize,
}

// === impl Contents ===

impl Contents {
    /// Of a file of so many bytes, of which nothing was read yet.
    pub(super) const fn new(end: u64) -> Self {
        Self { end, pieces: BTreeMap::new(), bytes: 0 }
    }

    /// About how many bytes they take.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.pieces.len() * PIECE_BYTES
    }

    /// What a reading gives; `None` if not all of it is known.
    pub(super) fn read(&self, offset: u64, size: usize) -> Option<Bytes> {
        let end = self.end.min(offset.saturating_add(size as u64));
        if offset >= end {
            return Some(Bytes::new());
        }
        let first = self.part(offset, end)?;
        let mut at = offset + first.len() as u64;
        if at == end {
            return Some(first);
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(end - offset).ok()?);
        whole.extend_from_slice(&first);
        while at < end {
            let part = self.part(at, end)?;
            at += part.len() as u64;
            whole.extend_from_slice(&part);
        }
        Some(whole.freeze())
    }

    /// Adds what was read, unless it is known or too much.
    pub(super) fn add(&mut self, offset: u64, data: &[u8]) {
        let fits = self.bytes + data.len() <= MOST;
        let is_whole = offset.saturating_add(data.len() as u64) <= self.end;
        if data.is_empty() || !fits || !is_whole || self.read(offset, data.len()).is_some() {
            return;
        }
        // A copy, as a piece of a message would keep all of it.
        let replaced = self.pieces.insert(offset, Bytes::copy_from_slice(data));
        self.bytes = self.bytes + data.len() - replaced.map_or(0, |piece| piece.len());
    }

    /// What is known from `at` on without a break, up to `end` at most. Of pieces that overlap the one that
    /// begins last is taken, so that what comes next begins in it or behind it.
    fn part(&self, at: u64, end: u64) -> Option<Bytes> {
        let reaching = |(from, piece): &(&u64, &Bytes)| **from + piece.len() as u64 > at;
        let (from, piece) = self.pieces.range(..=at).rev().take(4).find(reaching)?;
        let start = usize::try_from(at - from).ok()?;
        let stop = usize::try_from(end - from).map_or(piece.len(), |stop| stop.min(piece.len()));
        Some(piece.slice(start..stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_read_again_in_any_pieces() {
        let file: Vec<u8> = (0..=255).collect();
        let mut contents = Contents::new(256);
        assert_eq!(contents.read(0, 1), None);
        assert_eq!(contents.read(256, 10).as_deref(), Some(&[][..]), "the end is known");
        for (from, to) in [(0, 100), (90, 200), (200, 256)] {
            contents.add(from as u64, &file[from..to]);
        }
        for (from, size) in [(0, 256), (0, 4096), (95, 10), (99, 150), (255, 1), (250, 99)] {
            let expected = &file[from..256.min(from + size)];
            assert_eq!(contents.read(from as u64, size).as_deref(), Some(expected));
        }
        assert_eq!(contents.bytes, 266);
    }

    #[test]
    fn what_is_missing_or_too_much_is_not_made_up() {
        let mut contents = Contents::new(u64::MAX);
        contents.add(0, &[1; 10]);
        contents.add(20, &[2; 10]);
        assert_eq!(contents.read(5, 10), None);
        contents.add(10, &vec![3; MOST]);
        assert_eq!(contents.read(10, 1), None);
        assert_eq!(contents.bytes, 20);
        let mut short = Contents::new(5);
        short.add(0, b"longer than it is");
        assert_eq!(short.read(0, 5), None, "it was another file then");
    }
}
