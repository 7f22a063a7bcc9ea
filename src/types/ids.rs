//! Identifiers: small integers and one opaque string of bytes, each a type of its own.
//!
//! Counted identifiers start at 1 and are never reused; 0 is not valid, so that a field left out of a
//! message cannot name anything.

use std::fmt;

use bytes::Bytes;

/// Declares a counted identifier: `new` refuses 0.
macro_rules! counted {
    ($($(#[doc = $doc:literal])+ $name:ident($int:ty);)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl $name {
            /// The identifier with this number; `None` for 0.
            pub const fn new(number: $int) -> Option<Self> {
                if number == 0 { None } else { Some(Self(number)) }
            }

            /// The first identifier.
            pub const FIRST: Self = Self(1);

            /// The number.
            pub const fn get(self) -> $int {
                self.0
            }

            /// The identifier after this one. A counter of 64 bits does not run out in practice; one
            /// of 32 bits wraps to the first, which its users must allow for.
            #[must_use]
            pub const fn next(self) -> Self {
                match self.0.checked_add(1) { Some(next) => Self(next), None => Self(1) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )+};
}

counted! {
    /// What one client incarnation owns at one node; drawn at random by the server.
    SessionId(u64);
    /// A server's lifetime as its sessions see it; a new epoch means: reclaim.
    Epoch(u64);
    /// One request on one stream, chosen by the client.
    RequestId(u64);
    /// The order of the requests of one slot.
    Sequence(u64);
    /// An open file of a session; chosen by the client, so that it can be reclaimed under the same name.
    OpenId(u64);
    /// Grows each time a node starts; (node, incarnation) is unique.
    Incarnation(u64);
    /// A tree that a node serves; 1 is the default export.
    ExportId(u32);
    /// A file's number, equal on every node; the kernel's nodeid and `st_ino` of a mount (63 bits).
    InodeNo(u64);
}

/// A place for one changing request at a time, so that a server needs one remembered reply per slot
/// (RFC 8881 section 2.10.6). Slots count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Changes when a server may have lost writes that it had acknowledged (boot id and instance).
/// 0 is a valid value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verifier(pub u64);

/// Who holds a lock: the kernel's hashed owner, meaningful within one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockOwner(pub u64);

/// Names a file at its home node: export, file system and kernel handle, sealed by the server with a
/// MAC, so that a peer can name only what it was shown. Opaque to everybody else. Survives reconnects
/// and restarts of the server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileId(Bytes);

/// Shows the node that gave it that it has let a file be opened, when the file is to be opened again
/// after a restart of its mfsd. Opaque to everybody else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OpenProof(Bytes);

// === impl InodeNo ===

impl InodeNo {
    /// The root of a mount: FUSE_ROOT_ID; never the number of a file.
    pub const ROOT: Self = Self(1);
}

// === impl FileId ===

impl FileId {
    /// Longest file id, bytes: 128 of a kernel handle (MAX_HANDLE_SZ) and what is around it.
    pub const MAX_LEN: usize = 192;

    /// Takes the bytes that a server gave; `None` if they are empty or too long to be one.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= Self::MAX_LEN).then_some(Self(bytes))
    }

    /// The bytes, for the wire and for the server that sealed them.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for FileId {
    /// Only a short fingerprint: a file id is a capability, and logs are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
        });
        write!(f, "FileId({:08x})", fingerprint >> 32)
    }
}

// === impl OpenProof ===

impl OpenProof {
    /// Longest proof, bytes.
    pub const MAX_LEN: usize = 64;

    /// Takes the bytes that a server gave; `None` if they are empty or too long to be one.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= Self::MAX_LEN).then_some(Self(bytes))
    }

    /// The bytes, for the wire and for the server that made them.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for OpenProof {
    /// Nothing of it: it is a capability.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenProof")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_names_nothing() {
        assert_eq!(OpenId::new(0), None);
        assert_eq!(OpenId::new(7).map(OpenId::get), Some(7));
        assert_eq!(OpenId::FIRST.next().get(), 2);
    }

    #[test]
    fn a_file_id_has_a_bounded_length() {
        assert!(FileId::from_bytes(Bytes::new()).is_none());
        assert!(FileId::from_bytes(vec![1; FileId::MAX_LEN].into()).is_some());
        assert!(FileId::from_bytes(vec![1; FileId::MAX_LEN + 1].into()).is_none());
    }
}
