//! Inode numbers that are equal on every node.
//!
//! A file's own number will not do: two file systems below one export use the same ones, and some use
//! all 64 bits. A counter will not do either: `git` and `rsync` notice when a number changes.

use aws_lc_rs::hmac;

use super::mountinfo::{PlaceKey, first_u64};
use super::mounts::FsKey;
use super::sys::KernelHandle;
use crate::types::{InodeNo, NodeId};

/// What makes a file the same file.
#[derive(Debug)]
pub(super) enum Identity<'a> {
    /// Its kernel handle, the generation included.
    Handle(FsKey, &'a KernelHandle),
    /// Its number and time of birth (seconds, nanoseconds), where the file system has no handles.
    Inode(FsKey, u64, (i64, u32)),
    /// The directory shown in place of a mount that is not entered.
    Barred(PlaceKey),
}

/// Makes the numbers of one home node.
#[derive(Debug)]
pub(super) struct Numbers {
    key: hmac::Key,
    home: NodeId,
}

// === impl Numbers ===

impl Numbers {
    /// Numbers of the files of `home`, with the key that all nodes of the cluster have.
    pub(super) fn new(key: &[u8; 32], home: NodeId) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), home }
    }

    /// The file's number: 63 bits, so that it is positive in programs that print it as signed; never 0,
    /// which means none, nor 1, which is the root of every mount.
    pub(super) fn of(&self, file: &Identity<'_>) -> InodeNo {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(self.home.as_bytes());
        match file {
            Identity::Handle(fs, handle) => {
                context.update(b"h");
                context.update(&fs.0.to_le_bytes());
                context.update(&handle.kind.to_le_bytes());
                context.update(&handle.bytes);
            }
            Identity::Inode(fs, ino, (seconds, nanos)) => {
                context.update(b"i");
                context.update(&fs.0.to_le_bytes());
                context.update(&ino.to_le_bytes());
                context.update(&seconds.to_le_bytes());
                context.update(&nanos.to_le_bytes());
            }
            Identity::Barred(place) => {
                context.update(b"b");
                context.update(&place.0.to_le_bytes());
            }
        }
        let number = (first_u64(context.sign().as_ref()) >> 1).max(InodeNo::ROOT.get() + 1);
        InodeNo::new(number).unwrap_or(InodeNo::ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_on_all_that_makes_the_file_and_on_nothing_else() {
        let numbers = |key, home| Numbers::new(&[key; 32], NodeId::from_digest([home; 32]));
        let handle = |byte| KernelHandle { kind: 1, bytes: [byte; 8][..].into() };
        let (one, other) = (handle(1), handle(2));
        let number = numbers(1, 1).of(&Identity::Handle(FsKey(1), &one));
        assert_eq!(number, numbers(1, 1).of(&Identity::Handle(FsKey(1), &one)));
        assert!(number.get() > 1 && number.get() < 1 << 63);
        for different in [
            numbers(1, 1).of(&Identity::Handle(FsKey(1), &other)),
            numbers(1, 1).of(&Identity::Handle(FsKey(2), &one)),
            numbers(1, 2).of(&Identity::Handle(FsKey(1), &one)),
            numbers(2, 1).of(&Identity::Handle(FsKey(1), &one)),
            numbers(1, 1).of(&Identity::Inode(FsKey(1), 1, (0, 0))),
            numbers(1, 1).of(&Identity::Barred(PlaceKey(1))),
        ] {
            assert_ne!(number, different);
        }
    }
}
