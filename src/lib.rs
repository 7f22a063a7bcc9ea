//! What the server and the mount of mfs share.
//!
//! Modules from the lowest layer up; one may use those above it in this list, never below
//! (ARCHITECTURE.md; `tests/tidy` holds it).

pub mod types;

pub mod clock;
pub mod sync;

pub mod failpoint;

pub mod telemetry;

pub mod config;

pub mod membership;

pub mod load;

pub mod identity;

pub mod lease;

pub mod jobs;

pub mod wire;

pub mod net;

pub mod export;

pub mod client;
