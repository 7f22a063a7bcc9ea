//! `mfs migrate`: moves a running job to another node.

use std::io::IsTerminal;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use mfs_proto::v1;
use serde::Serialize;

use super::connect;
use crate::cluster::{Daemon, refused};
use crate::out::{print, print_json, tell};

/// The exit status when there is no such job, or it has ended.
const ENDED: u8 = 3;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs migrate n1.3 n2\n  mfs migrate n1.3 home\n  mfs migrate n1.3 best\n\n\
                  Returns when the job runs there. Exit status: 0 it does, 1 it runs on where it was,\n\
                  3 there is no such job, or it has ended."
)]
pub(crate) struct Args {
    /// The job, as `mfs ps` shows it
    #[arg(value_name = "JOB")]
    job: String,
    /// Where to: the name of a node, `home`, or `best`
    #[arg(value_name = "NODE")]
    node: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// What came of it, in the form of the JSON.
#[derive(Debug, Serialize)]
struct Moved {
    job: String,
    node: String,
    image_bytes: u64,
    frozen_us: u64,
}

/// Moves it, with progress on a terminal.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = connect(&args.daemon).await?;
    let request = v1::MigrateJobRequest { id: args.job.clone(), node: args.node };
    let mut progress = match mfsd.migrate_job(request).await {
        Ok(progress) => progress.into_inner(),
        Err(status) => return stayed(status),
    };
    let bar = bar();
    let mut last = v1::MigrationProgress::default();
    loop {
        match progress.message().await {
            Ok(Some(said)) => {
                bar.set_message(said.phase.clone());
                bar.set_length(said.total_bytes);
                bar.set_position(said.bytes);
                last = said;
            }
            Ok(None) => break,
            Err(status) => {
                bar.finish_and_clear();
                return stayed(status);
            }
        }
    }
    bar.finish_and_clear();
    anyhow::ensure!(
        last.phase == "done",
        "nobody says whether job {} has moved: see mfs ps",
        args.job
    );
    if args.json {
        return print_json(&Moved {
            job: args.job,
            node: last.node,
            image_bytes: last.total_bytes,
            frozen_us: last.frozen_us,
        });
    }
    if last.frozen_us == 0 {
        return print(&format!("job {} runs on node {} already\n", args.job, last.node));
    }
    print(&format!(
        "job {} runs on node {} now; it stood still for {} ms, {} of images\n",
        args.job,
        last.node,
        last.frozen_us / 1000,
        indicatif::HumanBytes(last.total_bytes),
    ))
}

fn stayed(status: tonic::Status) -> anyhow::Result<ExitCode> {
    if status.code() == tonic::Code::NotFound {
        tell(format_args!("mfs: {}", refused(status)));
        return Ok(ExitCode::from(ENDED));
    }
    Err(refused(status))
}

/// What a person sees of it.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:8} {wide_bar} {bytes}/{total_bytes}");
    let bar = ProgressBar::new(0);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
