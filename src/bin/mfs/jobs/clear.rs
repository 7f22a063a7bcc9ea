//! `mfs expel` and `mfs bring`: clear this node of guests, and bring its own jobs home.

use std::process::ExitCode;

use mfs_proto::v1;
use tonic::Streaming;

use super::connect;
use crate::cluster::{Daemon, refused};
use crate::out::{line, tell};

/// The arguments of `mfs expel`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs expel\n\nReturns when all have been tried: before maintenance, or when its user comes back.\n\
                  Exit status: 0 none is left, 1 some stayed."
)]
pub(crate) struct ExpelArgs {
    #[command(flatten)]
    daemon: Daemon,
}

/// The arguments of `mfs bring`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs bring\n\nRoot brings all jobs of this node, others their own. Returns when all have been tried.\n\
                  Exit status: 0 all are here, 1 some stayed."
)]
pub(crate) struct BringArgs {
    #[command(flatten)]
    daemon: Daemon,
}

/// Sends the guests of this node away.
pub(super) async fn expel(args: ExpelArgs) -> anyhow::Result<ExitCode> {
    let mut mfsd = connect(&args.daemon).await?;
    let moved = mfsd.expel(v1::ExpelRequest {}).await.map_err(refused)?.into_inner();
    show(moved, "No job of another node runs here.").await
}

/// Brings own jobs home.
pub(super) async fn bring(args: BringArgs) -> anyhow::Result<ExitCode> {
    let mut mfsd = connect(&args.daemon).await?;
    let moved = mfsd.bring(v1::BringRequest {}).await.map_err(refused)?.into_inner();
    show(moved, "No job of this node runs elsewhere.").await
}

/// A line for each job, as it comes.
async fn show(mut moved: Streaming<v1::JobMoved>, none: &str) -> anyhow::Result<ExitCode> {
    let (mut all, mut stayed) = (0, 0);
    while let Some(job) = moved.message().await.map_err(refused)? {
        all += 1;
        if !job.why_not.is_empty() {
            stayed += 1;
            tell(format_args!("mfs: {}", job.why_not));
        } else if job.node.is_empty() {
            line(format_args!("job {} has ended", job.id))?;
        } else {
            line(format_args!("job {} runs on node {} now", job.id, job.node))?;
        }
    }
    if all == 0 {
        line(none)?;
    }
    Ok(if stayed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
