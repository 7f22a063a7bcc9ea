//! The form of CRIU's images, as far as it matters here: two words, then messages of protocol buffers, each
//! behind its length (4 bytes, little-endian). Only fields that are asked for are known; all else is left as it is.

/// The two words that every image begins with, bytes.
pub(super) const HEAD: usize = 8;

/// Wire types of protocol buffers.
pub(super) const VARINT: u64 = 0;
pub(super) const BYTES: u64 = 2;

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
    /// All of it, its number included.
    pub(super) whole: &'a [u8],
}

/// What it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The messages of an image; `None` once, where it is none.
pub(super) fn entries(image: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(image.get(HEAD..));
    std::iter::from_fn(move || {
        let Some(left) = rest? else {
            rest = None;
            return Some(None);
        };
        if left.is_empty() {
            return None;
        }
        let entry = left.split_first_chunk::<4>().and_then(|(length, after)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            after.split_at_checked(length)
        });
        rest = entry.map(|(_, after)| Some(after));
        Some(entry.map(|(entry, _)| entry))
    })
}

/// The fields of a message; `None` once, where it is none.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
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

/// Appends a number.
pub(super) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Appends a field that holds a number.
pub(super) fn put_number(to: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(to, number << 3 | VARINT);
    put_varint(to, value);
}

/// Appends a field that holds bytes, or a message.
pub(super) fn put_bytes(to: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_varint(to, number << 3 | BYTES);
    put_varint(to, value.len() as u64);
    to.extend(value);
}

/// Appends a message to an image.
pub(super) fn put_entry(to: &mut Vec<u8>, entry: &[u8]) {
    to.extend((entry.len() as u32).to_le_bytes());
    to.extend(entry);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Vec::new();
        put_number(&mut inner, 5, 1 << 63);
        let mut entry = Vec::new();
        put_number(&mut entry, 300, 7);
        put_bytes(&mut entry, 2, &inner);
        let mut image = vec![0; HEAD];
        put_entry(&mut image, &entry);
        put_entry(&mut image, &[]);
        let read: Vec<_> = entries(&image).collect();
        assert_eq!(read, [Some(&entry[..]), Some(&[][..])]);
        let read: Vec<_> = fields(&entry).map(|field| field.unwrap()).collect();
        assert_eq!((read[0].number, read[0].value), (300, Value::Number(7)));
        assert_eq!((read[1].number, read[1].value), (2, Value::Bytes(&inner)));
        assert_eq!(fields(&inner).next().unwrap().unwrap().value, Value::Number(1 << 63));
        assert_eq!(entries(&[1, 2]).collect::<Vec<_>>(), [None]);
        assert_eq!(entries(&image[..HEAD + 2]).collect::<Vec<_>>(), [None]);
    }

    proptest! {
        #[test]
        fn no_image_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for entry in entries(&bytes).flatten() {
                fields(entry).count();
            }
        }
    }
}
