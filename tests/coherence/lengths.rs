//! How long cases took, for who wants the suite to be short. Says nothing about the product.

use std::time::Duration;

use mfs::sync::Mutex;

/// How many are shown.
const SHOWN: usize = 12;

/// The time of all rounds of each case.
static LENGTHS: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// Notes how long a case took.
pub(super) fn note(name: &str, length: Duration) {
    LENGTHS.lock().push((length, name.to_owned()));
}

/// Prints the longest of them, and the sum.
pub(super) fn print() {
    let mut lengths = LENGTHS.lock();
    lengths.sort();
    let sum: Duration = lengths.iter().map(|(length, _)| *length).sum();
    println!(
        "{} cases took {:.1} s, some at the same time; the longest:",
        lengths.len(),
        sum.as_secs_f64()
    );
    for (length, name) in lengths.iter().rev().take(SHOWN) {
        println!("  {:6.2} s  {name}", length.as_secs_f64());
    }
}
