//! What a process says of itself: log lines for people ([`log`]), figures for programs ([`metrics`]).
//!
//! Every metric is declared once, in [`metrics`], with name, unit, meaning and stability; docs/METRICS.md
//! is made from those declarations. This module knows neither sockets nor who asks for the figures.

pub mod instruments;
pub mod log;
pub mod metrics;
mod snapshot;

pub use snapshot::{Snapshot, Value};
