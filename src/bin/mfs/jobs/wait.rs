//! `mfs wait`: waits for the end of jobs.

use std::process::ExitCode;

use mfs_proto::v1;

use super::connect;
use super::run::status;
use crate::cluster::{Daemon, refused};
use crate::out::tell;

/// The exit status of a shell's `wait` for somebody it does not know.
const UNKNOWN: u8 = 127;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs wait n1.3\n  mfs wait n1.3 n2.7\n\nExit status: that of the last job, as \
                  the shell's wait gives it; 127 if there is no such job.\nEnds are remembered for a day."
)]
pub(crate) struct Args {
    /// The jobs, as `mfs ps` shows them
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Waits for all of them.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = connect(&args.daemon).await?;
    let mut last = 0;
    for id in args.jobs {
        last = match mfsd.wait_job(v1::WaitJobRequest { id }).await {
            Ok(reply) => status(&reply.into_inner().ended.unwrap_or_default()),
            Err(error)
                if [tonic::Code::NotFound, tonic::Code::InvalidArgument]
                    .contains(&error.code()) =>
            {
                tell(format_args!("mfs: {}", refused(error)));
                UNKNOWN
            }
            Err(error) => return Err(refused(error)),
        };
    }
    Ok(ExitCode::from(last))
}
