//! The laboratory itself: nodes that are machines of their own, commands in them, faults, and an end that
//! leaves nothing (which every [`mfs_tests::Cluster`] checks when it goes).

mod demo;
mod end;
mod exec;
mod faults;
mod nodes;
mod together;
