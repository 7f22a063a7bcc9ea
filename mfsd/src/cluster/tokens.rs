//! `Tokens`: the join tokens that can still be used. Their secrets are not kept, only digests.

use mfs::identity::{Digest, Token};
use mfs::types::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The tokens, as they are kept in `tokens.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    tokens: Vec<Stored>,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// SHA-256 of the secret.
    digest: Digest,
    /// Uses left.
    pub(crate) uses: u32,
    /// When it was made, seconds since 1970.
    pub(crate) created: u64,
    /// Until when, seconds since 1970.
    pub(crate) until: u64,
    /// Who used it: a joiner whose answer was lost may ask again with the same key.
    used_by: Vec<NodeId>,
}

/// Most tokens at a time.
const MAX_TOKENS: usize = 1_024;

/// A token that does not let anybody in. One sentence for all reasons: a stranger learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the token is not valid: it was used, it expired, it was revoked, or it is not complete. Make a \
     new one with `mfs token create`"
)]
pub(crate) struct NotValid;

/// A token that cannot be made or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TokensError {
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already: `mfs token revoke` some")]
    TooMany,
    /// None has this id.
    #[error("no such token: `mfs token list` shows those that can still be used")]
    Unknown,
}

// === impl Stored ===

impl Stored {
    /// Names the token to people; says nothing about the secret.
    pub(crate) fn id(&self) -> String {
        self.digest.to_string()[..8].to_owned()
    }

    const fn is_live(&self, now: u64) -> bool {
        self.uses > 0 && now < self.until
    }
}

// === impl Tokens ===

impl Tokens {
    /// Enters a token for `uses` uses within `seconds` from `now`.
    pub(crate) fn add(
        &mut self,
        token: &Token,
        uses: u32,
        seconds: u64,
        now: u64,
    ) -> Result<(), TokensError> {
        self.forget_dead(now);
        if self.tokens.len() >= MAX_TOKENS {
            return Err(TokensError::TooMany);
        }
        self.tokens.push(Stored {
            digest: Token::digest_of_secret(token.secret()),
            uses,
            created: now,
            until: now.saturating_add(seconds),
            used_by: Vec::new(),
        });
        Ok(())
    }

    /// Those that can still be used.
    pub(crate) fn live(&self, now: u64) -> impl Iterator<Item = &Stored> {
        self.tokens.iter().filter(move |token| token.is_live(now))
    }

    /// Whether the secret lets this node in at `now`; nothing is used up.
    pub(crate) fn check(&self, secret: &[u8], node: NodeId, now: u64) -> Result<(), NotValid> {
        let token = &self.tokens[self.find(secret).ok_or(NotValid)?];
        let again = token.used_by.contains(&node) && now < token.until;
        if again || token.is_live(now) { Ok(()) } else { Err(NotValid) }
    }

    /// Uses the token up once, unless this node has used it before.
    pub(crate) fn consume(
        &mut self,
        secret: &[u8],
        node: NodeId,
        now: u64,
    ) -> Result<(), NotValid> {
        self.check(secret, node, now)?;
        let place = self.find(secret).ok_or(NotValid)?;
        let token = &mut self.tokens[place];
        if !token.used_by.contains(&node) {
            token.uses -= 1;
            token.used_by.push(node);
        }
        Ok(())
    }

    /// Makes a token unusable, by its id or by itself.
    pub(crate) fn revoke(&mut self, text: &str, now: u64) -> Result<(), TokensError> {
        self.forget_dead(now);
        let digest = text.parse::<Token>().ok().map(|t| Token::digest_of_secret(t.secret()));
        let before = self.tokens.len();
        self.tokens.retain(|token| token.id() != text && Some(token.digest) != digest);
        if self.tokens.len() == before { Err(TokensError::Unknown) } else { Ok(()) }
    }

    /// Compares with every token, so that the time taken does not tell which one is nearly right.
    fn find(&self, secret: &[u8]) -> Option<usize> {
        let digest = Token::digest_of_secret(secret);
        self.tokens.iter().enumerate().fold(None, |found, (place, token)| {
            if token.digest.equals_in_constant_time(&digest) { Some(place) } else { found }
        })
    }

    /// Used-up tokens stay until they expire, for joiners whose answer was lost.
    fn forget_dead(&mut self, now: u64) {
        self.tokens.retain(|token| now < token.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn node(n: u8) -> NodeId {
        NodeId::from_digest([n; 32])
    }

    fn one(uses: u32) -> (Tokens, Token) {
        let mut tokens = Tokens::default();
        let token = Token::generate(Digest::of(b"ca")).expect("random numbers");
        tokens.add(&token, uses, 60, NOW).expect("there is room");
        (tokens, token)
    }

    #[test]
    fn a_token_lets_in_as_many_as_it_says_and_one_of_them_twice() {
        let (mut tokens, token) = one(2);
        let secret = token.secret();
        assert_eq!(tokens.consume(secret, node(1), NOW), Ok(()));
        assert_eq!(tokens.consume(secret, node(1), NOW), Ok(()), "its answer was lost");
        assert_eq!(tokens.consume(secret, node(2), NOW), Ok(()));
        assert_eq!(tokens.consume(secret, node(3), NOW), Err(NotValid));
        assert_eq!(tokens.consume(secret, node(2), NOW), Ok(()));
        assert_eq!(tokens.live(NOW).count(), 0);
    }

    #[test]
    fn wrong_expired_and_revoked_tokens_let_nobody_in() {
        let (mut tokens, token) = one(1);
        assert_eq!(tokens.check(&[0; 16], node(1), NOW), Err(NotValid));
        assert_eq!(tokens.check(&[], node(1), NOW), Err(NotValid));
        assert_eq!(tokens.check(token.secret(), node(1), NOW + 59), Ok(()));
        assert_eq!(tokens.check(token.secret(), node(1), NOW + 60), Err(NotValid));
        let id = tokens.live(NOW).next().unwrap().id();
        assert_eq!(tokens.revoke(&id, NOW), Ok(()));
        assert_eq!(tokens.revoke(&id, NOW), Err(TokensError::Unknown));
        assert_eq!(tokens.check(token.secret(), node(1), NOW), Err(NotValid));
        let (mut tokens, token) = one(1);
        assert_eq!(tokens.revoke(&token.to_string(), NOW), Ok(()));
        assert_eq!(tokens.check(token.secret(), node(1), NOW), Err(NotValid));
    }

    #[test]
    fn secrets_are_not_kept() {
        let (tokens, token) = one(1);
        let kept = serde_json::to_string(&tokens).unwrap();
        let text = token.to_string();
        assert!(!kept.contains(text.rsplit('-').next().unwrap()));
        let hex: String = token.secret().iter().map(|b| format!("{b:02x}")).collect();
        assert!(!kept.contains(&hex));
    }

    #[test]
    fn tokens_are_bounded_and_expired_ones_make_room() {
        let mut tokens = Tokens::default();
        for _ in 0..MAX_TOKENS {
            let token = Token::generate(Digest::of(b"ca")).unwrap();
            tokens.add(&token, 1, 60, NOW).unwrap();
        }
        let token = Token::generate(Digest::of(b"ca")).unwrap();
        assert_eq!(tokens.add(&token, 1, 60, NOW), Err(TokensError::TooMany));
        assert_eq!(tokens.add(&token, 1, 60, NOW + 60), Ok(()));
    }
}
