//! `Token`: what lets a machine join once: the digest of the authority and a secret.
//!
//! `MFS1-<base32 of SHA-256 of the authority's public key>-<base32 of 128 random bits>`

use std::fmt;
use std::str::FromStr;

use super::secret::random;
use super::{Digest, IdentityError, hex};

/// A join token. `Display` writes the secret: only for the person who is to have it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    authority: Digest,
    secret: [u8; 16],
}

/// A text is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a join token: it reads MFS1-...-... and is printed by `mfs init` and `mfs token create` (copy it whole, without line breaks)"
)]
pub struct TokenError;

const PREFIX: &str = "MFS1-";

// === impl Token ===

impl Token {
    /// A new token for the cluster of this authority.
    pub fn generate(authority: Digest) -> Result<Self, IdentityError> {
        Ok(Self { authority, secret: random()? })
    }

    /// Digest of the authority's public key: whom to send the secret to.
    pub const fn authority(&self) -> Digest {
        self.authority
    }

    /// The secret, as it is sent to the authority once its certificate is checked.
    pub const fn secret(&self) -> &[u8; 16] {
        &self.secret
    }

    /// What the authority keeps of a secret.
    pub fn digest_of_secret(secret: &[u8]) -> Digest {
        Digest::of(secret)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = hex::encode_base32(self.authority.as_bytes());
        write!(f, "{PREFIX}{authority}-{}", hex::encode_base32(&self.secret))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.authority)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let head = text.get(..PREFIX.len()).filter(|head| head.eq_ignore_ascii_case(PREFIX));
        let rest = head.and_then(|_| text.get(PREFIX.len()..)).ok_or(TokenError)?;
        let (authority, secret) = rest.split_once('-').ok_or(TokenError)?;
        Ok(Self {
            authority: hex::decode_base32(authority).map(Digest::from_bytes).ok_or(TokenError)?,
            secret: hex::decode_base32(secret).ok_or(TokenError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_copied() {
        let token = Token::generate(Digest::of(b"authority")).unwrap();
        let text = token.to_string();
        assert!(text.starts_with("MFS1-"), "{text}");
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {}\n", text.to_lowercase()).parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(text.rsplit('-').next().unwrap()));
    }

    #[test]
    fn other_texts_are_refused() {
        let text = Token::generate(Digest::of(b"authority")).unwrap().to_string();
        let huge = "A".repeat(1 << 20);
        for wrong in [
            "",
            "MFS1-",
            "MFS1--",
            &text[..text.len() - 1],
            &text[1..],
            &huge,
            "MFS1-ä-ö",
            "MFS2-A-B",
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError));
        }
        assert!(format!("{text}-x").parse::<Token>().is_err());
    }
}
