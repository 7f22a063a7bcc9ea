//! The commands that run programs on the nodes of the cluster, show them, and end them.

mod along;
mod clear;
mod input;
mod kill;
mod migrate;
mod place;
mod ps;
mod rows;
mod run;
mod screen;
mod sys;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;
use mfs::net::local::LocalClient;
use mfs_proto::v1::local_jobs_client::LocalJobsClient;
use tonic::transport::Channel;

use crate::cluster::{Daemon, block_on};

/// The commands of this module.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program on the best node, or a named one; it sees the file tree of this one
    Run(run::Args),
    /// Show the jobs of the cluster
    Ps(ps::Args),
    /// Send a signal to a job
    Kill(kill::Args),
    /// Wait for the end of jobs
    Wait(wait::Args),
    /// Move a running job to another node
    Migrate(migrate::Args),
    /// Send the jobs of other nodes that run on this one away
    Expel(clear::ExpelArgs),
    /// Bring the jobs of this node that run elsewhere home
    Bring(clear::BringArgs),
}

/// Runs one of them.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => block_on(run::run(args)),
        Command::Ps(args) => block_on(ps::run(args)),
        Command::Kill(args) => block_on(kill::run(args)),
        Command::Wait(args) => block_on(wait::run(args)),
        Command::Migrate(args) => block_on(migrate::run(args)),
        Command::Expel(args) => block_on(clear::expel(args)),
        Command::Bring(args) => block_on(clear::bring(args)),
    }
}

/// Connects to the daemon of this machine.
async fn connect(daemon: &Daemon) -> anyhow::Result<LocalJobsClient<Channel>> {
    Ok(LocalClient::connect(daemon.runtime()).await?.jobs())
}
