//! The daemon of a node: whether it runs, and starting it when it does not.
//!
//! A daemon that was told to end, or that a kill has hit, is still there for a moment. It is one that runs only
//! if it answers; its end is waited for, and another one started.

use std::time::Duration;

use anyhow::{Context, bail};
use mfs::clock;

use super::inside::Running;
use super::names::LabNode;
use super::process::Process;
use super::progress::Progress;
use super::state::Lab;

/// By the name that the kernel keeps.
const DAEMON: &str = "mfsd";

/// Where the mfsd that `mfs init`, `mfs join` and this start say what they do; in the node.
const LOG: &str = "/run/mfs/mfsd.log";

/// How long a daemon may take to answer, or to end. Generous: a machine that runs tests is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions whether it answers; its end is noticed at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The daemons of a node: one, or an old one beside its successor.
pub(super) fn running(init: &Process) -> Vec<Process> {
    init.named(&[DAEMON])
}

/// Returns when a daemon answers; starts one if none runs, or the one that does is about to end.
pub(super) fn see_to(
    lab: &Lab,
    node: LabNode,
    init: &Process,
    progress: &Progress,
) -> anyhow::Result<()> {
    let deadline = clock::now() + PATIENCE;
    let mut started = false;
    loop {
        let Some(daemon) = running(init).pop() else {
            if started {
                return give_up(lab, node);
            }
            progress.step("starting mfsd");
            start(lab, node)?;
            started = true;
            continue;
        };
        // It says so when it is about to end.
        let answer = Running::start(lab, node, &["mfs", "nodes"])?.finish(PATIENCE);
        let why = match answer {
            Ok(_) if !daemon.gone_within(Duration::ZERO) => return Ok(()),
            Ok(_) => continue,
            Err(why) => why,
        };
        if clock::now() >= deadline {
            let seconds = PATIENCE.as_secs();
            return Err(why.context(format!(
                "mfsd on {node} neither answers nor ends for {seconds} s; mfs lab kill --daemon {node} ends it"
            )));
        }
        daemon.gone_within(PAUSE);
    }
}

/// Starts mfsd as the node's boot would; returns when the process is mfsd, or has failed to be.
fn start(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    let script = format!(
        "mkdir -p /run/mfs\n\
         mfsd --detach </dev/null >>{LOG} 2>&1 &\n\
         while read -r name 2>/dev/null </proc/$!/comm && [ \"$name\" = sh ]; do :; done"
    );
    Running::start(lab, node, &["sh", "-c", &script])?
        .finish(PATIENCE)
        .map(drop)
        .context("cannot start mfsd")
}

/// A daemon has ended that had just been started: an error if it says why. If it says nothing it was killed, as
/// tests have it by a fail point; what is missing then is told by whoever looks for the node.
fn give_up(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    let said = Running::start(lab, node, &["tail", "-n", "1", LOG])?.finish(PATIENCE)?;
    match said.trim().strip_prefix("mfsd: ") {
        Some(why) => bail!("mfsd on {node} ended when it had just been started: {why}"),
        None => Ok(()),
    }
}
