//! Commands that form a cluster and show it.

use std::process::ExitCode;

use clap::Subcommand;

/// The commands of this module.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the nodes of the cluster
    Nodes,
}

/// Runs one of them.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Nodes => anyhow::bail!("mfsd is not running: systemctl start mfsd"),
    }
}
