//! Sealing: every datagram of gossip is encrypted, authenticated, bound to its sender and receiver, and
//! taken once.
//!
//! ```text
//! 1 byte  key id | 8 bytes  sender's tag | 8 bytes  counter | AES-256-GCM-SIV(frame) | 16 bytes  tag
//! ```
//!
//! * The key is HKDF-SHA256 of the cluster's gossip key and the sender's tag, so that two senders never use
//!   one key with the same nonce.
//! * The counter is the sender's boot epoch (upper 32 bits; grows with every start) and a number within the
//!   run. It is the nonce; GCM-SIV, so that a virtual machine set back to an old snapshot, which repeats
//!   nonces, betrays no more than that two datagrams were equal.
//! * The receiver's tag is authenticated, not sent: a datagram to one node cannot be replayed to another.
//! * A receiver takes each counter once, within the last 64 of a sender.
//!
//! Whoever holds a gossip key can seal as any sender: members trust each other not to lie about who is
//! alive. That is why membership decides about nothing but waiting; certificates and leases decide the rest.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::hmac;

use super::Tag;

/// Bytes that sealing adds to a frame.
pub const SEAL_OVERHEAD: usize = HEADER + AEAD_TAG;

const HEADER: usize = 1 + 8 + 8;
const AEAD_TAG: usize = 16;

/// How far behind the newest a datagram may arrive: reordering on a LAN is of a few packets.
const WINDOW: u64 = 64;

/// Bytes of a beacon's authentication code: a truncated HMAC-SHA256 (RFC 2104 section 5: not below half).
pub(super) const MAC_LEN: usize = 16;

/// One gossip key of the cluster, with the number that datagrams name it by.
#[derive(Clone)]
pub struct GossipKey {
    id: u8,
    /// What the per-sender keys are derived from.
    prk: Prk,
}

/// The gossip keys that are live: the first seals, both open.
///
/// Rotation without a gap: hand out the new key as `other` everywhere, make it the primary, drop the old.
#[derive(Clone, Debug)]
pub struct Keyring {
    primary: GossipKey,
    other: Option<GossipKey>,
}

/// Seals what this node sends.
pub(super) struct Sealer {
    me: Tag,
    key_id: u8,
    key: LessSafeKey,
    counter: u64,
}

/// Opens what others send, each datagram once.
#[derive(Debug, Default)]
pub(super) struct Opener {
    /// The counters seen of each sender that proved itself; so bounded by the number of members.
    seen: HashMap<Tag, Window>,
}

/// A datagram that was opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened<'a> {
    /// Who sealed it.
    pub(super) sender: Tag,
    /// What it says.
    pub(super) frame: &'a [u8],
}

/// Why a datagram was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// Too short, an unknown key, or not sealed by who it says for this node.
    #[error("not sealed for this node with a key of this cluster")]
    Forged,
    /// Sealed well, and seen before or too late.
    #[error("sealed by {sender} and already seen, or too old")]
    Replayed {
        /// Who sealed it.
        sender: Tag,
        /// The newest boot epoch seen of it, if the datagram is of an older one.
        newer_epoch: Option<u32>,
    },
}

/// The counters taken from one sender: the newest and, as bits, those just before it.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    newest: u64,
    /// Bit n: `newest - n` was taken.
    taken: u64,
}

// === impl GossipKey ===

impl GossipKey {
    /// The key with this number. The secret is 256 random bits.
    pub fn new(id: u8, secret: &[u8; 32]) -> Self {
        Self { id, prk: Salt::new(HKDF_SHA256, b"mfs gossip 1").extract(secret) }
    }

    /// Its number.
    pub const fn id(&self) -> u8 {
        self.id
    }

    fn of_sender(&self, sender: Tag) -> LessSafeKey {
        let info: [&[u8]; 2] = [b"datagram", sender.as_bytes()];
        let key = self.prk.expand(&info, &AES_256_GCM_SIV);
        // HKDF-SHA256 gives up to 8,160 bytes (RFC 5869 section 2.3); this asks for 32.
        LessSafeKey::new(UnboundKey::from(key.expect("a key is shorter than HKDF's limit")))
    }

