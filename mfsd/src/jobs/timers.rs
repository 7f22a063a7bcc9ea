//! Periodic timers in images. A timer (timerfd_create(2)) that has expired and was not read yet is dumped with
//! nothing left until it expires, and CRIU restores it disarmed: the program would wait for ever
//! (checkpoint-restore/criu issue 3162). Such a timer is given a nanosecond.
//!
//! What is changed is `files.img`: two words, then messages of protocol buffers, each behind its length (4
//! bytes, little-endian). Only the fields that matter are known here; all else is left as it is. A field that is
//! written twice has the last value.

use std::path::Path;
use std::{fs, io};

/// The image of all open files.
const FILE: &str = "files.img";

/// The two words that every image begins with.
const HEAD: usize = 8;

/// In `file_entry` (CRIU's images/fdinfo.proto): the timer.
const TIMER: u64 = 12;

/// In `timerfd_entry` (images/timerfd.proto): what is left until it expires, and its interval.
const SECONDS_LEFT: u64 = 7;
const NANOSECONDS_LEFT: u64 = 8;
const INTERVAL: [u64; 2] = [9, 10];

/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// Mends the timers in images.
///
/// # Errors
/// The image cannot be read or written, or is none.
pub(super) fn mend(images: &Path) -> io::Result<()> {
    let path = images.join(FILE);
    let image = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        image => image?,
    };
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "files.img is not as it should be");
    match mended(&image).ok_or_else(strange)? {
        Some(mended) => fs::write(path, mended),
        None => Ok(()),
    }
}

/// The same image with its timers mended; `Some(None)`: nothing needs to be. `None`: it is no image.
fn mended(image: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut out = image.get(..HEAD)?.to_vec();
    let mut rest = &image[HEAD..];
    let mut is_changed = false;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let entry = after.get(..length)?;
        rest = &after[length..];
        let changed = mended_entry(entry)?;
        is_changed |= changed.is_some();
        let entry = changed.as_deref().unwrap_or(entry);
        out.extend(u32::try_from(entry.len()).ok()?.to_le_bytes());
        out.extend(entry);
    }
    Some(is_changed.then_some(out))
}

fn mended_entry(entry: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut changed = None;
    for field in fields(entry) {
        let Field { number, value, .. } = field?;
        if number != TIMER {
            continue;
        }
        let Value::Bytes(timer) = value else { return None };
        if is_lost(timer)? {
            let mut timer = timer.to_vec();
            put_varint(&mut timer, NANOSECONDS_LEFT << 3 | VARINT);
            put_varint(&mut timer, 1);
            let mut entry = without(entry, TIMER)?;
            put_varint(&mut entry, TIMER << 3 | BYTES);
            put_varint(&mut entry, timer.len() as u64);
            entry.extend(timer);
            changed = Some(entry);
        }
    }
    Some(changed)
}

/// Whether nothing is left until a periodic timer expires.
fn is_lost(timer: &[u8]) -> Option<bool> {
    let (mut left, mut interval) = (0, 0);
    for field in fields(timer) {
        let Field { number, value, .. } = field?;
        if let Value::Number(value) = value {
            match number {
                SECONDS_LEFT | NANOSECONDS_LEFT => left |= value,
                _ if INTERVAL.contains(&number) => interval |= value,
                _ => {}
            }
        }
    }
    Some(left == 0 && interval != 0)
}

/// A message without all fields of that number.
fn without(message: &[u8], number: u64) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len());
    for field in fields(message) {
        let field = field?;
        if field.number != number {
            out.extend(field.whole);
        }
    }
    Some(out)
}

struct Field<'a> {
    number: u64,
    value: Value<'a>,
    whole: &'a [u8],
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message; `None` once, where it is none.
fn fields(message: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    let mut rest = Some(message);
    std::iter::from_fn(move || {
        let message = rest.filter(|rest| !rest.is_empty())?;
        let field = field(message);
        rest = field.as_ref().map(|field| &message[field.whole.len()..]);
        Some(field)
    })
}

fn field(message: &[u8]) -> Option<Field<'_>> {
    let mut rest = message;
    let key = take_varint(&mut rest)?;
    let value = match key & 7 {
        VARINT => Value::Number(take_varint(&mut rest)?),
        BYTES => {
            let length = usize::try_from(take_varint(&mut rest)?).ok()?;
            let bytes = rest.get(..length)?;
            rest = &rest[length..];
            Value::Bytes(bytes)
        }
        1 | 5 => {
            rest = rest.get(if key & 7 == 1 { 8 } else { 4 }..)?;
            Value::Fixed
        }
        _ => return None,
    };
    let whole = &message[..message.len() - rest.len()];
    Some(Field { number: key >> 3, value, whole })
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(fields: &[(u64, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value) in fields {
            put_varint(&mut out, number << 3 | VARINT);
            put_varint(&mut out, *value);
        }
        out
    }

    fn image(timers: &[&[(u64, u64)]]) -> Vec<u8> {
        let mut out = vec![1; HEAD];
        for timer in timers {
            let timer = message(timer);
            let mut entry = message(&[(1, 17), (2, 300)]);
            put_varint(&mut entry, TIMER << 3 | BYTES);
            put_varint(&mut entry, timer.len() as u64);
            entry.extend(timer);
            out.extend((entry.len() as u32).to_le_bytes());
            out.extend(entry);
        }
        out
    }

    const LOST: &[(u64, u64)] = &[(1, 5), (7, 0), (8, 0), (9, 0), (10, 100_000_000)];
    const MENDED: &[(u64, u64)] = &[(1, 5), (7, 0), (8, 0), (9, 0), (10, 100_000_000), (8, 1)];
    const RUNS: &[(u64, u64)] = &[(1, 6), (7, 0), (8, 17), (9, 1), (10, 0)];
    const ONCE: &[(u64, u64)] = &[(1, 7), (7, 0), (8, 0), (9, 0), (10, 0)];

    #[test]
    fn only_lost_timers_are_changed() {
        assert_eq!(mended(&image(&[RUNS, ONCE])), Some(None));
        assert_eq!(mended(&image(&[RUNS, LOST, ONCE])), Some(Some(image(&[RUNS, MENDED, ONCE]))));
        assert_eq!(mended(&[]), None);
        assert_eq!(mended(&[0; 11]), None);
    }

    proptest! {
        #[test]
        fn no_image_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = mended(&bytes);
        }
    }
}
