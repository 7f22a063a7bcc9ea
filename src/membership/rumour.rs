//! Rumours: what travels with gossip besides who is alive.
//!
//! A rumour is passed on only when this node has made it its own: news of a member list once it has that
//! list, so that whoever hears the news can fetch the list from whom it was heard.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use foca::{BroadcastHandler, Invalidates};
use serde::{Deserialize, Serialize};

use super::{Endpoint, RosterDigest, Tag};

/// Most addresses that a node tells of itself: a rumour must fit into a datagram beside others.
const MAX_ADDRESSES: usize = 8;

/// Longest version that is taken, bytes.
const MAX_VERSION: usize = 32;

/// A piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rumour {
    /// There is a member list that says this.
    Roster(RosterDigest),
    /// What a node says of itself.
    Details(Tag, Details),
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Details {
    /// The incarnation in which it said so; the latest counts.
    pub(super) stamp: u64,
    /// Where it listens, the best first.
    pub(super) addresses: Vec<SocketAddr>,
    /// The version of its software.
    pub(super) version: String,
}

/// Takes rumours from the detector; `Core` decides which of them are new.
#[derive(Debug)]
pub(super) struct Rumours {
    overheard: Sender<(Endpoint, Rumour)>,
}

/// What a rumour is about: a newer one on the same topic replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Roster,
    Details(Tag),
}

/// A rumour as it is encoded.
#[derive(Serialize, Deserialize)]
enum OnTheWire {
    Roster(u64),
    Details { tag: [u8; 8], stamp: u64, addresses: Vec<SocketAddr>, version: String },
}

// === impl Rumour ===

impl Rumour {
    pub(super) fn topic(&self) -> Topic {
        match self {
            Self::Roster(_) => Topic::Roster,
            Self::Details(tag, _) => Topic::Details(*tag),
        }
    }

    /// The rumour's bytes; `None` if it is too long to travel.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let wire = match self {
            Self::Roster(digest) => OnTheWire::Roster(digest.number()),
            Self::Details(tag, details) => OnTheWire::Details {
                tag: *tag.as_bytes(),
                stamp: details.stamp,
                addresses: details.addresses.iter().copied().take(MAX_ADDRESSES).collect(),
                version: details.version.clone(),
            },
        };
        postcard::to_allocvec(&wire).ok().filter(|bytes| bytes.len() < super::MAX_FRAME / 2)
    }

    /// The rumour in these bytes; `None` if they are none, or one that is out of bounds.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match postcard::from_bytes(bytes).ok()? {
            OnTheWire::Roster(digest) => Self::Roster(RosterDigest::from_number(digest)),
            OnTheWire::Details { tag, stamp, addresses, version } => {
                if addresses.len() > MAX_ADDRESSES || version.len() > MAX_VERSION {
                    return None;
                }
                Self::Details(Tag::from_bytes(tag), Details { stamp, addresses, version })
            }
        })
    }
}

// === impl Details ===

impl Details {
    /// What a node with these addresses says of itself in this incarnation, cut to what others take.
    pub(super) fn new(stamp: u64, addresses: &[SocketAddr], version: &str) -> Self {
        let addresses = addresses.iter().copied().take(MAX_ADDRESSES).collect();
        let fits = |end: &usize| version.is_char_boundary(*end);
        let end = (0..=version.len().min(MAX_VERSION)).rev().find(fits).unwrap_or(0);
        Self { stamp, addresses, version: version[..end].to_owned() }
    }
}

// === impl Rumours ===

impl Rumours {
    /// The handler for the detector, and where what it overhears comes out.
    pub(super) fn new() -> (Self, Receiver<(Endpoint, Rumour)>) {
        let (overheard, heard) = channel();
        (Self { overheard }, heard)
    }
}

impl BroadcastHandler<Endpoint> for Rumours {
    type Key = Topic;
    type Error = Infallible;

    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&Endpoint>,
    ) -> Result<Option<Topic>, Infallible> {
        let Some(rumour) = Rumour::decode(data) else { return Ok(None) };
        let Some(sender) = sender else { return Ok(Some(rumour.topic())) };
        // `Core` holds the other end for as long as it holds the detector.
        self.overheard.send((*sender, rumour)).ok();
        Ok(None)
    }
}

// === impl Topic ===

impl Invalidates for Topic {
    fn invalidates(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rumours_survive_the_wire_and_are_bounded() {
        let tag = Tag::from_bytes([3; 8]);
        let address: SocketAddr = "[2001:db8::1]:7230".parse().unwrap();
        let details = Details::new(u64::MAX, &[address; 20], &"ä".repeat(40));
        assert_eq!((details.addresses.len(), details.version.len()), (8, 32));
        for rumour in
            [Rumour::Roster(RosterDigest::from_number(u64::MAX)), Rumour::Details(tag, details)]
        {
            let bytes = rumour.encode().unwrap();
            assert_eq!(Rumour::decode(&bytes), Some(rumour));
            for cut in 0..bytes.len() {
                assert_eq!(Rumour::decode(&bytes[..cut]), None);
            }
        }
        let wire = OnTheWire::Details {
            tag: [0; 8],
            stamp: 0,
            addresses: vec![address; 9],
            version: String::new(),
        };
        assert_eq!(Rumour::decode(&postcard::to_allocvec(&wire).unwrap()), None);
    }
}
