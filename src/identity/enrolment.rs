//! `Identity` and `Enrolment`: what makes this machine a node of its cluster.

use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use super::{ClusterId, Digest, IdentityError, NodeKey, PeerCertificate, Secret, Trust};
use crate::types::{NodeId, NodeName, NodeNumber};

/// Key, certificate and trust of this node: all that a TLS connection needs. Renewal and a new
/// register make a new value.
#[derive(Debug, Clone)]
pub struct Identity {
    key: NodeKey,
    chain: Vec<CertificateDer<'static>>,
    certificate: PeerCertificate,
    trust: Trust,
}

/// Everything a node keeps of its membership.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Who it is and whom it believes.
    pub identity: Identity,
    /// What the founder decided for all.
    pub settings: ClusterSettings,
    /// The cluster's secrets.
    pub keys: ClusterKeys,
    /// Seals the file ids that this node gives out; its own, and kept for ever.
    pub seal: Secret,
}

/// What holds for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// Whether the root users of all nodes are root on all nodes (`mfs init --trust-root`).
    pub trust_root: bool,
    /// The nodes that hold the authority's key: where tokens are made and nodes removed.
    pub authorities: Vec<NodeId>,
}

/// The secrets that all nodes of the cluster share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterKeys {
    /// Keys of the gossip's datagrams; the first seals, all open. A removal puts a new one in front.
    pub gossip: Vec<GossipKey>,
    /// Key of the inode numbers, equal on all nodes and never changed.
    pub inodes: Secret,
}

/// One key of the gossip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GossipKey {
    /// Names it in a datagram.
    pub id: u8,
    /// The key.
    pub key: Secret,
}

// === impl Identity ===

impl Identity {
    /// Puts the parts together, `chain` being the node's certificate and then its issuer's. Refuses
    /// a certificate of another key, and one that the trust would not believe from a peer at `now`,
    /// seconds since 1970.
    pub fn new(
        key: NodeKey,
        chain: Vec<CertificateDer<'static>>,
        trust: Trust,
        now: u64,
    ) -> Result<Self, IdentityError> {
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let (certificate, issuers) = split(&chain)?;
        let certificate = trust.verify(certificate, issuers, at)?;
        Self::checked(key, chain, certificate, trust)
    }

    /// The same for an identity that was accepted before and comes from the store or from mfsd: an
    /// expired certificate, or one of a node that was removed meanwhile, is still an identity; its
    /// peers will say what is wrong with it. `trust` is asked for the cluster in the certificate.
    pub fn restore(
        key: NodeKey,
        chain: Vec<CertificateDer<'static>>,
        trust: impl FnOnce(ClusterId) -> Result<Trust, IdentityError>,
    ) -> Result<Self, IdentityError> {
        let certificate = PeerCertificate::parse(split(&chain)?.0)?;
        let trust = trust(certificate.cluster)?;
        Self::checked(key, chain, certificate, trust)
    }

    fn checked(
        key: NodeKey,
        chain: Vec<CertificateDer<'static>>,
        certificate: PeerCertificate,
        trust: Trust,
    ) -> Result<Self, IdentityError> {
        if certificate.node != key.node() {
            return Err(IdentityError::NotItsKey { named: certificate.node, actual: key.node() });
        }
        Ok(Self { key, chain, certificate, trust })
    }

    /// The same node with another certificate for the same key.
    pub fn renewed(
        &self,
        chain: Vec<CertificateDer<'static>>,
        now: u64,
    ) -> Result<Self, IdentityError> {
        Self::new(self.key.clone(), chain, self.trust.clone(), now)
    }

    /// The same node with another trust.
    #[must_use]
    pub fn with_trust(&self, trust: Trust) -> Self {
        Self { trust, ..self.clone() }
    }

    /// The node.
    pub const fn node(&self) -> NodeId {
        self.certificate.node
    }

    /// Its name.
    pub const fn name(&self) -> &NodeName {
        &self.certificate.name
    }

    /// Its number.
    pub const fn number(&self) -> NodeNumber {
        self.certificate.number
    }

    /// What its certificate says.
    pub const fn certificate(&self) -> &PeerCertificate {
        &self.certificate
    }

    /// Its certificate, then the authority's.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Its key.
    pub const fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Whom it believes.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }
}

fn split<'a>(
    chain: &'a [CertificateDer<'static>],
) -> Result<(&'a CertificateDer<'static>, &'a [CertificateDer<'static>]), IdentityError> {
    chain
        .split_first()
        .ok_or_else(|| IdentityError::malformed("the node's certificate", "there is none"))
}

// === impl ClusterKeys ===

impl ClusterKeys {
    /// Fresh keys for a new cluster.
    pub fn generate() -> Result<Self, IdentityError> {
        let gossip = vec![GossipKey { id: 1, key: Secret::generate()? }];
        Ok(Self { gossip, inodes: Secret::generate()? })
    }

    /// The same with a new gossip key in front; the one used so far is still accepted, for the moment
    /// in which not all have the new one.
    pub fn rotated(&self) -> Result<Self, IdentityError> {
        let used = self.gossip.first();
        let id = used.map_or(1, |key| key.id.wrapping_add(1));
        let new = GossipKey { id, key: Secret::generate()? };
        let gossip = std::iter::once(new).chain(used.cloned()).collect();
        Ok(Self { gossip, inodes: self.inodes.clone() })
    }

    /// Digest of the gossip key in use, which the register names.
    pub fn gossip_digest(&self) -> Option<Digest> {
        self.gossip.first().map(|key| key.key.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_one_old_key_and_the_inode_key() {
        let first = ClusterKeys::generate().unwrap();
        let third = first.rotated().unwrap().rotated().unwrap();
        assert_eq!(third.gossip.iter().map(|k| k.id).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(third.inodes, first.inodes);
        assert_ne!(third.gossip_digest(), first.gossip_digest());
    }
}
