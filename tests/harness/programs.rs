//! Where the programs under test and the foreign test programs lie.

use std::path::PathBuf;
use std::process::Command;

/// A program of the project (`mfs`, `mfsd`, `mfs-fuse`), built in the same profile as the tests.
///
/// # Panics
/// If it is not built: cargo builds a test's own package alone.
pub fn binary(name: &str) -> PathBuf {
    let mut directory = std::env::current_exe().expect("a test knows its own path");
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make test`, or `cargo build` first",
        path.display()
    );
    path
}

/// A foreign test program (`pjdfstest`, `fsx`) that `scripts/tools` installed.
///
/// # Panics
/// If it is not installed: a suite that cannot run has failed.
pub fn tool(name: &str) -> PathBuf {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin");
    let directory =
        std::env::var_os("MFS_TOOLS").map_or_else(|| PathBuf::from(installed), PathBuf::from);
    let path = directory.join(name);
    assert!(path.exists(), "{} is not installed: run scripts/tools", path.display());
    path
}

/// Lets a laboratory find the CRIU that `scripts/criu` unpacked for the tests, if it did: where the machine has a
/// good one, that is used.
pub fn with_criu(command: &mut Command) {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/criu/criu");
    if std::env::var_os("MFS_CRIU").is_none()
        && let Ok(unpacked) = PathBuf::from(unpacked).canonicalize()
    {
        command.env("MFS_CRIU", unpacked);
    }
}
