//! Who gets in and who does not: real daemons on loopback, honest clients and hostile ones.
//!
//! Each claim of docs/SECURITY.md names its test here or beside the code.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod daemon;
mod files;
mod joining;
mod local;
mod plaintext;
mod removal;
mod renewal;
mod strangers;
mod supervised;
