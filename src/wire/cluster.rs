//! Conversion of what nodes tell each other of the cluster: members, register, keys, certificates.

use std::net::SocketAddr;

use bytes::Bytes;
use mfs_proto::v1;
use rustls::pki_types::CertificateDer;

use super::error::{Malformed, Problem};
use crate::config::accounts::{Account, Accounts};
use crate::identity::{ClusterKeys, ClusterSettings, Digest, GossipKey, Secret, SignedRegister};
use crate::membership::{Member, MemberState};
use crate::types::{NodeId, NodeName, NodeNumber};

/// Most addresses of one node.
const MAX_ADDRESSES: usize = 16;

/// Most certificates of one chain.
const MAX_CHAIN: usize = 8;

/// Largest certificate, bytes.
const MAX_CERTIFICATE: usize = 16 << 10;

/// Most keys of the gossip at a time.
const MAX_GOSSIP_KEYS: usize = 4;

/// Most users or groups of a node that are compared.
const MAX_ACCOUNTS: usize = 65_536;

/// A node's id.
pub fn node_id(field: &'static str, bytes: &[u8]) -> Result<NodeId, Malformed> {
    bytes32(field, bytes).map(NodeId::from_digest)
}

/// A node's id as it is sent.
pub fn node_id_bytes(node: NodeId) -> Bytes {
    Bytes::copy_from_slice(node.as_bytes())
}

/// Addresses with ports.
pub fn addresses(field: &'static str, texts: &[String]) -> Result<Vec<SocketAddr>, Malformed> {
    super::field::length_at_most(field, texts.len(), MAX_ADDRESSES)?;
    let parse = |text: &String| text.parse().map_err(|_| Malformed::unknown(field));
    texts.iter().map(parse).collect()
}

/// Addresses as they are sent.
pub fn address_texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// A chain of certificates. Only sizes are checked; what they say is for `identity`.
pub fn chain(
    field: &'static str,
    certificates: Vec<Bytes>,
) -> Result<Vec<CertificateDer<'static>>, Malformed> {
    if certificates.is_empty() {
        return Err(Malformed::missing(field));
    }
    super::field::length_at_most(field, certificates.len(), MAX_CHAIN)?;
    for certificate in &certificates {
        super::field::length_at_most(field, certificate.len(), MAX_CERTIFICATE)?;
    }
    Ok(certificates.into_iter().map(|bytes| CertificateDer::from(bytes.to_vec())).collect())
}

/// A chain as it is sent.
pub fn chain_bytes(chain: &[CertificateDer<'static>]) -> Vec<Bytes> {
    chain.iter().map(|certificate| Bytes::copy_from_slice(certificate)).collect()
}

/// A secret of 32 bytes.
pub fn secret(field: &'static str, bytes: &[u8]) -> Result<Secret, Malformed> {
    bytes32(field, bytes).map(Secret::from_bytes)
}

/// A secret as it is sent.
pub fn secret_bytes(secret: &Secret) -> Bytes {
    Bytes::copy_from_slice(secret.as_bytes())
}

fn bytes32(field: &'static str, bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    if bytes.is_empty() {
        return Err(Malformed::missing(field));
    }
    bytes.try_into().map_err(|_| {
        Malformed::new(field, Problem::OutOfRange { value: bytes.len() as u64, limit: 32 })
    })
}

// === impl v1::Member ===

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        let state = match member.state {
            MemberState::Alive => v1::MemberState::Alive,
            MemberState::Suspect => v1::MemberState::Suspect,
            MemberState::Dead => v1::MemberState::Dead,
            MemberState::Left => v1::MemberState::Left,
        };
        Self {
            id: node_id_bytes(member.id),
            name: member.name.to_string(),
            number: member.number.get().into(),
            addresses: address_texts(&member.addresses),
            state: state.into(),
            since: member.since,
            incarnation: member.incarnation,
            version: member.version.clone(),
        }
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = Malformed;

    fn try_from(member: v1::Member) -> Result<Self, Malformed> {
        let state = match member.state() {
            v1::MemberState::Unspecified => return Err(Malformed::unknown("Member.state")),
            v1::MemberState::Alive => MemberState::Alive,
            v1::MemberState::Suspect => MemberState::Suspect,
            v1::MemberState::Dead => MemberState::Dead,
            v1::MemberState::Left => MemberState::Left,
        };
        super::field::length_at_most("Member.version", member.version.len(), 64)?;
        Ok(Self {
            id: node_id("Member.id", &member.id)?,
            name: NodeName::parse(&member.name).map_err(|_| Malformed::unknown("Member.name"))?,
            number: u16::try_from(member.number)
                .ok()
                .and_then(NodeNumber::new)
                .ok_or(Malformed::unknown("Member.number"))?,
            addresses: addresses("Member.addresses", &member.addresses)?,
            state,
            since: member.since,
            incarnation: member.incarnation,
            version: member.version,
        })
    }
}

// === impl v1::SignedRegister ===

impl From<&SignedRegister> for v1::SignedRegister {
    fn from(register: &SignedRegister) -> Self {
        Self { body: register.body.clone(), signature: register.signature.clone().into() }
    }
}

