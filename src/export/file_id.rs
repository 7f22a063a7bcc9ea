//! File ids: what a peer names a file by, sealed so that it can name only what it was shown.
//!
//! A bare kernel handle would name any file of the file system, outside the export and in directories
//! that nobody may enter. So every id carries a MAC over all that it says, and over what the export
//! was configured to be when it was given out. The key is the node's own and outlives a restart.

use aws_lc_rs::{constant_time, digest, hmac};
use bytes::Bytes;
use smallvec::SmallVec;

use super::mountinfo::PlaceKey;
use super::mounts::{FsKey, MountKey};
use super::sys::KernelHandle;
use crate::types::{Errno, ExportId, FileId};

/// What a file id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileRef {
    /// A file by its kernel handle.
    Handle(MountKey, KernelHandle),
    /// A file that has no handle and is pinned: number `index` of the table of one lifetime of the
    /// export.
    Pinned {
        /// Drawn at random when the export was opened.
        life: u64,
        /// Counted up, never used again.
        index: u64,
    },
    /// The empty directory shown in place of a mount that is not entered.
    Barred(PlaceKey),
    /// The root of the export, where it has no handle: it is never forgotten.
    Root,
}

/// Makes and checks the ids of one export.
#[derive(Debug)]
pub(super) struct Seal {
    key: hmac::Key,
    export: ExportId,
    configuration: [u8; digest::SHA256_OUTPUT_LEN],
}

/// Form of an id; another form gets another number, and ids of an old one become stale.
const VERSION: u8 = 1;

/// Bytes of a MAC: 128 bits of HMAC-SHA256, so that guessing one is hopeless online.
pub(super) const MAC_LEN: usize = 16;

const HANDLE: u8 = 1;
const PINNED: u8 = 2;
const BARRED: u8 = 3;
const ROOT: u8 = 4;

/// A statement that is sealed and is no id.
const STATEMENT: u8 = 5;

/// Version, kind, export; all forms begin with them.
const HEAD_LEN: usize = 6;

// === impl Seal ===

