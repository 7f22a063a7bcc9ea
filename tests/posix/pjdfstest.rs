//! Runs pjdfstest, and compares what fails with the committed list of this kind of mount.
//!
//! The lists are `pjdfstest.KIND.txt`: a test's name and, after `#`, why it fails. A failure that is not in
//! the list, and a test of the list that passes, both fail this case.

use std::collections::BTreeMap;

use mfs_tests::tool;

use super::place::{Case, Kind, Place};

pub(super) const CASES: &[(&str, Case)] = &[("fails_as_listed", fails_as_listed)];

/// Tests in the suite; fewer would mean that something was left out.
const TESTS: usize = 398;

/// A mirror of a local directory through FUSE fails 31 of them; mfs stays below.
const MOST_FAILURES: usize = 30;

fn list(kind: Kind) -> BTreeMap<&'static str, &'static str> {
    let text = match kind {
        Kind::Remote => include_str!("pjdfstest.remote.txt"),
        Kind::Direct => include_str!("pjdfstest.direct.txt"),
        Kind::Served => include_str!("pjdfstest.served.txt"),
    };
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.split_once('#').expect("each line has its reason after #");
            (name.trim(), reason.trim())
        })
        .collect()
}

fn fails_as_listed(place: &Place<'_>) {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/posix/pjdfstest.toml");
    // Inside the node, so that its processes are callers like any other.
    let output = place
        .here()
        .command(tool("pjdfstest"))
        .args(["-c", config, "-p", &place.inside, "-s", "/tmp"])
        .output()
        .expect("pjdfstest starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let verdicts: BTreeMap<_, _> = said
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, verdict) = (words.next()?, words.next()?);
            let known = matches!(verdict, "ok" | "FAILED" | "skipped") && words.next().is_none();
            (known && name.contains("::")).then_some((name, verdict))
        })
        .collect();
    assert_eq!(
        verdicts.len(),
        TESTS,
        "not all tests ran: {said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = list(place.kind);
    assert!(listed.len() <= MOST_FAILURES, "{} failures are listed", listed.len());
    let mut wrong = Vec::new();
    for (name, verdict) in &verdicts {
        match (*verdict, listed.contains_key(name)) {
            ("FAILED", false) => wrong.push(format!("fails: {name}")),
            ("ok", true) => wrong.push(format!("passes now, take it off the list: {name}")),
            _ => {}
        }
    }
    for name in listed.keys().filter(|name| !verdicts.contains_key(*name)) {
        wrong.push(format!("is in the list but not in the suite: {name}"));
    }
    let details = said.split("\nSummary").next().unwrap_or_default();
    assert!(wrong.is_empty(), "{}\n\n{details}", wrong.join("\n"));
}
