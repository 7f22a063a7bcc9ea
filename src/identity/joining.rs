//! `JoiningKey`: the key with which a machine asks to be admitted, kept until the answer is known.
//!
//! The cluster may have admitted it although the answer never came: the machine was switched off, or its mfsd
//! was killed. It asks again with the same key and so is the same node: with its name, its number, and the one
//! use of the token that it has had already.
//!
//! Not here: the key of a member; that is the `Store`'s.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::store::{read_json, write_json};
use super::{Digest, IdentityError, NodeKey, Store, hex};

/// In the state directory, beside the membership that does not exist yet.
const FILE: &str = "joining.json";

/// A key that is in the state directory.
#[derive(Debug)]
pub struct JoiningKey {
    path: PathBuf,
    key: NodeKey,
    is_kept: bool,
}

/// `joining.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The authority that was asked; another one gets another key.
    authority: String,
    key: String,
}

// === impl JoiningKey ===

impl JoiningKey {
    /// The key to ask this authority with: the one of an earlier attempt whose answer is not known, or a new
    /// one, which is on the disk when this returns.
    pub fn prepare(store: &Store, authority: Digest) -> Result<Self, IdentityError> {
        let path = store.state_dir().join(FILE);
        let authority = hex::encode(authority.as_bytes());
        // What cannot be read is of no use; then it is a first attempt.
        let kept = read_json::<Kept>(&path).ok().filter(|kept| kept.authority == authority);
        if let Some(key) = kept.and_then(|kept| NodeKey::from_pem(&kept.key).ok()) {
            return Ok(Self { path, key, is_kept: true });
        }
        let key = NodeKey::generate()?;
        write_json(&path, &Kept { authority, key: key.to_pem() })?;
        Ok(Self { path, key, is_kept: false })
    }

    /// The key.
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Whether an earlier attempt has made it, so that the cluster may know it.
    pub const fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Forgets it: the answer is known.
    pub fn forget(self) -> Result<(), IdentityError> {
        Self::forget_at(&self.path)
    }

    /// Forgets what is kept although the machine is a member by now.
    pub(super) fn forget_any(store: &Store) -> Result<(), IdentityError> {
        Self::forget_at(&store.state_dir().join(FILE))
    }

    fn forget_at(path: &std::path::Path) -> Result<(), IdentityError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(IdentityError::io(path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_whose_answer_is_not_known_is_repeated_with_its_key() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&place.path().join("state")).unwrap();
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let first = JoiningKey::prepare(&store, one).unwrap();
        assert!(!first.is_kept());
        let again = JoiningKey::prepare(&store, one).unwrap();
        assert!(again.is_kept() && again.key().node() == first.key().node());
        let elsewhere = JoiningKey::prepare(&store, other).unwrap();
        assert!(!elsewhere.is_kept() && elsewhere.key().node() != first.key().node());
        elsewhere.forget().unwrap();
        assert!(!JoiningKey::prepare(&store, other).unwrap().is_kept());
        fs::write(store.state_dir().join(FILE), "half a").unwrap();
        assert!(!JoiningKey::prepare(&store, other).unwrap().is_kept());
    }
}
