//! The export against a real directory, and against those who try to get out of it.
//!
//! Needs root: it takes on other identities, opens file handles, and mounts in namespaces of its own.
//! Without it every test fails.

#![allow(clippy::unwrap_used)] // a suite of tests, helpers included

mod abilities;
mod attributes;
mod data;
mod differential;
mod escape;
mod identity;
mod lab;
mod listing;
mod locks;
mod mounts;
mod oracle;
mod reopened;
mod sys;
