//! `Endpoint`: a node as gossip names it, small enough to travel in every datagram.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// The first 64 bits of a node's id: enough to tell the members of a cluster apart (at 65,535 nodes a
/// chance of 1 in 10^10 that two are equal), and a quarter of the id's size.
///
/// Never the base of a decision about trust: that is the certificate's business.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 8]);

/// One life of a node at one address.
///
/// Of two endpoints with the same tag the one with the higher incarnation is the node, the other is its
/// past. In memory an IPv4 address is held as its mapped IPv6 address, and the incarnation as bytes, which need
/// no alignment: a list of 10,000 members takes less than half of what it would.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OnTheWire", into = "OnTheWire")]
pub struct Endpoint {
    tag: Tag,
    /// Big-endian.
    incarnation: [u8; 8],
    host: Ipv6Addr,
    port: u16,
}

/// An endpoint as it is encoded: an IPv4 address takes 5 bytes there, not 16.
#[derive(Serialize, Deserialize)]
struct OnTheWire([u8; 8], u64, IpAddr, u16);

// === impl Tag ===

impl Tag {
    /// The tag of this node.
    pub fn of(node: NodeId) -> Self {
        let mut tag = [0; 8];
        tag.copy_from_slice(&node.as_bytes()[..8]);
        Self(tag)
    }

    /// The tag with these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Bits of an incarnation that count the renewals within one run of the daemon; the bits above are
    /// the run's boot epoch.
    const RENEWAL_BITS: u32 = 16;

    /// The node `tag` at `address`, in this incarnation.
    pub fn new(tag: Tag, incarnation: u64, address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { tag, incarnation: incarnation.to_be_bytes(), host, port: address.port() }
    }

    /// The first incarnation of the run with this boot epoch.
    pub const fn first_incarnation(epoch: u32) -> u64 {
        (epoch as u64) << Self::RENEWAL_BITS
    }

    /// The boot epoch of the run that an incarnation belongs to.
    pub const fn epoch_of(incarnation: u64) -> u32 {
        let epoch = incarnation >> Self::RENEWAL_BITS;
        if epoch > u32::MAX as u64 { u32::MAX } else { epoch as u32 }
    }

    /// Which node.
    pub const fn tag(&self) -> Tag {
        self.tag
    }

    /// Which of its lives.
    pub const fn incarnation(&self) -> u64 {
        u64::from_be_bytes(self.incarnation)
    }

    /// The boot epoch of the run that this life belongs to.
    pub const fn epoch(&self) -> u32 {
        Self::epoch_of(self.incarnation())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.host).to_canonical(), self.port)
    }

    /// The next life of the same node, at the same address.
    #[must_use]
    pub const fn renewed(mut self) -> Self {
        self.incarnation = self.incarnation().saturating_add(1).to_be_bytes();
        self
    }

    /// The next life of the same node, at another address.
    #[must_use]
    pub fn moved_to(&self, address: SocketAddr) -> Self {
        Self::new(self.tag, self.incarnation().saturating_add(1), address)
    }
}

impl foca::Identity for Endpoint {
    type Addr = Tag;

    /// A node that was declared dead by mistake comes back at once under a newer incarnation.
    fn renew(&self) -> Option<Self> {
        Some(self.renewed())
    }

    fn addr(&self) -> Tag {
        self.tag
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        // The address decides between two of equal incarnation, which a faulty peer may invent, so that
        // all nodes keep the same one of them.
        (self.incarnation(), self.host, self.port)
            > (adversary.incarnation(), adversary.host, adversary.port)
    }
}

impl From<OnTheWire> for Endpoint {
    fn from(OnTheWire(tag, incarnation, ip, port): OnTheWire) -> Self {
        Self::new(Tag(tag), incarnation, SocketAddr::new(ip, port))
    }
}

impl From<Endpoint> for OnTheWire {
    fn from(endpoint: Endpoint) -> Self {
        let address = endpoint.address();
        Self(endpoint.tag.0, endpoint.incarnation(), address.ip(), address.port())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:x}@{}", self.tag, self.incarnation(), self.address())
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity;

    use super::*;

    fn endpoint(incarnation: u64, address: &str) -> Endpoint {
        Endpoint::new(Tag::from_bytes([7; 8]), incarnation, address.parse().unwrap())
    }

    #[test]
    fn endpoints_survive_the_wire_and_stay_small() {
        for (text, most) in [("10.0.0.1:7230", 24), ("[2001:db8::1]:7230", 36)] {
            let there = endpoint(Endpoint::first_incarnation(1_800_000_000), text);
            let bytes = postcard::to_allocvec(&there).unwrap();
            assert!(bytes.len() <= most, "{text}: {} bytes", bytes.len());
            assert_eq!(postcard::from_bytes::<Endpoint>(&bytes).unwrap(), there);
            assert_eq!(there.address().to_string(), text);
        }
        assert!(size_of::<Endpoint>() <= 34 && size_of::<foca::Member<Endpoint>>() <= 38);
    }

    #[test]
    fn the_later_life_wins_and_exactly_one_of_two_does() {
        let lives = [
            endpoint(1, "10.0.0.1:7230"),
            endpoint(1, "10.0.0.2:7230"),
            endpoint(1, "10.0.0.2:7231"),
            endpoint(2, "10.0.0.1:7230"),
        ];
        for (older, one) in lives.iter().enumerate() {
            for two in &lives[older + 1..] {
                assert!(two.win_addr_conflict(one) && !one.win_addr_conflict(two));
            }
        }
        let renewed = lives[0].renew().unwrap();
        assert!(renewed.win_addr_conflict(&lives[2]));
    }

    #[test]
    fn an_epoch_comes_back_out_of_an_incarnation() {
        let first = endpoint(Endpoint::first_incarnation(77), "10.0.0.1:1");
        assert_eq!(Endpoint::epoch_of(first.renewed().renewed().incarnation()), 77);
        assert_eq!(Endpoint::epoch_of(u64::MAX), u32::MAX);
    }
}
