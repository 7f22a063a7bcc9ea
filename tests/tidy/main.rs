//! House rules that no compiler checks (CONTRIBUTING.md says why each exists).
//!
//! Each test names every offender with its place, so that one run shows all there is to mend.

mod documents;
mod source;
mod structure;
mod words;
