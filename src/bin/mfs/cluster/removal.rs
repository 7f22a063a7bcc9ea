//! `mfs node remove` and `mfs leave`: nodes that are none any more.

use std::process::ExitCode;

use clap::Subcommand;
use mfs_proto::v1;

use super::{Daemon, print, refused, warn};

/// Arguments of `mfs node`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Remove a node for good: its certificate is refused everywhere from now on
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
struct Remove {
    /// Its name, number or id
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    daemon: Daemon,
}

/// Arguments of `mfs leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct LeaveArgs {
    /// Leave even if no node that holds the authority can be told
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Runs `mfs node`.
pub(super) async fn run_node(args: NodeArgs) -> anyhow::Result<ExitCode> {
    let NodeCommand::Remove(args) = args.command;
    let mut mfsd = args.daemon.connect().await?;
    let request = v1::RemoveNodeRequest { node: args.node };
    let reply = mfsd.remove_node(request).await.map_err(refused)?.into_inner();
    let mut text = format!("{} is removed: its certificate is refused from now on.\n", reply.name);
    if !reply.unreached.is_empty() {
        text += &format!(
            "Not reached: {}; they learn of it as soon as they are back.\n",
            reply.unreached.join(", ")
        );
    }
    print(&text)
}

/// Runs `mfs leave`.
pub(super) async fn run_leave(args: LeaveArgs) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    let request = v1::LeaveRequest { force: args.force };
    let reply = mfsd.leave(request).await.map_err(refused)?.into_inner();
    warn(&reply.warnings);
    print("This machine is in no cluster any more.\n")
}
