//! What became of a case, beside the committed list of those that do not pass yet.
//!
//! `expected.txt` names a case and, after `#`, why it fails. A failure that is not in the list, and a case of
//! the list that passes, are both failures. A name with ` ?` behind it is that of a race which is lost seldom:
//! it may do either.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The cases that do not pass yet, with the reasons.
#[derive(Debug)]
pub(super) struct Expected(BTreeMap<&'static str, &'static str>);

thread_local! {
    /// What this thread panicked with last.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics silent until somebody asks: many are expected.
pub(super) fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| {
        SAID.with(|said| *said.borrow_mut() = panic.to_string());
    }));
}

/// Runs something; what it panicked with, if it did.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| SAID.with(|said| said.take()))
}

/// Goes on with a panic of another thread.
#[track_caller]
pub(super) fn fine<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|said| panic!("{said}"))
}

// === impl Expected ===

impl Expected {
    /// The committed list.
    pub(super) fn read() -> Self {
        let lines = include_str!("expected.txt").lines().map(str::trim);
        let entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
            let (name, reason) = line.split_once('#').expect("each line has its reason after #");
            (name.trim(), reason.trim())
        });
        Self(entries.collect())
    }

    /// Names of the list that are names of no case.
    pub(super) fn unknown(&self, cases: &[String]) -> Vec<&'static str> {
        let known = |name: &str| cases.iter().any(|case| case == name.trim_end_matches(" ?"));
        self.0.keys().filter(|name| !known(name)).copied().collect()
    }

    /// Compares what became of a case with the list.
    pub(super) fn judge(&self, case: &str, result: Result<(), String>) -> Result<(), String> {
        if self.0.contains_key(format!("{case} ?").as_str()) {
            return Ok(());
        }
        match (self.0.get(case), result) {
            (Some(reason), Ok(())) => {
                Err(format!("passes now, take it off expected.txt: {case} # {reason}"))
            }
            (Some(_), Err(_)) => Ok(()),
            (None, result) => result,
        }
    }
}
