//! `mfs token`: the tokens with which machines join.

use std::process::ExitCode;

use clap::Subcommand;
use mfs::clock;
use mfs_proto::v1;
use serde::Serialize;

use super::nodes::table;
use super::{Daemon, refused, span};
use crate::out::{print, print_json};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token and print the line for the machine that is to join
    Create(Create),
    /// Show the tokens that can still be used
    List(List),
    /// Make a token unusable
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs token create\n  mfs token create --uses 50 --ttl 2h")]
struct Create {
    /// How many machines may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    uses: u32,
    /// How long it can be used
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span::parse)]
    ttl: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs token list\n  mfs token list --json")]
struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs token revoke 3f9a01c2\n  mfs token revoke MFS1-...")]
struct Revoke {
    /// Its id, as `mfs token list` shows it, or the token itself
    #[arg(value_name = "TOKEN")]
    token: String,
    #[command(flatten)]
    daemon: Daemon,
}

/// A new token, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Created {
    token: String,
    host: String,
    join: String,
}

/// A token, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Entry {
    id: String,
    uses: u32,
    created: u64,
    until: u64,
}

/// The line that people copy.
pub(super) fn join_line(token: &str, host: &str) -> String {
    format!("mfs join {token} {host}").trim_end().to_owned()
}

/// Runs one of them.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => create(args).await,
        Command::List(args) => list(args).await,
        Command::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: Create) -> anyhow::Result<ExitCode> {
    let request = v1::CreateTokenRequest { uses: args.uses, seconds: args.ttl };
    let mut mfsd = args.daemon.connect().await?;
    let reply = mfsd.create_token(request).await.map_err(refused)?.into_inner();
    let join = join_line(&reply.token, &reply.host);
    if args.json {
        return print_json(&Created { token: reply.token, host: reply.host, join });
    }
    print(&format!("{join}\n"))
}

async fn list(args: List) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    let reply = mfsd.list_tokens(v1::ListTokensRequest {}).await.map_err(refused)?.into_inner();
    let entries: Vec<_> = reply
        .tokens
        .into_iter()
        .map(|t| Entry { id: t.id, uses: t.uses, created: t.created, until: t.until })
        .collect();
    if args.json {
        return print_json(&serde_json::json!({ "tokens": entries }));
    }
    if entries.is_empty() {
        return print("No token can be used. Make one: mfs token create\n");
    }
    let now = clock::unix_seconds();
    let mut rows = table(&["TOKEN", "USES LEFT", "MADE", "ENDS IN"]);
    for entry in entries {
        rows.add_row([
            entry.id,
            entry.uses.to_string(),
            format!("{} ago", span::show(now.saturating_sub(entry.created))),
            span::show(entry.until.saturating_sub(now)),
        ]);
    }
    print(&format!("{rows}\n"))
}

async fn revoke(args: Revoke) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    mfsd.revoke_token(v1::RevokeTokenRequest { token: args.token }).await.map_err(refused)?;
    print("The token cannot be used any more.\n")
}
