//! `mfs stats`.

use std::process::ExitCode;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("mfsd is not running: systemctl start mfsd")
}
