//! The daemon of a node.

mod cluster;
mod peer;
mod rpc;

fn main() {}
