//! `Trust`: which certificates this node believes; the signed `Register` of who is in the cluster and who
//! was removed from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::spki_digest_of;
use super::{ClusterId, Digest, IdentityError, PeerCertificate};
use crate::types::{NodeId, NodeName, NodeNumber};

/// The nodes of the cluster as its authority signed them, so that no member can invent another's name;
/// those that were removed; and the digest of the gossip key that these do not have. Each register has
/// a higher epoch than the one before; a node keeps the highest that it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// Grows with each change.
    pub epoch: u64,
    /// Who is in the cluster.
    pub nodes: BTreeMap<NodeId, Registered>,
    /// Who was removed or left, and when (seconds since 1970). An entry may go when every certificate
    /// that the node can have had is past its end.
    pub removed: BTreeMap<NodeId, u64>,
    /// Digest of the gossip key now in use.
    pub gossip: Digest,
}

/// A node as it was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// Its name.
    pub name: NodeName,
    /// Its number.
    pub number: NodeNumber,
    /// Where it listened when it was admitted; it tells of changes itself, by gossip.
    pub addresses: Vec<SocketAddr>,
    /// When it was admitted, seconds since 1970.
    pub since: u64,
}

/// A register as the authority signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRegister {
    /// The register, JSON; signed as these bytes.
    pub body: String,
    /// ECDSA P-256 over SHA-256 of it, by the authority's key (ASN.1).
    pub signature: Vec<u8>,
}

/// Whom a node believes: a chain to its cluster's authority, for a node that was not removed.
/// Immutable and cheap to clone; a new register makes a new value.
#[derive(Debug, Clone)]
pub struct Trust {
    cluster: ClusterId,
    anchors: Arc<[CertificateDer<'static>]>,
    roots: Arc<RootCertStore>,
    signed: Arc<SignedRegister>,
    register: Arc<Register>,
}

// === impl Register ===

impl Register {
    /// The bytes that are signed.
    pub(super) fn to_json(&self) -> Result<String, IdentityError> {
        serde_json::to_string(self)
            .map_err(|e| IdentityError::malformed("the register of nodes", e))
    }
}

// === impl SignedRegister ===

impl SignedRegister {
    /// The register, if one of these authorities signed it for this cluster.
    pub fn verify(
        &self,
        cluster: ClusterId,
        anchors: &[CertificateDer<'static>],
    ) -> Result<Register, IdentityError> {
        let signed = anchors.iter().any(|anchor| {
            X509Certificate::from_der(anchor).is_ok_and(|(_, parsed)| {
                let key = &parsed.public_key().subject_public_key.data;
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
                    .verify(self.body.as_bytes(), &self.signature)
                    .is_ok()
            })
        });
        if !signed {
            return Err(IdentityError::BadSignature);
        }
        let register: Register = serde_json::from_str(&self.body)
            .map_err(|e| IdentityError::malformed("the register of nodes", e))?;
        if register.cluster != cluster {
            return Err(IdentityError::OtherCluster {
                theirs: register.cluster.to_string(),
                ours: cluster.to_string(),
            });
        }
        Ok(register)
    }
}

// === impl Trust ===

impl Trust {
    /// Trust in these authorities of this cluster, with the register they signed.
    pub fn new(
        cluster: ClusterId,
        anchors: Vec<CertificateDer<'static>>,
        signed: SignedRegister,
    ) -> Result<Self, IdentityError> {
        let register = signed.verify(cluster, &anchors)?;
        let mut roots = RootCertStore::empty();
        for anchor in &anchors {
            roots.add(anchor.clone())?;
        }
        Ok(Self {
            cluster,
            anchors: anchors.into(),
            roots: Arc::new(roots),
            signed: Arc::new(signed),
            register: Arc::new(register),
        })
    }

    /// The same with a newer register; `None` if it is not newer. The signature is checked first.
    pub fn with_register(&self, signed: SignedRegister) -> Result<Option<Self>, IdentityError> {
        let register = signed.verify(self.cluster, &self.anchors)?;
        if register.epoch <= self.register.epoch {
            return Ok(None);
        }
        Ok(Some(Self { signed: Arc::new(signed), register: Arc::new(register), ..self.clone() }))
    }

    /// The cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The certificates of the authorities.
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.anchors
    }

    /// Digest of the key of the authority (of the first, where there are several).
    pub fn authority(&self) -> Result<Digest, IdentityError> {
        self.anchors.first().ok_or(IdentityError::BadSignature).and_then(spki_digest_of)
    }

    /// Whether the authority whose key has this digest is the only one that is trusted.
    pub fn has_only_authority(&self, digest: &Digest) -> bool {
        self.anchors.iter().all(|anchor| spki_digest_of(anchor).is_ok_and(|found| found == *digest))
    }

    /// The register as signed, to be handed on.
    pub fn signed_register(&self) -> &SignedRegister {
        &self.signed
    }

    /// Who is in the cluster and who was removed.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Whether this node was removed.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.register.removed.contains_key(&node)
    }

    /// Believes a certificate or says why not: signed by the cluster's authority, valid at `now`, for
    /// this cluster, for the key it holds, not removed. Proof that the peer has the key is TLS's part.
    pub fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerCertificate, IdentityError> {
        verify_chain(&self.roots, certificate, intermediates, now)?;
        let peer = PeerCertificate::parse(certificate)?;
        if peer.cluster != self.cluster {
            return Err(IdentityError::OtherCluster {
                theirs: peer.cluster.to_string(),
                ours: self.cluster.to_string(),
            });
        }
        if self.is_removed(peer.node) {
            return Err(IdentityError::Removed(peer.node));
        }
        Ok(peer)
    }
}

/// Checks a chain against one authority that is known only by the digest of its key (a token's), and
/// that the peer must show in its chain.
pub(super) fn verify_by_digest(
    authority: &Digest,
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<PeerCertificate, IdentityError> {
    let anchor = intermediates
        .iter()
        .find(|shown| {
            spki_digest_of(shown).is_ok_and(|digest| digest.equals_in_constant_time(authority))
        })
        .ok_or_else(|| {
            IdentityError::NotTrusted("it does not come from the authority in the token".to_owned())
        })?;
    let mut roots = RootCertStore::empty();
    roots.add(anchor.clone().into_owned())?;
    verify_chain(&roots, certificate, intermediates, now)?;
    PeerCertificate::parse(certificate)
}

fn verify_chain(
    roots: &RootCertStore,
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), IdentityError> {
    let not_trusted = |e: rustls::Error| IdentityError::NotTrusted(e.to_string());
    let parsed = ParsedCertificate::try_from(certificate).map_err(not_trusted)?;
    let algorithms = default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
        .map_err(not_trusted)
}
