//! `mfs ps`: the jobs of all nodes.

use std::process::ExitCode;

use mfs_proto::v1;
use serde::Serialize;

use super::connect;
use crate::cluster::{Daemon, length, refused, table, warn};
use crate::out::{print, print_json};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs ps\n  mfs ps --json")]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// A job, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Job {
    id: String,
    pid: u32,
    user: String,
    uid: u32,
    command: Vec<String>,
    home: String,
    node: String,
    state: String,
    migrations: u32,
    reason: String,
    age_ms: u64,
}

/// Shows them.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = connect(&args.daemon).await?;
    let reply = mfsd.list_jobs(v1::ListJobsRequest {}).await.map_err(refused)?.into_inner();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let jobs: Vec<_> = reply.jobs.into_iter().map(|job| Job::of(job, &users)).collect();
    if args.json {
        return print_json(&serde_json::json!({ "jobs": jobs, "unanswered": reply.unanswered }));
    }
    let unanswered: Vec<_> =
        reply.unanswered.iter().map(|node| format!("node {node} does not answer")).collect();
    warn(&unanswered);
    if jobs.is_empty() {
        return print("No job runs.\n");
    }
    let mut shown = table(&["JOB", "USER", "NODE", "PID", "STATE", "MOVES", "SINCE", "COMMAND"]);
    for job in jobs {
        let (pid, since) = (job.pid.to_string(), length(job.age_ms));
        let moves = job.migrations.to_string();
        let command = job.command.join(" ");
        shown.add_row([job.id, job.user, job.node, pid, job.state, moves, since, command]);
    }
    print(&format!("{shown}\n"))
}

// === impl Job ===

impl Job {
    fn of(job: v1::Job, users: &str) -> Self {
        let word = |word: &bytes::Bytes| String::from_utf8_lossy(word).into_owned();
        Self {
            user: name_of(users, job.uid).unwrap_or_else(|| job.uid.to_string()),
            command: job.command.iter().map(word).collect(),
            id: job.id,
            pid: job.pid,
            uid: job.uid,
            home: job.home,
            node: job.node,
            state: job.state,
            migrations: job.migrations,
            reason: job.reason,
            age_ms: job.age_ms,
        }
    }
}

/// The user with this number in the text of `/etc/passwd`.
fn name_of(users: &str, uid: u32) -> Option<String> {
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then_some(name)
    });
    user.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_shown_by_name_where_they_have_one() {
        let users = "root:x:0:0:root:/root:/bin/bash\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(name_of(users, 1000).as_deref(), Some("anna"));
        assert_eq!(name_of(users, 7), None);
    }
}
