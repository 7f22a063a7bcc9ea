//! Runs fsx: random reads, writes, truncations, mappings, holes and copies, each read compared.

use std::process::Command;

use mfs_tests::tool;

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] =
    &[("three_seeds", three_seeds), ("from_both_sides", from_both_sides)];

/// Operations of one run.
const OPERATIONS: &str = "2500";

fn run(place: &Place<'_>, seed: u32, name: &str) {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/posix/fsx.toml");
    let output = Command::new(tool("fsx"))
        .args(["-f", config, "-N", OPERATIONS, "-S", &seed.to_string(), "-P", "/tmp"])
        .arg(place.at(name))
        .output()
        .expect("fsx starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<_> = said.lines().rev().take(40).collect();
    assert!(
        output.status.success(),
        "seed {seed}: {}",
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
}

fn three_seeds(place: &Place<'_>) {
    for seed in [1, 20, 300] {
        run(place, seed, &format!("f{seed}"));
    }
}

/// The file that fsx left is read at home, byte for byte as through the mount.
fn from_both_sides(place: &Place<'_>) {
    run(place, 4711, "f");
    assert_eq!(std::fs::read(place.at("f")).unwrap(), std::fs::read(place.at_home("f")).unwrap());
}
