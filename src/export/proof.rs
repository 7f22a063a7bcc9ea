//! `Admission`: that a peer was let open a file, as the server can recognise it after a restart.
//!
//! Who opens a file again only takes back what it had: the permissions of today must not decide that a
//! second time, or a program that made its file read-only while writing it would lose it with every
//! restart of mfsd. But who has had it must be shown, and not said. So each open is answered with a MAC
//! over all that was decided, by the key that seals file ids. It says nothing new about other files,
//! other ways of opening, other callers or other peers.

use aws_lc_rs::constant_time;
use bytes::Bytes;

use super::Export;
use super::file_id::Seal;
use crate::types::{Access, Caller, Capabilities, FileId, NodeId, OpenFlags, OpenProof, op};

/// What was decided when a file was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission<'a> {
    /// The file.
    pub(super) file: &'a FileId,
    /// For reading, writing or both.
    pub(super) access: Access,
    /// The rest of the flags.
    pub(super) flags: OpenFlags,
    /// The user, as the export took it.
    pub(super) uid: u32,
    /// The peer; `None` for the node itself.
    pub(super) holder: Option<NodeId>,
}

/// What a flag did when the file was opened first, and must not do again.
const DONE_AT_FIRST: OpenFlags = OpenFlags::TRUNCATE.union(OpenFlags::EXCLUSIVE);

/// What opening a file takes when its permissions do not count: FOWNER is for `NOATIME`.
const OVERRIDES: Capabilities = Capabilities::DAC_OVERRIDE.union(Capabilities::FOWNER);

// === impl Export ===

impl Export {
    /// The proof with which `peer` may open a file so for this caller, whatever its permissions are. It decides
    /// nothing: to be given to nobody who has not been let open it.
    pub fn prove(&self, peer: NodeId, caller: &Caller, open: &op::Open) -> Option<OpenProof> {
        let op::Open { file, access, flags, .. } = open;
        let (access, flags, holder) = (*access, *flags, Some(peer));
        let admission = Admission { file, access, flags, uid: caller.uid, holder };
        admission.prove(&self.tree.seal)
    }
}

// === impl Admission ===

impl Admission<'_> {
    /// The proof of it.
    pub(super) fn prove(&self, seal: &Seal) -> Option<OpenProof> {
        OpenProof::from_bytes(Bytes::copy_from_slice(&seal.certify(&self.statement())))
    }

    /// Whether this is the proof of it. An open that would truncate again is none that was there before.
    pub(super) fn is_proven_by(&self, proof: &OpenProof, seal: &Seal) -> bool {
        let expected = seal.certify(&self.statement());
        let equal = constant_time::verify_slices_are_equal(&expected, proof.as_bytes());
        !self.flags.intersects(DONE_AT_FIRST) && equal.is_ok()
    }

    /// All fields but the last have one length, so that no two admissions have one statement.
    fn statement(&self) -> Vec<u8> {
        let access = match self.access {
            Access::Read => 1,
            Access::Write => 2,
            Access::ReadWrite => 3_u8,
        };
        let mut out = vec![u8::from(self.holder.is_some()), access];
        out.extend_from_slice(&self.holder.map_or([0; 32], |node| *node.as_bytes()));
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&(self.flags - DONE_AT_FIRST).bits().to_le_bytes());
        out.extend_from_slice(self.file.as_bytes());
        out
    }
}

/// The caller as it opens what it has proven to have had.
pub(super) fn admitted(caller: &Caller) -> Caller {
    Caller { capabilities: caller.capabilities | OVERRIDES, ..caller.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ExportId;

    fn seal(key: u8) -> Seal {
        Seal::new(&[key; 32], ExportId::FIRST, &[b"/"])
    }

    fn file(name: &'static [u8]) -> FileId {
        FileId::from_bytes(Bytes::from_static(name)).unwrap()
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_digest([number; 32])
    }

    #[test]
    fn what_was_proven_is_recognised_by_the_same_key_alone() {
        let (file, flags) = (file(b"f"), OpenFlags::APPEND);
        let first = Admission {
            file: &file,
            access: Access::Write,
            flags: flags | OpenFlags::TRUNCATE,
            uid: 7,
            holder: Some(node(1)),
        };
        let proof = first.prove(&seal(1)).unwrap();
        let again = Admission { flags, ..first };
        assert!(again.is_proven_by(&proof, &seal(1)));
        assert!(!again.is_proven_by(&proof, &seal(2)));
        assert!(!first.is_proven_by(&proof, &seal(1)), "nothing is truncated a second time");
    }

    #[test]
    fn nothing_else_is_proven_by_it() {
        let (mine, other) = (file(b"f"), file(b"g"));
        let flags = OpenFlags::empty();
        let holder = Some(node(1));
        let access = Access::Read;
        let admission = Admission { file: &mine, access, flags, uid: 7, holder };
        let proof = admission.prove(&seal(1)).unwrap();
        for different in [
            Admission { file: &other, ..admission },
            Admission { access: Access::Write, ..admission },
            Admission { access: Access::ReadWrite, ..admission },
            Admission { flags: OpenFlags::NOATIME, ..admission },
            Admission { flags: OpenFlags::EXECUTE, ..admission },
            Admission { uid: 0, ..admission },
            Admission { holder: Some(node(2)), ..admission },
            Admission { holder: None, ..admission },
        ] {
            assert!(!different.is_proven_by(&proof, &seal(1)), "{different:?}");
        }
        let cut = OpenProof::from_bytes(proof.as_bytes().slice(1..)).unwrap();
        assert!(!admission.is_proven_by(&cut, &seal(1)));
    }
}
