//! `mfs nodes`: who is in the cluster, and how this node sees them.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use mfs::clock;
use mfs::membership::{Member, MemberState};
use mfs::wire::load::ToldLoad;
use mfs_proto::v1;
use mfs_proto::v1::local_client::LocalClient as Stub;
use serde::Serialize;
use tonic::transport::Channel;

use super::{Daemon, refused, span};
use crate::out::{print, print_json};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "LOAD: processes that run or wait for a processor, and processors there are; - if the node was not heard lately.\nSPEED: of one processor; the yardstick has 10000. FREE: memory for new processes, GiB.\nFLAGS: blocked, when-idle, guests-go (mfs block), stay (mfs stay), quiet (mfs node set).\n\nExamples:\n  mfs nodes\n  mfs nodes --json\n  mfs nodes --check-users"
)]
pub(crate) struct Args {
    /// More: addresses, ids, versions, who holds the authority, what this machine's kernel does not have
    #[arg(short, long)]
    verbose: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Compare the users and groups of all nodes; exit status 1 if they differ
    #[arg(long, conflicts_with = "verbose")]
    check_users: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// A node, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    member: Member,
    /// The node that was asked.
    me: bool,
    /// Holds the authority's key.
    authority: bool,
    /// How busy it is; absent if it was not heard lately.
    load: Option<ToldLoad>,
}

const FOREIGN: &str = "mfsd's answer is not understood; are mfs and mfsd of one version?";

/// A table that fits the terminal, without lines.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    table
}

/// Shows the nodes.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = args.daemon.connect().await?;
    if args.check_users {
        return check_users(&mut mfsd, args.json).await;
    }
    let reply = mfsd.nodes(v1::NodesRequest {}).await.map_err(refused)?.into_inner();
    let loads: Result<Vec<ToldLoad>, _> = reply.loads.into_iter().map(TryFrom::try_from).collect();
    let loads = loads.context(FOREIGN)?;
    let rows = reply
        .members
        .into_iter()
        .map(|member| {
            let me = member.id == reply.me;
            let authority = reply.authorities.contains(&member.id);
            let member = Member::try_from(member)?;
            let load = loads.iter().find(|load| load.id == member.id).copied();
            Ok(Row { member, me, authority, load })
        })
        .collect::<Result<Vec<_>, mfs::wire::Malformed>>()
        .context(FOREIGN)?;
    let without = if args.verbose {
        mfsd.status(v1::StatusRequest {}).await.map_err(refused)?.into_inner().without
    } else {
        Vec::new()
    };
    if args.json {
        let mut answer = serde_json::json!({ "nodes": rows });
        if args.verbose {
            answer["without"] = serde_json::json!(without);
        }
        return print_json(&answer);
    }
    let mut text = format!("{}\n", if args.verbose { long(&rows) } else { short(&rows) });
    for sentence in apart(&rows) {
        text += &format!("\n{sentence}\n");
    }
    if args.verbose && !without.is_empty() {
        text += "\nThis machine goes without:\n";
        for sentence in without {
            text += &format!("  {sentence}\n");
        }
    }
    print(&text)
}

/// A sentence on each node that has no address of a family that this one has: gossip tells of it, by way of
/// others, but no connection can be made.
fn apart(rows: &[Row]) -> Vec<String> {
    let only = |row: &Row| match row.member.addresses.as_slice() {
        all @ [_, ..] if all.iter().all(SocketAddr::is_ipv4) => Some("IPv4"),
        all @ [_, ..] if all.iter().all(SocketAddr::is_ipv6) => Some("IPv6"),
        _ => None,
    };
    let Some(own) = rows.iter().find(|row| row.me).and_then(only) else { return Vec::new() };
    let other = |row| only(row).filter(|family| *family != own).map(|family| (row, family));
    rows.iter()
        .filter_map(other)
        .map(|(row, family)| {
            format!(
                "{} cannot be reached from here: it has only {family} addresses, this node only {own}. \
                 Give either an address of the other's kind.",
                row.member.name
            )
        })
        .collect()
}

/// Without addresses, so that it fits a terminal of 80 characters.
fn short(rows: &[Row]) -> Table {
    let mut table = table(&["NODE", "NUMBER", "STATE", "SINCE", "LOAD", "SPEED", "FREE", "FLAGS"]);
    for row in rows {
        let [name, number, state, since, _] = cells(row);
        let [load, speed, free, flags] = load_cells(row);
        table.add_row([name, number, state, since, load, speed, free, flags]);
    }
    table
}

fn long(rows: &[Row]) -> Table {
    let mut table =
        table(&["NODE", "NUMBER", "STATE", "SINCE", "ADDRESS", "VERSION", "ID", "ROLE"]);
    for row in rows {
        let role = if row.authority { "authority" } else { "node" };
        let [name, number, state, since, _] = cells(row);
        let addresses: Vec<_> = row.member.addresses.iter().map(ToString::to_string).collect();
        table.add_row([
            name,
            number,
            state,
            since,
            addresses.join("\n"),
            row.member.version.clone(),
            row.member.id.short(),
            role.to_owned(),
        ]);
    }
    table
}

/// Running processes of processors, speed, free memory, flags.
fn load_cells(row: &Row) -> [String; 4] {
    let Some(ToldLoad { load, .. }) = row.load else { return ["-"; 4].map(str::to_owned) };
    let whole = |milli: u32| f64::from(milli) / 1_000.0;
    let words: Vec<_> = load.flags.words().collect();
    let flags = if words.is_empty() { "-".to_owned() } else { words.join(",") };
    [
        format!("{:.1}/{}", whole(load.running), whole(load.processors)),
        load.speed.to_string(),
        format!("{:.1}G", load.memory_free.bytes() as f64 / f64::from(1 << 30)),
        flags,
    ]
}

fn cells(row: &Row) -> [String; 5] {
    let member = &row.member;
    let name = if row.me { format!("{} (here)", member.name) } else { member.name.to_string() };
    let state = match member.state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Dead => "dead",
        MemberState::Left => "left",
    };
    let since = match member.since {
        0 => "-".to_owned(),
        since => span::show(clock::unix_seconds().saturating_sub(since)),
    };
    let address = member.addresses.first().map_or_else(|| "-".to_owned(), ToString::to_string);
    [name, member.number.to_string(), state.to_owned(), since, address]
}

async fn check_users(mfsd: &mut Stub<Channel>, json: bool) -> anyhow::Result<ExitCode> {
    let reply = mfsd.check_users(v1::CheckUsersRequest {}).await.map_err(refused)?.into_inner();
    let same = reply.differences.is_empty() && reply.unanswered.is_empty();
    let code = if same { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        print_json(&serde_json::json!({
            "compared": reply.compared,
            "differences": reply.differences,
            "unanswered": reply.unanswered,
        }))?;
        return Ok(code);
    }
    let mut text = String::new();
    for difference in &reply.differences {
        text += &format!("{difference}\n");
    }
    if !reply.unanswered.is_empty() {
        text += &format!("No answer from {}.\n", reply.unanswered.join(", "));
    }
    if reply.differences.is_empty() {
        text += &format!("Users and groups are the same on {} nodes.\n", reply.compared);
    }
    print(&text)?;
    Ok(code)
}
