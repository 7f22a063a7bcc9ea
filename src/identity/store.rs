//! `Store`: the directory that holds a node's membership, readable by nobody else.
//!
//! Files are replaced as a whole (new file, fsync, rename, fsync of the directory), and the membership
//! appears and disappears as a whole, by a rename of its directory: a crash leaves the old state or the
//! new, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::joining::JoiningKey;
use super::secret::random;
use super::{
    Authority, ClusterId, ClusterKeys, ClusterSettings, Enrolment, Identity, IdentityError,
    NodeKey, Secret, SignedRegister, Trust, hex,
};

/// The state directory of mfsd.
#[derive(Debug, Clone)]
pub struct Store {
    state: PathBuf,
}

/// `node.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    cluster: ClusterId,
    seal: Secret,
    settings: ClusterSettings,
}

const MEMBERSHIP: &str = "cluster";
const HALF_MADE: &str = ".cluster-";
const NODE_KEY: &str = "node.key";
const NODE_CERTIFICATE: &str = "node.crt";
const AUTHORITY_KEY: &str = "ca.key";
const AUTHORITY_CERTIFICATE: &str = "ca.crt";
const NODE: &str = "node.json";
const KEYS: &str = "keys.json";
const REGISTER: &str = "register.json";

/// Largest file of the store that is read, bytes; a million removed nodes do not reach it.
const MAX_FILE: u64 = 256 << 20;

// === impl Store ===

impl Store {
    /// Opens the state directory, making it (0700) where it is missing. Refuses one that others can
    /// enter or that belongs to somebody else; removes what an interrupted init or join left.
    pub fn open(state: &Path) -> Result<Self, IdentityError> {
        match fs::DirBuilder::new().mode(0o700).recursive(false).create(state) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(IdentityError::io(state)(e));
            }
            Ok(()) | Err(_) => {}
        }
        check_directory(state)?;
        for entry in fs::read_dir(state).map_err(IdentityError::io(state))? {
            let entry = entry.map_err(IdentityError::io(state))?;
            if entry.file_name().as_encoded_bytes().starts_with(HALF_MADE.as_bytes()) {
                fs::remove_dir_all(entry.path()).map_err(IdentityError::io(entry.path()))?;
            }
        }
        let store = Self { state: state.to_owned() };
        let membership = store.membership_dir();
        if membership.try_exists().map_err(IdentityError::io(&membership))? {
            JoiningKey::forget_any(&store)?;
        }
        Ok(store)
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// The directory that exists while this machine is in a cluster, and goes with the membership.
    pub fn membership_dir(&self) -> PathBuf {
        self.state.join(MEMBERSHIP)
    }

    /// The membership; `None` if this machine is in no cluster.
    pub fn load(&self) -> Result<Option<Enrolment>, IdentityError> {
        let dir = self.membership_dir();
        if !dir.try_exists().map_err(IdentityError::io(&dir))? {
            return Ok(None);
        }
        check_directory(&dir)?;
        let node: NodeFile = read_json(&dir.join(NODE))?;
        let keys: ClusterKeys = read_json(&dir.join(KEYS))?;
        let register: SignedRegister = read_json(&dir.join(REGISTER))?;
        let key = NodeKey::from_pem(&read_text(&dir.join(NODE_KEY))?)
            .map_err(damaged(&dir.join(NODE_KEY)))?;
        let chain = read_pem(&dir.join(NODE_CERTIFICATE))?;
        let anchors = read_pem(&dir.join(AUTHORITY_CERTIFICATE))?;
        let trust =
            Trust::new(node.cluster, anchors, register).map_err(damaged(&dir.join(REGISTER)))?;
        let identity = Identity::restore(key, chain, |_| Ok(trust))
            .map_err(damaged(&dir.join(NODE_CERTIFICATE)))?;
        Ok(Some(Enrolment { identity, settings: node.settings, keys, seal: node.seal }))
    }

    /// The authority; `None` on nodes that do not hold its key.
    pub fn load_authority(&self) -> Result<Option<Authority>, IdentityError> {
        let key = self.membership_dir().join(AUTHORITY_KEY);
        if !key.try_exists().map_err(IdentityError::io(&key))? {
            return Ok(None);
        }
        let certificate = read_text(&self.membership_dir().join(AUTHORITY_CERTIFICATE))?;
        Authority::from_pem(&read_text(&key)?, &certificate).map(Some).map_err(damaged(&key))
    }

    /// Writes a new membership as one step. Nothing is left behind if it fails.
    pub fn enrol(
        &self,
        enrolment: &Enrolment,
        authority: Option<&Authority>,
    ) -> Result<(), IdentityError> {
        let target = self.membership_dir();
        if target.try_exists().map_err(IdentityError::io(&target))? {
            return Err(IdentityError::AlreadyEnrolled);
        }
        let half = self.state.join(format!("{HALF_MADE}{}", hex::encode(&random::<8>()?)));
        let _undo = RemoveDir(&half);
        fs::DirBuilder::new().mode(0o700).create(&half).map_err(IdentityError::io(&half))?;
        let identity = &enrolment.identity;
        let trust = identity.trust();
        let node = NodeFile {
            cluster: trust.cluster(),
            seal: enrolment.seal.clone(),
            settings: enrolment.settings.clone(),
        };
        write_private(&half.join(NODE_KEY), identity.key().to_pem().as_bytes())?;
        write_private(&half.join(NODE_CERTIFICATE), to_pem(identity.chain()).as_bytes())?;
        write_private(&half.join(AUTHORITY_CERTIFICATE), to_pem(trust.anchors()).as_bytes())?;
        write_json(&half.join(NODE), &node)?;
        write_json(&half.join(KEYS), &enrolment.keys)?;
        write_json(&half.join(REGISTER), trust.signed_register())?;
        if let Some(authority) = authority {
            write_private(&half.join(AUTHORITY_KEY), authority.key_pem().as_bytes())?;
        }
        fs::rename(&half, &target).map_err(IdentityError::io(&target))?;
        sync_directory(&self.state)
    }

    /// Forgets the membership as one step; the undo of [`Self::enrol`].
    pub fn forget(&self) -> Result<(), IdentityError> {
        let target = self.membership_dir();
        if !target.try_exists().map_err(IdentityError::io(&target))? {
            return Ok(());
        }
        let half = self.state.join(format!("{HALF_MADE}{}", hex::encode(&random::<8>()?)));
        fs::rename(&target, &half).map_err(IdentityError::io(&target))?;
        sync_directory(&self.state)?;
        fs::remove_dir_all(&half).map_err(IdentityError::io(&half))
    }

    /// Replaces the certificate.
    pub fn write_chain(&self, chain: &[CertificateDer<'static>]) -> Result<(), IdentityError> {
        write_private(&self.membership_dir().join(NODE_CERTIFICATE), to_pem(chain).as_bytes())
    }

    /// Replaces the shared keys.
    pub fn write_keys(&self, keys: &ClusterKeys) -> Result<(), IdentityError> {
        write_json(&self.membership_dir().join(KEYS), keys)
    }

    /// Replaces the register.
    pub fn write_register(&self, register: &SignedRegister) -> Result<(), IdentityError> {
        write_json(&self.membership_dir().join(REGISTER), register)
    }

    /// Reads a file of its own that a part of mfsd keeps with the membership; `None` if there is none.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, IdentityError> {
        let path = self.membership_dir().join(name);
        if !path.try_exists().map_err(IdentityError::io(&path))? {
            return Ok(None);
        }
        read_json(&path).map(Some)
    }

    /// Replaces such a file.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), IdentityError> {
        write_json(&self.membership_dir().join(name), value)
    }
}

