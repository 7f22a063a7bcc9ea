//! The session's machine against a model of a server, in orders of events that a network could bring.

mod model;
mod random;
mod renewal;
mod stories;