impl From<v1::SignedRegister> for SignedRegister {
    fn from(register: v1::SignedRegister) -> Self {
        Self { body: register.body, signature: register.signature.to_vec() }
    }
}

// === impl v1::ClusterKeys ===

impl From<&ClusterKeys> for v1::ClusterKeys {
    fn from(keys: &ClusterKeys) -> Self {
        let gossip = keys
            .gossip
            .iter()
            .map(|key| v1::GossipKey { id: key.id.into(), key: secret_bytes(&key.key) })
            .collect();
        Self { gossip, inodes: secret_bytes(&keys.inodes) }
    }
}

impl TryFrom<v1::ClusterKeys> for ClusterKeys {
    type Error = Malformed;

    fn try_from(keys: v1::ClusterKeys) -> Result<Self, Malformed> {
        if keys.gossip.is_empty() {
            return Err(Malformed::missing("ClusterKeys.gossip"));
        }
        super::field::length_at_most("ClusterKeys.gossip", keys.gossip.len(), MAX_GOSSIP_KEYS)?;
        let gossip = keys.gossip.iter().map(|key| {
            let id = u8::try_from(key.id).map_err(|_| Malformed::unknown("GossipKey.id"))?;
            Ok(GossipKey { id, key: secret("GossipKey.key", &key.key)? })
        });
        Ok(Self {
            gossip: gossip.collect::<Result<_, Malformed>>()?,
            inodes: secret("ClusterKeys.inodes", &keys.inodes)?,
        })
    }
}

// === impl v1::ClusterSettings ===

impl From<&ClusterSettings> for v1::ClusterSettings {
    fn from(settings: &ClusterSettings) -> Self {
        Self {
            trust_root: settings.trust_root,
            authorities: settings.authorities.iter().map(|node| node_id_bytes(*node)).collect(),
        }
    }
}

impl TryFrom<v1::ClusterSettings> for ClusterSettings {
    type Error = Malformed;

    fn try_from(settings: v1::ClusterSettings) -> Result<Self, Malformed> {
        let authorities =
            settings.authorities.iter().map(|id| node_id("ClusterSettings.authorities", id));
        Ok(Self {
            trust_root: settings.trust_root,
            authorities: authorities.collect::<Result<_, _>>()?,
        })
    }
}

// === impl v1::Accounts ===

impl From<&Accounts> for v1::Accounts {
    fn from(accounts: &Accounts) -> Self {
        let each = |accounts: &[Account]| {
            accounts.iter().map(|a| v1::Account { id: a.id, name: a.name.clone() }).collect()
        };
        Self {
            digest: Bytes::copy_from_slice(Digest::of(accounts.canonical().as_bytes()).as_bytes()),
            users: each(&accounts.users),
            groups: each(&accounts.groups),
        }
    }
}

impl TryFrom<v1::Accounts> for Accounts {
    type Error = Malformed;

    fn try_from(accounts: v1::Accounts) -> Result<Self, Malformed> {
        let each = |field, accounts: Vec<v1::Account>| {
            super::field::length_at_most(field, accounts.len(), MAX_ACCOUNTS)?;
            Ok(accounts.into_iter().map(|a| Account { id: a.id, name: a.name }).collect())
        };
        Ok(Self {
            users: each("Accounts.users", accounts.users)?,
            groups: each("Accounts.groups", accounts.groups)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            id: NodeId::from_digest([3; 32]),
            name: NodeName::parse("n1").unwrap(),
            number: NodeNumber::new(309).unwrap(),
            addresses: vec!["10.0.0.1:7230".parse().unwrap(), "[fd00::1]:7230".parse().unwrap()],
            state: MemberState::Suspect,
            since: 5,
            incarnation: 6,
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn what_is_sent_is_what_is_received() {
        assert_eq!(Member::try_from(v1::Member::from(&member())), Ok(member()));
        let keys = ClusterKeys::generate().unwrap().rotated().unwrap();
        assert_eq!(ClusterKeys::try_from(v1::ClusterKeys::from(&keys)), Ok(keys));
        let settings = ClusterSettings { trust_root: true, authorities: vec![member().id] };
        assert_eq!(ClusterSettings::try_from(v1::ClusterSettings::from(&settings)), Ok(settings));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let good = || v1::Member::from(&member());
        for bad in [
            v1::Member { id: Bytes::new(), ..good() },
            v1::Member { id: vec![1; 31].into(), ..good() },
            v1::Member { name: "../etc".to_owned(), ..good() },
            v1::Member { number: 0, ..good() },
            v1::Member { number: 65_536, ..good() },
            v1::Member { addresses: vec!["host:1".to_owned()], ..good() },
            v1::Member { addresses: vec!["10.0.0.1:1".to_owned(); 17], ..good() },
            v1::Member { state: 0, ..good() },
            v1::Member { state: 99, ..good() },
            v1::Member { version: "x".repeat(65), ..good() },
        ] {
            assert!(Member::try_from(bad.clone()).is_err(), "{bad:?}");
        }
        let keys = v1::ClusterKeys { gossip: vec![], inodes: vec![1; 32].into() };
        assert!(ClusterKeys::try_from(keys).is_err());
        assert!(chain("x", vec![]).is_err());
        assert!(chain("x", vec![vec![0; MAX_CERTIFICATE + 1].into()]).is_err());
    }
}
