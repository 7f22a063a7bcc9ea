//! A plain gRPC client against a real mfsd: nothing of ours is used but the definitions of the protocol.
//! What works here works for any gRPC client in any language.

#![allow(clippy::expect_used, clippy::panic)]

mod daemon;
mod files;
