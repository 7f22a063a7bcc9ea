//! What a certificate of the cluster says: cluster, node, name and number.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Digest, IdentityError, hex};
use crate::types::{NodeId, NodeName, NodeNumber};

/// A cluster: the first 128 bits of the digest of the key of its founding authority.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId([u8; 16]);

/// What a certificate says about the node that has it. Only parsed and consistent with its own key;
/// whether to believe it is for [`super::Trust`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The cluster in its SPIFFE id.
    pub cluster: ClusterId,
    /// The node: equal in the SPIFFE id and in the digest of the key.
    pub node: NodeId,
    /// The node's name (common name).
    pub name: NodeName,
    /// The node's number (serial-number attribute of the subject).
    pub number: NodeNumber,
    /// Not valid before, seconds since 1970.
    pub not_before: i64,
    /// Not valid after, seconds since 1970.
    pub not_after: i64,
}

/// SHA-256 of a SubjectPublicKeyInfo.
pub fn spki_digest(spki: &[u8]) -> [u8; 32] {
    *Digest::of(spki).as_bytes()
}

/// SHA-256 of the SubjectPublicKeyInfo of a certificate.
pub(super) fn spki_digest_of(certificate: &CertificateDer<'_>) -> Result<Digest, IdentityError> {
    Ok(Digest::from_bytes(spki_digest(parse(certificate)?.public_key().raw)))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|e| IdentityError::malformed("a certificate", e))
}

// === impl ClusterId ===

impl ClusterId {
    /// The cluster that the authority with this key founded.
    pub fn of_authority(spki: &Digest) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&spki.as_bytes()[..16]);
        Self(id)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The SPIFFE id of one of its nodes.
    pub fn spiffe_id(&self, node: NodeId) -> String {
        format!("spiffe://{self}/node/{node}")
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        hex::decode(text)
            .map(Self)
            .ok_or_else(|| IdentityError::malformed("a cluster id", "it has 32 hexadecimal digits"))
    }
}

impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl PeerCertificate ===

impl PeerCertificate {
    /// Reads a node's certificate and checks that it is for the key it holds.
    pub fn parse(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let parsed = parse(certificate)?;
        let missing = |what: &str| {
            IdentityError::malformed("a node's certificate", format!("it has no {what}"))
        };
        let names = parsed
            .subject_alternative_name()
            .map_err(|e| IdentityError::malformed("a node's certificate", e))?
            .ok_or_else(|| missing("SPIFFE id"))?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        // SPIFFE X.509-SVID section 2: exactly one URI.
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(missing("single SPIFFE id"));
        };
        let (cluster, named) = parse_spiffe_id(uri).ok_or_else(|| missing("SPIFFE id of mfs"))?;
        let actual = NodeId::from_digest(spki_digest(parsed.public_key().raw));
        if named != actual {
            return Err(IdentityError::NotItsKey { named, actual });
        }
        let subject = parsed.subject();
        let name = subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .and_then(|name| NodeName::parse(name).ok())
            .ok_or_else(|| missing("node name"))?;
        let number = subject
            .iter_attributes()
            .find(|a| *a.attr_type() == x509_parser::oid_registry::OID_X509_SERIALNUMBER)
            .and_then(|number| number.as_str().ok())
            .and_then(|number| number.parse().ok())
            .and_then(NodeNumber::new)
            .ok_or_else(|| missing("node number"))?;
        let validity = parsed.validity();
        Ok(Self {
            cluster,
            node: actual,
            name,
            number,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

/// `spiffe://<cluster>/node/<id>`.
fn parse_spiffe_id(uri: &str) -> Option<(ClusterId, NodeId)> {
    let (cluster, node) = uri.strip_prefix("spiffe://")?.split_once("/node/")?;
    Some((cluster.parse().ok()?, node.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_are_read_as_written_and_nothing_else() {
        let cluster = ClusterId([7; 16]);
        let node = NodeId::from_digest([9; 32]);
        let id = cluster.spiffe_id(node);
        assert_eq!(parse_spiffe_id(&id), Some((cluster, node)));
        for wrong in [
            "",
            "spiffe://",
            &id.replace("node", "user"),
            &id.replace("spiffe", "https"),
            &format!("{id}0"),
            &format!("{id}/x"),
        ] {
            assert_eq!(parse_spiffe_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nonsense_is_not_a_certificate() {
        assert!(PeerCertificate::parse(&CertificateDer::from(vec![])).is_err());
        assert!(PeerCertificate::parse(&CertificateDer::from(vec![0x30; 300])).is_err());
    }
}
