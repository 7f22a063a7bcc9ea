//! `mfs join`: makes this machine a node of an existing cluster.

use std::net::IpAddr;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::builder::NonEmptyStringValueParser;
use mfs::identity::Token;
use mfs::types::NodeNumber;
use mfs_proto::v1;
use serde::{Deserialize, Serialize};

use super::{Daemon, daemon, refused, trust_sentence, warn};
use crate::out::{print, print_json};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs join MFS1-... 192.168.1.53\n  mfs join MFS1-...              (finds the cluster on the local network)\n  mfs join --ssh admin@alpha     (fetches a token over ssh)"
)]
pub(crate) struct Args {
    /// The token that `mfs init` or `mfs token create` printed
    #[arg(value_name = "TOKEN", required_unless_present = "ssh")]
    token: Option<Token>,
    /// A node of the cluster [default: a seed of mfsd.toml, or one heard on the local network]
    #[arg(value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// Fetch a token for one use from this machine, over ssh
    #[arg(long, value_name = "USER@HOST", conflicts_with = "token")]
    ssh: Option<String>,
    /// Name of this node [default: the host's name]
    // Taken as it is: mfsd knows which names are free, and proposes one.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Number of this node, 1 to 65535 [default: the low 16 bits of its IPv4 address]
    #[arg(long, value_name = "NUMBER", value_parser = super::init::number)]
    number: Option<NodeNumber>,
    /// Address where the others find this node; may be given several times [default: all of its own]
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// What was joined, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Joined {
    name: String,
    number: u32,
    nodes: u32,
    trust_root: bool,
    warnings: Vec<String>,
}

/// What `mfs token create --json` prints.
#[derive(Debug, Deserialize)]
struct Fetched {
    token: String,
    host: String,
}

/// Joins.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (token, host) = match (&args.token, &args.ssh) {
        (Some(token), _) => (token.to_string(), args.host.clone().unwrap_or_default()),
        (None, Some(destination)) => {
            let fetched = fetch(destination)?;
            (fetched.token, args.host.clone().unwrap_or(fetched.host))
        }
        (None, None) => {
            bail!("a token is needed: mfs token create prints one on a node of the cluster")
        }
    };
    let request = v1::JoinClusterRequest {
        token,
        host,
        name: args.name.unwrap_or_default(),
        number: args.number.map_or(0, |number| number.get().into()),
        addresses: args.addresses.iter().map(ToString::to_string).collect(),
    };
    let mut mfsd = daemon::ensure(&args.daemon).await?;
    let reply = mfsd.join_cluster(request).await.map_err(refused)?.into_inner();
    warn(&reply.warnings);
    if args.json {
        return print_json(&Joined {
            name: reply.name,
            number: reply.number,
            nodes: reply.nodes,
            trust_root: reply.trust_root,
            warnings: reply.warnings,
        });
    }
    print(&format!(
        "This machine is node {} (number {}) of a cluster of {} nodes.\n\
         Next: mkdir -p /mfs, add the line of fstab.example to /etc/fstab, mount /mfs.\n{}\n",
        reply.name,
        reply.number,
        reply.nodes,
        trust_sentence(reply.trust_root)
    ))
}

/// A token for one use, made by a node that the person may log in to. The user's own ssh asks for
/// passwords and checks the host's key.
fn fetch(destination: &str) -> anyhow::Result<Fetched> {
    if destination.starts_with('-') || destination.is_empty() {
        bail!("{destination:?} is no ssh destination; write user@host");
    }
    let output = Command::new("ssh")
        .args(["--", destination, "mfs token create --uses 1 --ttl 5m --json"])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run ssh")?;
    if !output.status.success() {
        bail!(
            "no token came from {destination}: `mfs token create` there failed ({}); it must be a node that holds the cluster's authority, and the user must be root there (or use a root login)",
            output.status
        );
    }
    let mut fetched: Fetched = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("what came from {destination} is no token"))?;
    fetched.token.parse::<Token>().map_err(|error| anyhow::anyhow!("{destination}: {error}"))?;
    // Who reaches it by ssh reaches it under this name; an alias of ssh's configuration is no host name.
    let named = destination.rsplit_once('@').map_or(destination, |(_, host)| host);
    if fetched.host.is_empty() {
        named.clone_into(&mut fetched.host);
    }
    Ok(fetched)
}

/// The host of `address:port`, for the line that people type; the port only if it is not the usual one.
pub(super) fn host_of(address: &str) -> String {
    let usual = format!(":{}", mfs::config::paths::PORT);
    match address.strip_suffix(&usual) {
        Some(host) => host.trim_matches(['[', ']']).to_owned(),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_need_not_be_typed() {
        assert_eq!(host_of("10.0.0.1:7230"), "10.0.0.1");
        assert_eq!(host_of("[fd00::1]:7230"), "fd00::1");
        assert_eq!(host_of("[fd00::1]:7231"), "[fd00::1]:7231");
    }

    #[test]
    fn an_ssh_destination_is_no_option() {
        assert!(fetch("-oProxyCommand=true").is_err());
        assert!(fetch("").is_err());
    }
}
