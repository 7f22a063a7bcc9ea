//! Beacons: how nodes of one cluster find each other on a local network.
//!
//! ```text
//! 4 "mfsB" | 1 version | 1 kind | 16 cluster | 32 node | 16 address (IPv4 mapped) | 2 port | 16 code
//! ```
//!
//! A beacon says "a node of this cluster listens there". It authorises nobody: a member that hears one
//! speaks to that address over sealed datagrams or TLS, a joiner checks the cluster's CA there. The code
//! (HMAC with the gossip key) only keeps strangers from making members talk to arbitrary addresses.
//!
//! A query asks for beacons. Whoever wants to join has no key, so it has no code; it is as long as a
//! beacon, so that nobody gains bytes by asking in another's name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aws_lc_rs::digest::{Context, SHA256};

use super::Keyring;
use super::seal::MAC_LEN;
use crate::types::NodeId;

/// Length of a beacon and of a query, bytes.
pub const BEACON_LEN: usize = SIGNED_LEN + MAC_LEN;

const SIGNED_LEN: usize = 4 + 1 + 1 + 16 + 32 + 16 + 2;
const MAGIC: &[u8; 4] = b"mfsB";
const VERSION: u8 = 1;
const KIND_BEACON: u8 = 1;
const KIND_QUERY: u8 = 2;

/// Which cluster a beacon is of: derived from the hash of its CA, which a joiner knows from its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterHash([u8; 16]);

/// What is said on a local network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beacon {
    /// A node of the cluster listens at an address.
    Here {
        /// Which node it says it is.
        node: NodeId,
        /// Where, TCP and UDP.
        address: SocketAddr,
    },
    /// Whoever is of the cluster, say so.
    Query,
}

// === impl ClusterHash ===

impl ClusterHash {
    /// Of the cluster whose CA's public key (SubjectPublicKeyInfo) has this SHA-256.
    pub fn of_ca(ca: &[u8; 32]) -> Self {
        // Not a part of the CA's hash itself: that is in the tokens, and need not be shouted.
        let mut context = Context::new(&SHA256);
        context.update(b"mfs cluster 1");
        context.update(ca);
        let mut hash = [0; 16];
        hash.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(hash)
    }
}

// === impl Beacon ===

impl Beacon {
    /// The beacon of `node`, which listens at `address`.
    pub fn encode_here(
        cluster: ClusterHash,
        node: NodeId,
        address: SocketAddr,
        keys: &Keyring,
    ) -> [u8; BEACON_LEN] {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = head(KIND_BEACON, cluster);
        bytes[22..54].copy_from_slice(node.as_bytes());
        bytes[54..70].copy_from_slice(&host.octets());
        bytes[70..72].copy_from_slice(&address.port().to_be_bytes());
        let mac = keys.beacon_mac(&bytes[..SIGNED_LEN]);
        bytes[SIGNED_LEN..].copy_from_slice(&mac);
        bytes
    }

    /// A query for the nodes of a cluster.
    pub fn encode_query(cluster: ClusterHash) -> [u8; BEACON_LEN] {
        head(KIND_QUERY, cluster)
    }

    /// What these bytes say about `cluster`; `None` if nothing, or not in this version.
    ///
    /// Without keys (a joiner has none) the code is not checked.
    pub fn decode(bytes: &[u8], cluster: ClusterHash, keys: Option<&Keyring>) -> Option<Self> {
        let bytes: &[u8; BEACON_LEN] = bytes.try_into().ok()?;
        if bytes[..4] != *MAGIC || bytes[4] != VERSION || bytes[6..22] != cluster.0 {
            return None;
        }
        match bytes[5] {
            KIND_QUERY => Some(Self::Query),
            KIND_BEACON => {
                let (signed, mac) = bytes.split_at(SIGNED_LEN);
                if keys.is_some_and(|keys| !keys.is_beacon_mac(signed, mac)) {
                    return None;
                }
                let node = NodeId::from_digest(bytes[22..54].try_into().ok()?);
                let host: [u8; 16] = bytes[54..70].try_into().ok()?;
                let port = u16::from_be_bytes([bytes[70], bytes[71]]);
                let host = IpAddr::V6(Ipv6Addr::from(host)).to_canonical();
                (port != 0).then_some(Self::Here { node, address: SocketAddr::new(host, port) })
            }
            _ => None,
        }
    }
}

fn head(kind: u8, cluster: ClusterHash) -> [u8; BEACON_LEN] {
    let mut bytes = [0; BEACON_LEN];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4] = VERSION;
    bytes[5] = kind;
    bytes[6..22].copy_from_slice(&cluster.0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::GossipKey;
    use super::*;

    fn keys(n: u8) -> Keyring {
        Keyring::new(GossipKey::new(n, &[n; 32]), None)
    }

    #[test]
    fn a_beacon_is_heard_by_its_cluster_only() {
        let (ours, theirs) = (ClusterHash::of_ca(&[1; 32]), ClusterHash::of_ca(&[2; 32]));
        for address in ["10.0.0.1:7230", "[fe80::1]:7230"] {
            let here = Beacon::Here {
                node: NodeId::from_digest([9; 32]),
                address: address.parse().unwrap(),
            };
            let Beacon::Here { node, address } = here else { panic!() };
            let bytes = Beacon::encode_here(ours, node, address, &keys(1));
            assert_eq!(Beacon::decode(&bytes, ours, Some(&keys(1))), Some(here));
            assert_eq!(Beacon::decode(&bytes, ours, None), Some(here));
            assert_eq!(Beacon::decode(&bytes, theirs, None), None);
            assert_eq!(Beacon::decode(&bytes, ours, Some(&keys(2))), None);
            for byte in 0..bytes.len() {
                let mut garbled = bytes;
                garbled[byte] ^= 0x80;
                assert_eq!(Beacon::decode(&garbled, ours, Some(&keys(1))), None, "byte {byte}");
                assert_eq!(Beacon::decode(&bytes[..byte], ours, None), None);
            }
        }
        let query = Beacon::encode_query(ours);
        assert_eq!(Beacon::decode(&query, ours, Some(&keys(1))), Some(Beacon::Query));
        assert_eq!(Beacon::decode(&query, theirs, None), None);
    }
}
