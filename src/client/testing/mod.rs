//! What the tests of the client share: a model server, and a network of such servers in memory.

pub(crate) mod network;
pub(crate) mod server;
