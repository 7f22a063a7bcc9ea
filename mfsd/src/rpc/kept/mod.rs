//! Words of memory in a file of the runtime directory, which a kill of this process leaves to the next daemon and
//! a boot empties. Each store of a word is whole, and there after all that came before it.
//!
//! Not here: what the words mean. Whoever keeps something makes the file anew from what was left, beside it, and
//! then puts it in its place: a daemon that still runs on the old one changes nothing in it. It is root's alone.

#[cfg(test)]
mod mortal;
mod sys;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[cfg(test)]
pub(super) use mortal::Mortal;
use sys::Mapping;

/// Words that outlive the process.
pub(super) trait Memory: Send + Sync {
    /// Stores a word, after all that were stored before.
    fn set(&self, at: usize, word: u64);

    fn get(&self, at: usize) -> u64;
}

/// What another daemon has left, read once.
pub(super) struct Left(Vec<u64>);

// === impl Left ===

impl Left {
    /// What is in a file, if it has this length.
    pub(super) fn read(path: &Path, words: usize) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let (parts, _) = bytes.as_chunks::<8>();
        (parts.len() == words)
            .then(|| Self(parts.iter().map(|word| u64::from_ne_bytes(*word)).collect()))
    }
}

impl From<Vec<u64>> for Left {
    fn from(words: Vec<u64>) -> Self {
        Self(words)
    }
}

impl Memory for Left {
    fn set(&self, _at: usize, _word: u64) {}

    fn get(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// New words, all 0, that take the place of those in a file by [`put`].
pub(super) fn make(path: &Path, words: usize) -> io::Result<Box<dyn Memory>> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new); // of a daemon that was killed here
    let mut options = OpenOptions::new();
    let file: File = options.read(true).write(true).create_new(true).mode(0o600).open(new)?;
    Ok(Box::new(Mapping::of(&file, words)?))
}

/// Puts what [`make`] has made into its place.
pub(super) fn put(path: &Path) -> io::Result<()> {
    fs::rename(path.with_extension("new"), path)
}

/// Stores bytes, in words.
pub(super) fn write(memory: &dyn Memory, at: usize, bytes: &[u8]) {
    for (index, part) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        memory.set(at + index, u64::from_ne_bytes(word));
    }
}

/// So many bytes.
pub(super) fn read(memory: &dyn Memory, at: usize, length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8)).flat_map(|index| memory.get(at + index).to_ne_bytes());
    let mut bytes: Vec<u8> = words.collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_left_when_it_is_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        for text in ["first", "then another one"] {
            let memory = make(&path, 8).unwrap();
            write(&*memory, 1, text.as_bytes());
            let before = Left::read(&path, 8).map(|left| read(&left, 1, 5));
            assert_eq!(before, (text != "first").then(|| b"first".to_vec()));
            put(&path).unwrap();
            memory.set(7, 7);
            let left = Left::read(&path, 8).unwrap();
            assert_eq!((read(&left, 1, text.len()), left.get(7)), (text.as_bytes().to_vec(), 7));
            assert_eq!((left.get(0), left.get(8)), (0, 0));
        }
        assert!(Left::read(&path, 9).is_none(), "it is of another form");
    }
}