/// Removes a half-made directory when dropped; after the rename there is none.
struct RemoveDir<'a>(&'a Path);

impl Drop for RemoveDir<'_> {
    fn drop(&mut self) {
        // Where it was renamed or never made there is nothing to do; what cannot be removed now is
        // removed by the next `Store::open`.
        let _ = fs::remove_dir_all(self.0);
    }
}

fn damaged(path: &Path) -> impl Fn(IdentityError) -> IdentityError {
    let path = path.to_owned();
    move |error| IdentityError::Damaged { path: path.clone(), why: error.to_string() }
}

/// PEM of certificates, one after the other.
pub(super) fn to_pem<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let blocks: Vec<_> = chain
        .into_iter()
        .map(|certificate| Pem::new("CERTIFICATE", certificate.as_ref()))
        .collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(read_text(path)?.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| IdentityError::Damaged { path: path.to_owned(), why: e.to_string() })
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, IdentityError> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|e| IdentityError::Damaged { path: path.to_owned(), why: e.to_string() })
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), IdentityError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|e| IdentityError::Damaged { path: path.to_owned(), why: e.to_string() })?;
    write_private(path, &text)
}

/// Reads a file that must be private.
fn read_text(path: &Path) -> Result<String, IdentityError> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(IdentityError::io(path))?;
    let found = file.metadata().map_err(IdentityError::io(path))?;
    let damaged = |why: &str| IdentityError::Damaged { path: path.to_owned(), why: why.to_owned() };
    if !found.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    if found.len() > MAX_FILE {
        return Err(damaged("it is too large"));
    }
    check_private(path, &found, 0o600)?;
    if found.nlink() > 1 {
        // A second name could lie inside an exported tree.
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            what: format!("has {} names (hard links)", found.nlink()),
            remedy: format!("cp -p {0} {0}.new && mv {0}.new {0}", path.display()),
        });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(IdentityError::io(path))?;
    Ok(text)
}

fn check_directory(path: &Path) -> Result<(), IdentityError> {
    let found = fs::symlink_metadata(path).map_err(IdentityError::io(path))?;
    if !found.is_dir() {
        return Err(IdentityError::Damaged {
            path: path.to_owned(),
            why: "it is not a directory".to_owned(),
        });
    }
    check_private(path, &found, 0o700)
}

fn check_private(path: &Path, found: &fs::Metadata, mode: u32) -> Result<(), IdentityError> {
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            what: format!("belongs to user {}, not to user {me} who runs mfsd", found.uid()),
            remedy: format!("chown {me} {}", path.display()),
        });
    }
    let found = found.permissions().mode() & 0o7777;
    if found & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            what: format!("can be used by others (mode {found:04o}, should be {mode:04o})"),
            remedy: format!("chmod {mode:04o} {}", path.display()),
        });
    }
    Ok(())
}

/// Replaces a file as a whole; the new one is 0600 and on the disk before the old one is gone.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let why = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(IdentityError::io(path)(why));
    };
    let suffix = hex::encode(&random::<8>()?);
    let temporary = parent.join(format!(".{}.{suffix}", name.display()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // Whatever was made of it is of no use; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return Err(IdentityError::io(path)(error));
    }
    sync_directory(parent)
}

fn sync_directory(path: &Path) -> Result<(), IdentityError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(IdentityError::io(path))
}