    fn of_beacons(&self) -> hmac::Key {
        let key = self.prk.expand(&[b"beacon"], hmac::HMAC_SHA256);
        hmac::Key::from(key.expect("a key is shorter than HKDF's limit"))
    }
}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GossipKey({})", self.id)
    }
}

// === impl Keyring ===

impl Keyring {
    /// These keys: `primary` seals, both open.
    pub const fn new(primary: GossipKey, other: Option<GossipKey>) -> Self {
        Self { primary, other }
    }

    fn find(&self, id: u8) -> Option<&GossipKey> {
        std::iter::once(&self.primary).chain(&self.other).find(|key| key.id == id)
    }

    /// The authentication code of a beacon.
    pub(super) fn beacon_mac(&self, beacon: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = [0; MAC_LEN];
        let whole = hmac::sign(&self.primary.of_beacons(), beacon);
        mac.copy_from_slice(&whole.as_ref()[..MAC_LEN]);
        mac
    }

    /// Whether a beacon was made by who holds a key of this cluster.
    pub(super) fn is_beacon_mac(&self, beacon: &[u8], mac: &[u8]) -> bool {
        std::iter::once(&self.primary).chain(&self.other).any(|key| {
            let whole = hmac::sign(&key.of_beacons(), beacon);
            aws_lc_rs::constant_time::verify_slices_are_equal(&whole.as_ref()[..MAC_LEN], mac)
                .is_ok()
        })
    }
}

// === impl Sealer ===

impl Sealer {
    /// Seals as `me`, in the run with this boot epoch.
    ///
    /// # Preconditions
    /// No earlier run of this node had this epoch or a later one.
    pub(super) fn new(me: Tag, epoch: u32, keys: &Keyring) -> Self {
        let key = keys.primary.of_sender(me);
        Self { me, key_id: keys.primary.id, key, counter: first_counter(epoch) }
    }

    /// Seals with the primary key of these from now on; the counter runs on.
    pub(super) fn set_keys(&mut self, keys: &Keyring) {
        self.key_id = keys.primary.id;
        self.key = keys.primary.of_sender(self.me);
    }

    /// Goes on in a later epoch.
    pub(super) fn advance_to(&mut self, epoch: u32) {
        self.counter = self.counter.max(first_counter(epoch));
    }

    /// The datagram that carries `frame`, given in parts, to `receiver` alone.
    pub(super) fn seal(&mut self, receiver: Tag, frame: [&[u8]; 2]) -> Vec<u8> {
        let length = frame[0].len() + frame[1].len();
        let counter = self.counter;
        self.counter += 1;
        let mut datagram = Vec::with_capacity(length + SEAL_OVERHEAD);
        datagram.push(self.key_id);
        datagram.extend_from_slice(self.me.as_bytes());
        datagram.extend_from_slice(&counter.to_be_bytes());
        let aad = aad(&datagram, receiver);
        datagram.extend_from_slice(frame[0]);
        datagram.extend_from_slice(frame[1]);
        let tag = self.key.seal_in_place_separate_tag(nonce(counter), aad, &mut datagram[HEADER..]);
        // GCM-SIV seals up to 2^36 bytes (RFC 8452 section 6); a datagram has less than 2^16.
        datagram.extend_from_slice(tag.expect("a datagram is shorter than AEAD's limit").as_ref());
        datagram
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({}, key {}, counter {:x})", self.me, self.key_id, self.counter)
    }
}

// === impl Opener ===

