//! `mfs init`: founds a cluster.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use mfs::types::NodeNumber;
use mfs_proto::v1;
use serde::Serialize;

use super::{Daemon, daemon, refused, span, trust_sentence};
use crate::out::{print, print_json};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs init\n  mfs init --name alpha --uses 20\n  mfs init --address 192.168.1.53"
)]
pub(crate) struct Args {
    /// Name of this node [default: the host's name]
    // Taken as it is: mfsd knows which names are free, and proposes one.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Number of this node, 1 to 65535 [default: the low 16 bits of its IPv4 address]
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    number: Option<NodeNumber>,
    /// Address where the others find this node; may be given several times [default: all of its own]
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// How many machines may join with the token that is printed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    uses: u32,
    /// How long the token can be used
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span::parse)]
    ttl: u64,
    /// Root of every node is root on all nodes. Without it root of another node is nobody
    #[arg(long)]
    trust_root: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// What was founded, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Founded {
    name: String,
    number: u32,
    addresses: Vec<String>,
    token: String,
    join: String,
}

/// Understands a node number.
pub(super) fn number(text: &str) -> Result<NodeNumber, String> {
    text.parse()
        .ok()
        .and_then(NodeNumber::new)
        .ok_or_else(|| "a node number is 1 to 65535".to_owned())
}

/// Founds the cluster.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request = v1::InitRequest {
        name: args.name.unwrap_or_default(),
        number: args.number.map_or(0, |number| number.get().into()),
        addresses: args.addresses.iter().map(ToString::to_string).collect(),
        trust_root: args.trust_root,
        token_uses: args.uses,
        token_seconds: args.ttl,
    };
    let mut mfsd = daemon::ensure(&args.daemon).await?;
    let reply = mfsd.init(request).await.map_err(refused)?.into_inner();
    let host = reply.addresses.first().map(|address| super::join::host_of(address));
    let join = super::token::join_line(&reply.token, host.as_deref().unwrap_or_default());
    if args.json {
        return print_json(&Founded {
            name: reply.name,
            number: reply.number,
            addresses: reply.addresses,
            token: reply.token,
            join,
        });
    }
    let machines = if args.uses == 1 {
        "On the next machine, once".to_owned()
    } else {
        format!("On each of the next {} machines", args.uses)
    };
    print(&format!(
        "This machine is node {} (number {}) of a new cluster, at {}.\n\n{machines}, within {}:\n\n    {join}\n\n\
         More later: mfs token create. Then, on each: mkdir -p /mfs, add the line of fstab.example to /etc/fstab, mount /mfs.\n{}\n",
        reply.name,
        reply.number,
        reply.addresses.join(", "),
        span::show(args.ttl),
        trust_sentence(args.trust_root),
    ))
}
