//! The configuration of mfsd: the file as typed (`raw`), and the configuration as proven (`checked`). Inner code
//! sees only the latter.
//!
//! Every error names the file, the line, and what to write instead. Nothing here reads anything else
//! than the file it is given.

pub mod accounts;
mod checked;
pub mod paths;
mod raw;

pub use checked::{Config, ConfigError, ExportConfig, PeerConfig, Squash, Transport};
