//! The wire: what survives it, what is refused, and that no change of it goes unseen.

#![allow(clippy::expect_used, clippy::panic)]

mod descriptor;
mod document;
mod hostile;
mod refused;
mod round_trip;
mod values;