impl Opener {
    /// Opens a datagram to `me` in place. Nothing is taken from before the epoch in which its sender is known
    /// to live, so that nothing recorded in an earlier run of it is taken by who was not there then.
    pub(super) fn open<'a>(
        &mut self,
        keys: &Keyring,
        me: Tag,
        lives_in: impl FnOnce(Tag) -> Option<u32>,
        datagram: &'a mut [u8],
    ) -> Result<Opened<'a>, SealError> {
        let Some((header, sealed)) = datagram.split_at_mut_checked(HEADER) else {
            return Err(SealError::Forged);
        };
        let key = keys.find(header[0]).ok_or(SealError::Forged)?;
        let mut sender = [0; 8];
        sender.copy_from_slice(&header[1..9]);
        let sender = Tag::from_bytes(sender);
        let mut counter = [0; 8];
        counter.copy_from_slice(&header[9..]);
        let counter = u64::from_be_bytes(counter);
        let frame = key
            .of_sender(sender)
            .open_in_place(nonce(counter), aad(header, me), sealed)
            .map_err(|_| SealError::Forged)?;
        // Only now: a forged datagram must not move the window of the node it pretends to be.
        let window = self.seen.entry(sender).or_default();
        window.expect_epoch(lives_in(sender).unwrap_or_default());
        if window.take(counter) {
            return Ok(Opened { sender, frame });
        }
        let newest = epoch_of(window.newest);
        let newer_epoch = (epoch_of(counter) < newest).then_some(newest);
        Err(SealError::Replayed { sender, newer_epoch })
    }

    /// Takes nothing from before this epoch of `sender`, also if it is not known any more when it lives.
    pub(super) fn expect_epoch(&mut self, sender: Tag, epoch: u32) {
        self.seen.entry(sender).or_default().expect_epoch(epoch);
    }

    /// Forgets a sender that is no member any more.
    pub(super) fn forget(&mut self, sender: Tag) {
        self.seen.remove(&sender);
    }
}

// === impl Window ===

impl Window {
    /// Takes nothing from before this epoch.
    const fn expect_epoch(&mut self, epoch: u32) {
        let first = first_counter(epoch);
        if self.newest < first {
            *self = Self { newest: first, taken: 0 };
        }
    }

    /// Whether this counter is new; it is not the next time.
    fn take(&mut self, counter: u64) -> bool {
        if counter > self.newest {
            let ahead = counter - self.newest;
            self.taken = if ahead < WINDOW { self.taken << ahead } else { 0 };
            self.newest = counter;
        }
        let behind = self.newest - counter;
        if behind >= WINDOW || self.taken & (1 << behind) != 0 {
            return false;
        }
        self.taken |= 1 << behind;
        true
    }
}

const fn first_counter(epoch: u32) -> u64 {
    (epoch as u64) << 32
}

const fn epoch_of(counter: u64) -> u32 {
    (counter >> 32) as u32
}

