//! A mapping of a file, for tests of shared and private mappings.

mod sys;

pub(crate) use sys::Map;
