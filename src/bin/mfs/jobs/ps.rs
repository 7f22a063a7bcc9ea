//! `mfs ps`: the jobs of all nodes.

use std::process::ExitCode;

use mfs::jobs::{Ended, Hints, Kind};
use mfs_proto::v1;
use serde::Serialize;

use super::connect;
use super::rows::{self, Row};
use crate::cluster::{Daemon, length, refused, warn};
use crate::out::{print, print_json};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs ps\n  mfs ps --all\n  mfs ps --json\n\nSTAYS says why a job cannot be moved \
                  now. PID, CPU and MEM are those of the node where it runs."
)]
pub(crate) struct Args {
    /// Also jobs that have ended, as long as their home remembers them: 1,000, for a day
    #[arg(short, long)]
    all: bool,
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
    cpu_ms: u64,
    memory_bytes: u64,
    /// Why not.
    cannot_move: Option<String>,
    kind: &'static str,
    near: Option<String>,
    stays: bool,
    /// As a shell gives it.
    exit_status: Option<u8>,
    /// What else is to be said of its end.
    failure: Option<String>,
    ended_ms_ago: Option<u64>,
}

/// Shows them.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = connect(&args.daemon).await?;
    let request = v1::ListJobsRequest { all: args.all };
    let reply = mfsd.list_jobs(request).await.map_err(refused)?.into_inner();
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
    print(&rows::show(&jobs.iter().map(Job::row).collect::<Vec<_>>(), args.all))
}

// === impl Job ===

impl Job {
    fn of(job: v1::Job, users: &str) -> Self {
        use v1::job_ended::How;
        let word = |word: &bytes::Bytes| String::from_utf8_lossy(word).into_owned();
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        let hints = job.hints.clone().map(Hints::from).unwrap_or_default();
        let exit_status = job.ended.as_ref().map(|ended| match &ended.how {
            Some(How::Exited(status)) => u8::try_from(*status).unwrap_or(u8::MAX),
            Some(How::Killed(signal)) => Ended::Killed(*signal).status(),
            Some(How::Failed(failure)) => u8::try_from(failure.status).unwrap_or(u8::MAX),
            None => u8::MAX,
        });
        let failure = job.ended.as_ref().and_then(|ended| match &ended.how {
            Some(How::Failed(failure)) => Some(failure.message.clone()),
            _ => None,
        });
        Self {
            user: name_of(users, job.uid).unwrap_or_else(|| job.uid.to_string()),
            command: job.command.iter().map(word).collect(),
            ended_ms_ago: job.ended.is_some().then_some(job.ended_ms),
            id: job.id,
            pid: job.pid,
            uid: job.uid,
            home: job.home,
            node: job.node,
            state: job.state,
            migrations: job.migrations,
            reason: job.reason,
            age_ms: job.age_ms,
            cpu_ms: job.cpu_us / 1_000,
            memory_bytes: job.memory,
            cannot_move: said(job.cannot_move),
            kind: match hints.kind {
                Kind::Unknown => "unknown",
                Kind::Cpu => "cpu",
                Kind::Io => "io",
            },
            near: said(hints.near),
            stays: hints.stays,
            exit_status,
            failure,
        }
    }

    fn row(&self) -> Row {
        let is_running = self.exit_status.is_none();
        let known = |text: String| if is_running { text } else { "-".to_owned() };
        Row {
            id: self.id.clone(),
            pid: known(self.pid.to_string()),
            user: self.user.clone(),
            node: self.node.clone(),
            state: match self.exit_status {
                Some(status) => format!("exit {status}"),
                None => self.state.clone(),
            },
            moves: self.migrations.to_string(),
            time: length(self.age_ms),
            cpu: known(length(self.cpu_ms)),
            memory: known(rows::bytes(self.memory_bytes)),
            stays: self.cannot_move.clone().unwrap_or_else(|| "-".to_owned()),
            command: self.command.join(" "),
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
