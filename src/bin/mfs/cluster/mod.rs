//! The commands that form a cluster, show it, what is held in it, and change it. All of them ask mfsd over its socket; what is
//! decided, is decided there.

mod daemon;
mod init;
mod join;
mod lend;
mod locks;
mod node;
mod nodes;
mod span;
mod token;
mod why;

pub(crate) use self::why::length;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use mfs_proto::v1::local_client::LocalClient as Stub;
use tonic::transport::Channel;

use crate::out;

/// The commands of this module.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Found a cluster on this machine
    Init(init::Args),
    /// Join a cluster
    Join(join::Args),
    /// Show the nodes of the cluster
    Nodes(nodes::Args),
    /// Who holds what on a file, since when, and what is waited for
    Why(why::Args),
    /// The locks of applications at a node: held for its peers, and waited for
    Locks(locks::Args),
    /// Join tokens: make, list, revoke
    Token(token::Args),
    /// Set how a node is used, remove a node, renew this one's certificate
    Node(node::NodeArgs),
    /// Run no jobs of other nodes on a node, or only while it is idle
    Block(lend::BlockArgs),
    /// Run jobs of other nodes on a node again
    Unblock(lend::UnblockArgs),
    /// Move no jobs away from a node by itself
    Stay(lend::StayArgs),
    /// Let jobs be moved away from a node again
    Nostay(lend::NostayArgs),
    /// Leave the cluster: this machine is a node no longer
    Leave(node::LeaveArgs),
}

/// Where mfsd is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Daemon {
    /// Where mfsd has its socket
    #[arg(long, value_name = "DIR", default_value = mfs::config::paths::RUNTIME, value_parser = absolute)]
    runtime: PathBuf,
}

/// Takes a path from / on; mfsd is started in another directory than this command.
fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("write the whole path, from / on".to_owned()) }
}

/// Runs one of them.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init(args) => block_on(init::run(args)),
        Command::Join(args) => block_on(join::run(args)),
        Command::Nodes(args) => block_on(nodes::run(args)),
        Command::Why(args) => block_on(why::run(args)),
        Command::Locks(args) => block_on(locks::run(args)),
        Command::Token(args) => block_on(token::run(args)),
        Command::Node(args) => block_on(node::run_node(args)),
        Command::Block(args) => block_on(lend::block(args)),
        Command::Unblock(args) => block_on(lend::unblock(args)),
        Command::Stay(args) => block_on(lend::stay(args)),
        Command::Nostay(args) => block_on(lend::nostay(args)),
        Command::Leave(args) => block_on(node::run_leave(args)),
    }
}

pub(crate) fn block_on(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?
        .block_on(work)
}

// === impl Daemon ===

impl Daemon {
    /// The runtime directory.
    pub(crate) fn runtime(&self) -> &std::path::Path {
        &self.runtime
    }

    /// Connects to a daemon that must be running already.
    async fn connect(&self) -> anyhow::Result<Stub<Channel>> {
        Ok(mfs::net::local::LocalClient::connect(&self.runtime).await?.stub())
    }
}

/// What the daemon refused, as its own sentence.
pub(crate) fn refused(status: tonic::Status) -> anyhow::Error {
    mfs::net::local::LocalError::from(status).into()
}

/// Tells what a person should know, on standard error.
pub(crate) fn warn(sentences: &[String]) {
    for sentence in sentences {
        out::tell(format_args!("mfs: warning: {sentence}"));
    }
}

/// What trust in the peers' root means, for `init` and `join`.
fn trust_sentence(trust_root: bool) -> &'static str {
    if trust_root {
        "Root of every node is root on every node: whoever is root on one of them can read and change \
         everything on all of them. (trust_root)"
    } else {
        "Root of other nodes is nobody here (root is squashed). To trust a node's root: [peer.NAME] \
         trust_root = true in /etc/mfs/mfsd.toml."
    }
}
