//! The daemon of a node.
fn main() {}
