//! `NodeKey`: the private key that makes a machine a node; its public half is the node's id.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{IdentityError, spki_digest};
use crate::types::NodeId;

/// A node's key (ECDSA P-256, which every TLS library speaks). Cheap to clone, never shown.
#[derive(Clone)]
pub struct NodeKey(Arc<KeyPair>);

// === impl NodeKey ===

impl NodeKey {
    /// A new key, and so a new node.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self(Arc::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)))
    }

    /// Reads a key as [`Self::to_pem`] writes it (PKCS#8).
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let pair =
            KeyPair::from_pem(pem).map_err(|e| IdentityError::malformed("the node's key", e))?;
        Ok(Self(Arc::new(pair)))
    }

    /// The key as PEM (PKCS#8).
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The key as rustls takes it.
    pub fn to_private_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// The node that has this key.
    pub fn node(&self) -> NodeId {
        NodeId::from_digest(spki_digest(&self.0.subject_public_key_info()))
    }

    /// A signed request for a certificate (PKCS#10), which proves that the asker has the key. Names
    /// nothing: the authority decides what the certificate says.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        Ok(CertificateParams::default().serialize_request(&*self.0)?.der().to_vec())
    }

    /// The pair, for the certificate authority.
    pub(super) fn pair(&self) -> &KeyPair {
        &self.0
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.node().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_pem_and_stays_the_same_node() {
        let key = NodeKey::generate().unwrap();
        assert_eq!(NodeKey::from_pem(&key.to_pem()).unwrap().node(), key.node());
        assert_ne!(NodeKey::generate().unwrap().node(), key.node());
        assert!(NodeKey::from_pem("nonsense").is_err());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}