impl Seal {
    /// A seal with the node's key. `configuration` describes what the export shows and hides: ids given
    /// out under another are stale, since they may name what is hidden now.
    pub(super) fn new(key: &[u8; 32], export: ExportId, configuration: &[&[u8]]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in configuration {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut configuration = [0; digest::SHA256_OUTPUT_LEN];
        configuration.copy_from_slice(hash.finish().as_ref());
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), export, configuration }
    }

    /// The id that says this.
    ///
    /// # Errors
    /// EOVERFLOW if a kernel handle is longer than any that Linux has.
    pub(super) fn seal(&self, file: &FileRef) -> Result<FileId, Errno> {
        let mut out: SmallVec<[u8; 96]> = SmallVec::new();
        out.push(VERSION);
        out.push(match file {
            FileRef::Handle(..) => HANDLE,
            FileRef::Pinned { .. } => PINNED,
            FileRef::Barred(_) => BARRED,
            FileRef::Root => ROOT,
        });
        out.extend_from_slice(&self.export.get().to_le_bytes());
        match file {
            FileRef::Handle(mount, handle) => {
                out.extend_from_slice(&mount.fs.0.to_le_bytes());
                out.extend_from_slice(&mount.place.0.to_le_bytes());
                out.extend_from_slice(&handle.kind.to_le_bytes());
                out.extend_from_slice(&handle.bytes);
            }
            FileRef::Pinned { life, index } => {
                out.extend_from_slice(&life.to_le_bytes());
                out.extend_from_slice(&index.to_le_bytes());
            }
            FileRef::Barred(place) => out.extend_from_slice(&place.0.to_le_bytes()),
            FileRef::Root => {}
        }
        let mac = self.mac(&out);
        out.extend_from_slice(&mac);
        FileId::from_bytes(Bytes::copy_from_slice(&out)).ok_or(Errno::Overflow)
    }

    /// What an id says, if this export made it.
    ///
    /// # Errors
    /// ESTALE for every other: forged, altered, of another export or of an earlier configuration.
    pub(super) fn unseal(&self, id: &FileId) -> Result<FileRef, Errno> {
        let bytes = id.as_bytes();
        let body_len = bytes.len().checked_sub(MAC_LEN).ok_or(Errno::Stale)?;
        let (body, mac) = bytes.split_at(body_len);
        constant_time::verify_slices_are_equal(&self.mac(body), mac).map_err(|_| Errno::Stale)?;
        // Only now is it certain that the rest was written by `seal`.
        self.read(body).ok_or(Errno::Stale)
    }

    fn read(&self, body: &[u8]) -> Option<FileRef> {
        let (head, mut rest) = body.split_at_checked(HEAD_LEN)?;
        if head[0] != VERSION || head[2..] != self.export.get().to_le_bytes() {
            return None;
        }
        let file = match head[1] {
            HANDLE => {
                let fs = FsKey(take_u64(&mut rest)?);
                let place = PlaceKey(take_u64(&mut rest)?);
                let (kind, bytes) = rest.split_first_chunk::<4>()?;
                let bytes = SmallVec::from_slice(bytes);
                let handle = KernelHandle { kind: i32::from_le_bytes(*kind), bytes };
                return Some(FileRef::Handle(MountKey { fs, place }, handle));
            }
            PINNED => FileRef::Pinned { life: take_u64(&mut rest)?, index: take_u64(&mut rest)? },
            BARRED => FileRef::Barred(PlaceKey(take_u64(&mut rest)?)),
            ROOT => FileRef::Root,
            _ => return None,
        };
        rest.is_empty().then_some(file)
    }

    /// A MAC over what is no id. None of the two can be taken for the other.
    pub(super) fn certify(&self, statement: &[u8]) -> [u8; MAC_LEN] {
        let mut body: SmallVec<[u8; 256]> = SmallVec::from_slice(&[VERSION, STATEMENT]);
        body.extend_from_slice(&self.export.get().to_le_bytes());
        body.extend_from_slice(statement);
        self.mac(&body)
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_LEN] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&self.configuration);
        context.update(body);
        let tag = context.sign();
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&tag.as_ref()[..MAC_LEN]);
        mac
    }
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(key: u8, export: u32, configuration: &[u8]) -> Seal {
        Seal::new(&[key; 32], ExportId::new(export).unwrap(), &[configuration])
    }

    fn samples() -> Vec<FileRef> {
        let mount = MountKey { fs: FsKey(7), place: PlaceKey(8) };
        let handle = |len| KernelHandle { kind: 0x81, bytes: SmallVec::from_elem(9, len) };
        vec![
            FileRef::Handle(mount, handle(8)),
            FileRef::Handle(mount, handle(0)),
            FileRef::Handle(mount, handle(KernelHandle::MAX_LEN)),
            FileRef::Pinned { life: 1, index: u64::MAX },
            FileRef::Barred(PlaceKey(3)),
            FileRef::Root,
        ]
    }

    #[test]
    fn what_is_sealed_comes_out_again() {
        for file in samples() {
            let seal = seal(1, 1, b"/");
            assert_eq!(seal.unseal(&seal.seal(&file).unwrap()).unwrap(), file);
        }
    }

    #[test]
    fn every_altered_bit_and_every_other_length_is_stale() {
        let seal = seal(1, 1, b"/");
        for file in samples() {
            let id = seal.seal(&file).unwrap();
            for bit in 0..id.as_bytes().len() * 8 {
                let mut bytes = id.as_bytes().to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let forged = FileId::from_bytes(bytes.into()).unwrap();
                assert_eq!(seal.unseal(&forged), Err(Errno::Stale));
            }
            for len in 1..id.as_bytes().len() {
                let cut = FileId::from_bytes(id.as_bytes().slice(..len)).unwrap();
                assert_eq!(seal.unseal(&cut), Err(Errno::Stale));
                let tail = FileId::from_bytes(id.as_bytes().slice(len..)).unwrap();
                assert_eq!(seal.unseal(&tail), Err(Errno::Stale));
            }
        }
    }

    #[test]
    fn other_keys_exports_and_configurations_do_not_know_it() {
        let id = seal(1, 1, b"/").seal(&samples()[0]).unwrap();
        for other in [seal(2, 1, b"/"), seal(1, 2, b"/"), seal(1, 1, b"/srv")] {
            assert_eq!(other.unseal(&id), Err(Errno::Stale));
        }
        assert!(seal(1, 1, b"/").unseal(&id).is_ok());
    }
}
