//! mfs-init, run as the daemon runs it (as root): what a job sees, who it is, and how it ends.
//!
//! Each test has a mount namespace of its own, and checks that nothing is left when its job has ended.

#![allow(clippy::unwrap_used)] // a suite of tests, helpers included

mod end;
mod job;
mod streams;
mod sys;
mod terminal;
mod user;
mod view;
