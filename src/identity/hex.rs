//! Hexadecimal and base32 text of bytes.

/// Lower-case hexadecimal digits.
pub(super) fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hexadecimal digits; `None` unless there are exactly `N` pairs of them.
pub(super) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (place, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The alphabet of RFC 4648 section 6.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Base32 without padding (RFC 4648): what people can read out over a telephone.
pub(super) fn encode_base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut pending, mut bits) = (0_u32, 0);
    for byte in bytes {
        pending = pending << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(pending >> bits & 31) as usize]));
        }
        pending &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(pending << (5 - bits) & 31) as usize]));
    }
    text
}

/// The bytes of a base32 text, upper or lower case; `None` unless it is the one text of `N` bytes.
pub(super) fn decode_base32<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut places = bytes.iter_mut();
    let (mut pending, mut bits) = (0_u32, 0);
    for letter in text.bytes() {
        let upper = letter.to_ascii_uppercase();
        let value = ALPHABET.iter().position(|known| *known == upper)?;
        pending = pending << 5 | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *places.next()? = u8::try_from(pending >> bits & 0xff).ok()?;
        }
        pending &= (1 << bits) - 1;
    }
    // Left-over bits other than zero, or too few letters, are not what `encode_base32` writes.
    (places.next().is_none() && bits < 5 && pending == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in
            [(&b"f"[..], "MY"), (b"fo", "MZXQ"), (b"foo", "MZXW6"), (b"foobar", "MZXW6YTBOI")]
        {
            assert_eq!(encode_base32(bytes), text);
        }
        assert_eq!(decode_base32::<6>("MZXW6YTBOI"), Some(*b"foobar"));
        assert_eq!(decode_base32::<6>("mzxw6ytboi"), Some(*b"foobar"));
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["", "MZXW6YTBO", "MZXW6YTBOIA", "MZXW6YTBOJ", "MZXW6YTBO1", "MZXW6YTBÖ"] {
            assert_eq!(decode_base32::<6>(wrong), None, "{wrong:?}");
        }
        for wrong in ["", "0", "zz", "000000", "+0"] {
            assert_eq!(decode::<2>(wrong), None, "{wrong:?}");
        }
        assert_eq!(decode::<2>("a5Ff"), Some([0xa5, 0xff]));
    }

    #[test]
    fn every_length_survives() {
        let bytes: [u8; 32] = std::array::from_fn(|i| (i * 37 + 200) as u8);
        assert_eq!(decode_base32::<32>(&encode_base32(&bytes)), Some(bytes));
        assert_eq!(decode_base32::<16>(&encode_base32(&bytes[..16])), bytes[..16].try_into().ok());
        assert_eq!(decode::<32>(&encode(&bytes)), Some(bytes));
    }
}
