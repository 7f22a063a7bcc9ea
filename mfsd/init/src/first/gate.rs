//! The gate: holds a restored job before its first step until the daemon lets it go (CRIU's action scripts,
//! criu(8)).
//!
//! CRIU calls this program for each step of restoring; only the last one before the job runs is of interest.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Names the step; set by CRIU.
pub(super) const ACTION: &str = "CRTOOLS_SCRIPT_ACTION";

/// Where the images are; set by CRIU.
pub(super) const IMAGES: &str = "CRTOOLS_IMAGE_DIR";

/// A job that is restored and has not run yet.
const RESTORED: &str = "post-restore";

/// What the keeper writes to let it go, and to have it ended.
pub(super) const GO: u8 = b'g';
pub(super) const STAY: u8 = b's';

/// The pipe on which the gate says that the job is there, and that on which it hears that it may go.
pub(super) fn pipes(images: &Path) -> [PathBuf; 2] {
    [images.join("gate-restored"), images.join("gate-go")]
}

/// Waits at the gate, if the step is the one to wait at; a failure has CRIU end what it has restored.
pub(super) fn pass(step: &OsStr, images: &Path) -> ExitCode {
    if step != RESTORED {
        return ExitCode::SUCCESS;
    }
    let [restored, go] = pipes(images);
    let waited = || -> std::io::Result<u8> {
        File::options().write(true).open(restored)?.write_all(&[GO])?;
        let mut heard = [0];
        // The end of it is the keeper's.
        File::open(go)?.read_exact(&mut heard)?;
        Ok(heard[0])
    };
    if waited().is_ok_and(|heard| heard == GO) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
