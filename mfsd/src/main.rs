//! mfsd, the daemon of a node: parses its arguments, sets up logging, and runs the daemon.

mod arguments;
mod cluster;
mod connections;
mod daemon;
mod jobs;
mod listener;
mod load;
mod local;
mod node;
mod peer;
mod rpc;
mod service_manager;

use std::io::Write;
use std::process::ExitCode;

use arguments::{Arguments, CriuPlaces, Request};
use mfs::config::ConfigError;
use mfs::failpoint;
use mfs::telemetry::log::{self, Sink};

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Request::Run(arguments)) => Arguments { criu: criu_places(), ..arguments },
        Ok(Request::Print(text)) => {
            // A reader that has seen enough, or a full disk, is no reason to panic.
            let written = std::io::stdout().write_all(text.as_bytes());
            return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mfsd: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have begun, and systemd shows standard error.
            let _ = writeln!(std::io::stderr(), "mfsd: {error:#}");
            if error.is::<ConfigError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn criu_places() -> CriuPlaces {
    let named = std::env::var_os("MFS_CRIU").map(Into::into);
    CriuPlaces { named, path: std::env::var_os("PATH") }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = std::env::var("MFS_LOG").unwrap_or_else(|_| log::DEFAULT_FILTER.to_owned());
    let journal = std::env::var_os("JOURNAL_STREAM");
    log::start(&filter, Sink::for_stream(journal.as_deref()))?;
    if let Ok(points) = std::env::var("MFS_FAIL") {
        failpoint::arm(&points).map_err(|sentence| anyhow::anyhow!("MFS_FAIL: {sentence}"))?;
    }
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!("a part of mfsd failed, please report this: {panic}\n{backtrace}");
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(daemon::run(arguments));
    // Blocking file calls that still run must not hold up the stop.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}
