//! `mfs demo`: a lab of three nodes at work, from its start to its end.
//!
//! Does nothing but call `mfs lab` and commands inside its nodes, as a person would; prints what it calls.

mod moves;
mod stage;
mod tour;

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::out::{print, tell};
use stage::Stage;

/// The arguments of `mfs demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo mfs demo")]
pub(crate) struct Args {}

/// Shows it, and takes everything down: at the end, after a failure, and when it is interrupted.
pub(crate) fn run(_: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(show())
}

async fn show() -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let stage = Stage::new();
    // The interrupt first: what it ended on its way is no failure.
    let shown = tokio::select! {
        biased;
        () = interrupts.any() => None,
        shown = tour::run(&stage) => Some(shown),
    };
    let cleared = stage.clear().await;
    let Some(shown) = shown else {
        tell("\ninterrupted; the lab is taken down");
        return Ok(ExitCode::from(130));
    };
    shown?;
    cleared?;
    print("The lab is taken down; nothing of it is left.\n")
}

/// The signals that ask a program to end.
#[derive(Debug)]
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

// === impl Interrupts ===

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
