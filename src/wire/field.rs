//! The rules of single fields: each takes the raw value and the field's name, for the refusal.

use bytes::Bytes;

use super::error::{Malformed, Problem};
use crate::types::{
    FileId, FileName, InodeNo, OpenId, OpenProof, ParkingToken, Timestamp, XattrName,
};

/// Permission bits with set-uid, set-gid and sticky.
const MODE_BITS: u32 = 0o7777;

/// Inode numbers have 63 bits (a signed 64-bit `ino_t` exists in programs).
const MAX_INO: u64 = i64::MAX as u64;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// A file id. Copied: it is kept for long, and a slice would keep the whole message with it.
pub(super) fn file(field: &'static str, bytes: &Bytes) -> Result<FileId, Malformed> {
    if bytes.is_empty() {
        return Err(Malformed::missing(field));
    }
    let too_long = Problem::TooLong { length: bytes.len(), limit: FileId::MAX_LEN };
    if bytes.len() > FileId::MAX_LEN {
        return Err(Malformed::new(field, too_long));
    }
    FileId::from_bytes(Bytes::copy_from_slice(bytes)).ok_or(Malformed::new(field, too_long))
}

/// The proof of an open; empty is none. Copied, as a file id.
pub(super) fn proof(field: &'static str, bytes: &Bytes) -> Result<Option<OpenProof>, Malformed> {
    length_at_most(field, bytes.len(), OpenProof::MAX_LEN)?;
    Ok(OpenProof::from_bytes(Bytes::copy_from_slice(bytes)))
}

/// The name of parked locks; empty is none.
pub(super) fn parked(
    field: &'static str,
    bytes: &Bytes,
) -> Result<Option<ParkingToken>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let exact: Result<[u8; 16], _> = bytes[..].try_into();
    let wrong = Problem::TooLong { length: bytes.len(), limit: 16 };
    exact.map(|token| Some(ParkingToken(token))).map_err(|_| Malformed::new(field, wrong))
}

pub(super) fn encode_parked(token: Option<ParkingToken>) -> Bytes {
    token.map_or_else(Bytes::new, |token| Bytes::copy_from_slice(&token.0))
}

pub(super) fn name(field: &'static str, bytes: Bytes) -> Result<FileName, Malformed> {
    FileName::parse(bytes).map_err(|error| Malformed::new(field, error.into()))
}

pub(super) fn xattr_name(field: &'static str, bytes: Bytes) -> Result<XattrName, Malformed> {
    XattrName::parse(bytes).map_err(|error| Malformed::new(field, error.into()))
}

pub(super) fn open(field: &'static str, number: u64) -> Result<OpenId, Malformed> {
    OpenId::new(number).ok_or(Malformed::missing(field))
}

pub(super) fn ino(field: &'static str, number: u64) -> Result<InodeNo, Malformed> {
    let ino = InodeNo::new(number).ok_or(Malformed::missing(field))?;
    at_most(field, number, MAX_INO)?;
    Ok(ino)
}

pub(super) fn mode(field: &'static str, bits: u32) -> Result<u16, Malformed> {
    match u16::try_from(bits) {
        Ok(mode) if bits & !MODE_BITS == 0 => Ok(mode),
        _ => Err(Malformed::new(field, Problem::UnknownBits)),
    }
}

/// A user or group id. The highest number is none: setfsuid(2) and chown(2) take it for "no change".
pub(super) fn user_or_group(field: &'static str, id: u32) -> Result<u32, Malformed> {
    at_most(field, u64::from(id), u64::from(u32::MAX - 1))?;
    Ok(id)
}

pub(super) fn timestamp(
    field: &'static str,
    seconds: i64,
    nanos: u32,
) -> Result<Timestamp, Malformed> {
    at_most(field, u64::from(nanos), u64::from(NANOS_PER_SECOND - 1))?;
    Ok(Timestamp { seconds, nanos })
}

pub(super) fn at_most(field: &'static str, value: u64, limit: u64) -> Result<(), Malformed> {
    if value > limit {
        return Err(Malformed::new(field, Problem::OutOfRange { value, limit }));
    }
    Ok(())
}

pub(super) fn length_at_most(
    field: &'static str,
    length: usize,
    limit: usize,
) -> Result<(), Malformed> {
    if length > limit {
        return Err(Malformed::new(field, Problem::TooLong { length, limit }));
    }
    Ok(())
}

/// Flags all of whose bits must be known: an operation done without one of them would be another one.
pub(super) fn flags<F: bitflags::Flags<Bits = u32>>(
    field: &'static str,
    bits: u32,
) -> Result<F, Malformed> {
    F::from_bits(bits).ok_or(Malformed::new(field, Problem::UnknownBits))
}
