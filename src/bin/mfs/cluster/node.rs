//! `mfs node` and `mfs leave`: what is done to one node of the cluster.
//!
//! Not what shows the nodes; that is `nodes`.

use std::process::ExitCode;

use clap::Subcommand;
use mfs::clock;
use mfs::load::{Speed, Wish};
use mfs_proto::v1;

use super::{Daemon, lend, refused, span, warn};
use crate::out::{print, print_json};

/// Arguments of `mfs node`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Set how fast a node is taken for, or whether it tells its load
    Set(Set),
    /// Remove a node for good: its certificate is refused everywhere from now on
    Remove(Remove),
    /// Renew this node's certificate now; mfsd does so by itself when half of its time is over
    Renew(Renew),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Settings:\n  speed=N      how fast a processor of it is; the yardstick has 10000\n  speed=auto   measure it, now and at each start\n  quiet=yes    tell no other node how busy it is: they send it no jobs\n  quiet=no     tell them\n\nExamples:\n  mfs node set n2 speed=15000\n  mfs node set n2 speed=auto\n  mfs node set n1 quiet=yes"
)]
struct Set {
    /// Its name; another one than this must trust root of this node
    #[arg(value_name = "NODE")]
    node: String,
    /// What to set, see below
    #[arg(value_name = "SETTING", required = true, value_parser = lend::setting)]
    settings: Vec<Wish>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs node remove carla\n  mfs node remove 3")]
struct Remove {
    /// Its name, number or id
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs node renew\n  mfs node renew --json")]
struct Renew {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Arguments of `mfs leave`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs leave\n  mfs leave --force   (the node that founded the cluster is gone)"
)]
pub(crate) struct LeaveArgs {
    /// Leave even if no node that holds the authority can be told
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Runs `mfs node`.
pub(super) async fn run_node(args: NodeArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        NodeCommand::Set(args) => set(args).await,
        NodeCommand::Remove(args) => remove(args).await,
        NodeCommand::Renew(args) => renew(args).await,
    }
}

async fn set(args: Set) -> anyhow::Result<ExitCode> {
    for wish in args.settings {
        let speed = lend::tell(&args.daemon, &args.node, wish).await?;
        let (node, speed) = (&args.node, f64::from(speed));
        match wish {
            Wish::Speed(how) => {
                let measured = if how.is_none() { "measured with" } else { "taken for" };
                let yardsticks = speed / f64::from(Speed::YARDSTICK.units());
                print(&format!(
                    "A processor of {node} is {measured} speed {speed}: {yardsticks:.2} of the yardstick.\n"
                ))?
            }
            Wish::Quiet(true) => print(&format!("{node} tells no other node how busy it is.\n"))?,
            _ => print(&format!("{node} tells the others how busy it is.\n"))?,
        };
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(args: Remove) -> anyhow::Result<ExitCode> {
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

async fn renew(args: Renew) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    let request = v1::RenewCertificateRequest {};
    let until = mfsd.renew_certificate(request).await.map_err(refused)?.into_inner().until;
    if args.json {
        return print_json(&serde_json::json!({ "until": until }));
    }
    let left = u64::try_from(until).unwrap_or(0).saturating_sub(clock::unix_seconds());
    print(&format!(
        "The certificate is renewed; it is valid for {}. What is open goes on.\n",
        span::show(left)
    ))
}

/// Runs `mfs leave`.
pub(super) async fn run_leave(args: LeaveArgs) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    let request = v1::LeaveRequest { force: args.force };
    let reply = mfsd.leave(request).await.map_err(refused)?.into_inner();
    warn(&reply.warnings);
    print("This machine is in no cluster any more.\n")
}
