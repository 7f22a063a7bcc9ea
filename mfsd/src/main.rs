//! The daemon of a node.

mod peer;
mod rpc;

fn main() {}
