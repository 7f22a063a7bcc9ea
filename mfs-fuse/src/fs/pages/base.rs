//! `Base`: what a page was before programs of this node stored into it.
//!
//! Where programs of the home use a file directly, nobody can keep them from storing into the page that is
//! mapped here, too. So only the bytes that were changed here are written back, as on a machine whose
//! memory they share: a page written back whole would undo what was stored beside them meanwhile. (Keleher
//! and others, "TreadMarks", USENIX 1994, call it twin and diff.)

use bytes::Bytes;
use mfs::types::DataVersion;

/// The unit in which it is kept; no page of a kernel is smaller.
pub(super) const PAGE: usize = 4096;

/// Some bytes of a piece of data.
pub(super) type Piece = std::ops::Range<usize>;

/// Some bytes that programs have stored here, and what is known of the file that they were stored into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where they are in the data.
    pub piece: std::ops::Range<usize>,
    /// The latest version that was known under the lease; `None` if there was none, so that what the pages
    /// were before tells.
    pub known: Option<DataVersion>,
}

/// The bytes that one READ brought, and what of them was written back since.
#[derive(Debug)]
pub(super) struct Base {
    offset: u64,
    read: Bytes,
    /// Pages and where they begin in the file.
    written: Vec<(u64, Bytes)>,
}

// === impl Base ===

impl Base {
    /// As it was read from this byte of the file on.
    pub(super) const fn new(offset: u64, read: Bytes) -> Self {
        Self { offset, read, written: Vec::new() }
    }

    /// Takes over what a page is now; says what of it is new.
    pub(super) fn update(&mut self, at: u64, page: Bytes) -> Vec<Piece> {
        let slot = self.written.iter_mut().find(|(offset, _)| *offset == at);
        let before = match &slot {
            Some((_, written)) => &written[..],
            None => {
                let from = usize::try_from(at.saturating_sub(self.offset)).unwrap_or(usize::MAX);
                self.read.get(from..).unwrap_or_default()
            }
        };
        let pieces = differing(before, &page);
        match slot {
            Some((_, written)) => *written = page,
            None => self.written.push((at, page)),
        }
        pieces
    }
}

/// Adds what was stored behind the others; one piece with the last if it goes on where that ends.
pub(super) fn add(all: &mut Vec<Stored>, stored: Stored) {
    let goes_on =
        |last: &&mut Stored| last.piece.end == stored.piece.start && last.known == stored.known;
    match all.last_mut().filter(goes_on) {
        Some(last) => last.piece.end = stored.piece.end,
        None => all.push(stored),
    }
}

/// Where `now` differs from `before`, behind whose end are zeros.
fn differing(before: &[u8], now: &[u8]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let before = before.iter().copied().chain(std::iter::repeat(0));
    for (at, _) in now.iter().zip(before).enumerate().filter(|(_, (now, before))| **now != *before)
    {
        match pieces.last_mut().filter(|last| last.end == at) {
            Some(last) => last.end = at + 1,
            None => pieces.push(at..at + 1),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_piece() {
        assert_eq!(differing(b"abcdef", b"abXYeF"), [2..4, 5..6]);
        assert_eq!(differing(b"ab", b"ab\0cd\0e"), [3..5, 6..7]);
        assert!(differing(b"abc", b"ab").is_empty());
    }
}
