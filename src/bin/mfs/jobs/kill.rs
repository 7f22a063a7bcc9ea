//! `mfs kill`: a signal for a job.

use std::process::ExitCode;

use anyhow::bail;
use mfs_proto::v1;

use super::connect;
use crate::cluster::{Daemon, refused};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs kill n1.3\n  mfs kill -s KILL n1.3 n1.4")]
pub(crate) struct Args {
    /// By name, with or without SIG, or by number
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    signal: i32,
    /// The jobs, as `mfs ps` shows them
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Signals that people send, by name.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("TERM", libc::SIGTERM),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("ALRM", libc::SIGALRM),
    ("WINCH", libc::SIGWINCH),
];

fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = named.or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)));
    number.ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        format!("there is no such signal: they are {}, or 1 to 64", names.join(", "))
    })
}

/// Sends it.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut mfsd = connect(&args.daemon).await?;
    let mut failed = Vec::new();
    for id in args.jobs {
        let request = v1::SignalJobRequest { id, signal: args.signal };
        if let Err(status) = mfsd.signal_job(request).await {
            failed.push(refused(status).to_string());
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("{}", failed.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("9", 9), ("64", 64)] {
            assert_eq!(signal(text), Ok(number));
        }
        for wrong in ["", "0", "65", "-1", "TERMS"] {
            assert!(signal(wrong).is_err(), "{wrong}");
        }
    }
}
