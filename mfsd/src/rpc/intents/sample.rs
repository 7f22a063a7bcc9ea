//! `Sample`: by which the bytes of a write are known again, without keeping them all.

use serde::{Deserialize, Serialize};

/// Pieces of some bytes: all, if they are few, or else some of them at equal distances, the first and the
/// last among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Sample {
    length: u32,
    pieces: Vec<u8>,
}

/// Where the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// All of them, from there on.
    Whole(usize),
    /// Their beginning, from there to the end.
    Begun(usize),
    /// Nowhere.
    Nowhere,
}

/// Bytes that are kept at most.
const KEPT: usize = 256;

/// Bytes of one piece.
const PIECE: usize = 8;

// === impl Sample ===

impl Sample {
    pub(super) fn of(data: &[u8]) -> Self {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut pieces = Vec::with_capacity(KEPT.min(data.len()));
        for at in Self::places(data.len()) {
            pieces.extend_from_slice(&data[at..(at + PIECE).min(data.len())]);
        }
        Self { length, pieces }
    }

    pub(super) const fn length(&self) -> u32 {
        self.length
    }

    /// Finds the bytes among others: the first place where all are, or else the first one where they begin
    /// and the others end.
    pub(super) fn find(&self, others: &[u8]) -> Match {
        let length = self.length as usize;
        let whole = others.len().checked_sub(length).map(|last| 0..=last);
        if let Some(at) = whole.and_then(|mut all| all.find(|at| self.fits(&others[*at..]))) {
            return Match::Whole(at);
        }
        let from = (others.len() + 1).saturating_sub(length);
        match (from..others.len()).find(|at| self.fits(&others[*at..])) {
            Some(at) => Match::Begun(at),
            None => Match::Nowhere,
        }
    }

    /// Whether the others begin as these bytes do, as far as they go.
    fn fits(&self, others: &[u8]) -> bool {
        let places = Self::places(self.length as usize);
        places.zip(self.pieces.chunks(PIECE)).all(|(at, piece)| {
            let there = others.get(at..).unwrap_or_default();
            let length = piece.len().min(there.len());
            piece[..length] == there[..length]
        })
    }

    /// Where the pieces of so many bytes begin.
    fn places(length: usize) -> impl Iterator<Item = usize> {
        let count = length.div_ceil(PIECE).min(KEPT / PIECE);
        let last = length.saturating_sub(PIECE);
        (0..count).map(move |nth| match length <= KEPT {
            true => nth * PIECE,
            false => last * nth / (KEPT / PIECE - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn bytes_are_found_wherever_they_are() {
        for length in [1, 7, 8, 9, 255, 256, 257, 300, 4_096, 1 << 20] {
            let data = bytes(length);
            let sample = Sample::of(&data);
            assert!(sample.pieces.len() <= KEPT, "{length}");
            assert_eq!(sample.find(&data), Match::Whole(0), "{length}");
            let others = [&b"before"[..], &data, b"after"].concat();
            assert_eq!(sample.find(&others), Match::Whole(6), "{length}");
        }
    }

    #[test]
    fn a_beginning_is_told_from_the_whole_and_from_something_else() {
        let data = bytes(10_000);
        let sample = Sample::of(&data);
        assert_eq!(sample.find(&data[..4_096]), Match::Begun(0));
        assert_eq!(sample.find(&data[..9_999]), Match::Begun(0));
        assert_eq!(sample.find(&[b"xx", &data[..4_096]].concat()), Match::Begun(2));
        assert_eq!(sample.find(&vec![255; 20_000]), Match::Nowhere);
        assert_eq!(sample.find(b""), Match::Nowhere);
        let mut other = data.clone();
        other[9_995] ^= 1;
        assert_eq!(sample.find(&other), Match::Nowhere);
    }
}