/// A counter is used once per sender's key, and so is the nonce made of it.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated and not encrypted: the header, and to whom it goes.
fn aad(header: &[u8], receiver: Tag) -> Aad<[u8; HEADER + 8]> {
    let mut bound = [0; HEADER + 8];
    bound[..HEADER].copy_from_slice(header);
    bound[HEADER..].copy_from_slice(receiver.as_bytes());
    Aad::from(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Tag = Tag::from_bytes([0xa; 8]);
    const B: Tag = Tag::from_bytes([0xb; 8]);

    fn key(id: u8) -> GossipKey {
        GossipKey::new(id, &[id; 32])
    }

    fn open(opener: &mut Opener, keys: &Keyring, datagram: &[u8]) -> Result<Vec<u8>, SealError> {
        opener.open(keys, B, |_| None, &mut datagram.to_vec()).map(|opened| {
            assert_eq!(opened.sender, A);
            opened.frame.to_vec()
        })
    }

    #[test]
    fn what_is_sealed_for_a_node_it_opens_once() {
        let keys = Keyring::new(key(1), None);
        let (mut sealer, mut opener) = (Sealer::new(A, 5, &keys), Opener::default());
        let datagram = sealer.seal(B, [b"hel", b"lo"]);
        assert_eq!(datagram.len(), 5 + SEAL_OVERHEAD);
        assert_eq!(open(&mut opener, &keys, &datagram).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(
            open(&mut opener, &keys, &datagram),
            Err(SealError::Replayed { sender: A, newer_epoch: None })
        );
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let keys = Keyring::new(key(1), Some(key(2)));
        let mut sealer = Sealer::new(A, 5, &keys);
        let datagram = sealer.seal(B, [b"hello", b""]);
        for bit in 0..datagram.len() * 8 {
            let mut garbled = datagram.clone();
            garbled[bit / 8] ^= 1 << (bit % 8);
            let mut opener = Opener::default();
            assert_eq!(open(&mut opener, &keys, &garbled), Err(SealError::Forged), "bit {bit}");
            assert!(opener.seen.is_empty(), "a forged datagram leaves a trace");
        }
        for length in 0..datagram.len() {
            let cut = open(&mut Opener::default(), &keys, &datagram[..length]);
            assert_eq!(cut, Err(SealError::Forged), "{length} bytes");
        }
    }

    #[test]
    fn a_datagram_to_one_node_is_no_use_at_another() {
        let keys = Keyring::new(key(1), None);
        let datagram = Sealer::new(A, 5, &keys).seal(A, [b"hello", b""]);
        assert_eq!(open(&mut Opener::default(), &keys, &datagram), Err(SealError::Forged));
    }

    #[test]
    fn reordering_is_taken_within_the_window_and_only_once() {
        let keys = Keyring::new(key(1), None);
        let (mut sealer, mut opener) = (Sealer::new(A, 5, &keys), Opener::default());
        let datagrams: Vec<_> = (0..100).map(|_| sealer.seal(B, [b"x", b""])).collect();
        for (n, expected) in
            [(99, true), (36, true), (35, false), (99, false), (98, true), (36, false)]
        {
            assert_eq!(open(&mut opener, &keys, &datagrams[n]).is_ok(), expected, "{n}");
        }
    }

    #[test]
    fn an_older_run_is_not_taken_and_the_newer_epoch_is_named() {
        let keys = Keyring::new(key(1), None);
        let old = Sealer::new(A, 5, &keys).seal(B, [b"old", b""]);
        let new = Sealer::new(A, 6, &keys).seal(B, [b"new", b""]);
        let refused = Err(SealError::Replayed { sender: A, newer_epoch: Some(6) });
        let mut opener = Opener::default();
        assert!(open(&mut opener, &keys, &new).is_ok());
        assert_eq!(open(&mut opener, &keys, &old), refused);
        // Also when the newer run is only known from hearsay, or was known once.
        let mut opener = Opener::default();
        let heard = opener.open(&keys, B, |_| Some(6), &mut old.clone()).map(|_| ());
        assert_eq!(heard, refused.clone().map(|_| ()));
        let mut opener = Opener::default();
        opener.expect_epoch(A, 6);
        assert_eq!(open(&mut opener, &keys, &old), refused);
        assert!(open(&mut opener, &keys, &new).is_ok());
    }

    #[test]
    fn keys_rotate_without_a_gap() {
        let (old, both) = (Keyring::new(key(1), None), Keyring::new(key(1), Some(key(2))));
        let (turned, new) = (Keyring::new(key(2), Some(key(1))), Keyring::new(key(2), None));
        let mut sealer = Sealer::new(A, 5, &old);
        let mut opener = Opener::default();
        for (mine, theirs) in [(&old, &both), (&both, &turned), (&turned, &both), (&new, &turned)] {
            sealer.set_keys(mine);
            assert!(open(&mut opener, theirs, &sealer.seal(B, [b"x", b""])).is_ok());
        }
        sealer.set_keys(&old);
        let refused = open(&mut opener, &new, &sealer.seal(B, [b"x", b""]));
        assert_eq!(refused, Err(SealError::Forged));
    }
}
