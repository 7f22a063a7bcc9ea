//! `Proofs`: what shows a file's home that users were let open it for reading, while they may open it again
//! without asking.

use mfs::types::{OpenFlags, OpenProof};

/// Of how many users it is kept of one file.
const MOST: usize = 16;

/// About what a proof takes.
const PROOF_BYTES: usize = 128;

/// How a user was let open a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The flags, without which the proof shows nothing.
    pub flags: OpenFlags,
    /// What the home answered with.
    pub proof: OpenProof,
}

/// The users of one file.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    by_user: Vec<(u32, Proven)>,
}

// === impl Proofs ===

impl Proofs {
    /// About how many bytes they take.
    pub(super) const fn weight(&self) -> usize {
        self.by_user.len() * PROOF_BYTES
    }

    /// How this user was let open it.
    pub(super) fn of(&self, uid: u32) -> Option<&Proven> {
        self.by_user.iter().find(|(other, _)| *other == uid).map(|(_, proven)| proven)
    }

    /// A user was let open it. One that says `NONBLOCK` may be refused the next time, because of another's
    /// lease, so the others are kept in its place.
    pub(super) fn add(&mut self, uid: u32, proven: Proven) {
        let waits = |proven: &Proven| !proven.flags.contains(OpenFlags::NONBLOCK);
        if self.of(uid).is_some_and(|known| waits(known) && !waits(&proven)) {
            return;
        }
        self.by_user.retain(|(other, _)| *other != uid);
        if self.by_user.len() == MOST {
            self.by_user.remove(0);
        }
        self.by_user.push((uid, proven));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn proven(flags: OpenFlags) -> Proven {
        let proof = OpenProof::from_bytes(Bytes::from_static(b"proof")).unwrap();
        Proven { flags, proof }
    }

    #[test]
    fn each_user_has_one_that_waits_if_there_is_one() {
        let mut proofs = Proofs::default();
        assert_eq!(proofs.of(7), None);
        let (plain, impatient) = (proven(OpenFlags::empty()), proven(OpenFlags::NONBLOCK));
        proofs.add(7, impatient.clone());
        assert_eq!(proofs.of(7), Some(&impatient));
        proofs.add(7, plain.clone());
        proofs.add(7, impatient);
        assert_eq!(proofs.of(7), Some(&plain));
        assert_eq!(proofs.of(8), None);
        for uid in 0..100 {
            proofs.add(uid, plain.clone());
        }
        assert_eq!(proofs.of(83), None);
        assert!(proofs.of(84).is_some());
        assert_eq!(proofs.weight(), MOST * PROOF_BYTES);
    }
}
