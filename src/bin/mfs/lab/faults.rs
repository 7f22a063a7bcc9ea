//! What happens to machines: power cuts, daemons that die or hang, cables that are pulled.

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::cluster;
use super::down;
use super::inside::Running;
use super::names::LabNode;
use super::node;
use super::process::Process;
use super::progress::Progress;
use super::state::Lab;
use super::switch;

/// The daemon of a node, and the process of its mount, by the names that the kernel keeps. mount(8) calls
/// the latter by its other name.
const DAEMON: &str = "mfsd";
const MOUNTS: [&str; 2] = ["mfs-fuse", "mount.mfs"];

/// How long a killed daemon may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cuts the power of a node.
pub(super) fn kill(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    let init = lab.running(node)?;
    let keeper = lab.keeper()?;
    // The link first: what its processes would still send at their end, such as the end of their
    // connections, a machine without power does not send.
    switch::set_link(&keeper, node, false)?;
    down::end(vec![init])?;
    switch::unplug(&keeper, node)
}

/// Kills the daemon of a node, and nothing else.
pub(super) fn kill_daemon(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    let daemons = named(&lab.running(node)?, &[DAEMON]);
    if daemons.is_empty() {
        bail!("no mfsd runs on {node}");
    }
    for daemon in daemons {
        daemon.signal(Signal::KILL)?;
        if !daemon.gone_within(PATIENCE) {
            bail!("mfsd on {node} does not end after SIGKILL");
        }
    }
    Ok(())
}

/// Stops the daemon and the mount of a node, as if its machine hung.
pub(super) fn stop(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    let processes = ours(&lab.running(node)?);
    if processes.is_empty() {
        bail!("neither mfsd nor mfs-fuse runs on {node}");
    }
    processes.iter().try_for_each(|process| process.signal(Signal::STOP))?;
    Ok(())
}

/// Undoes what [`kill`], [`kill_daemon`] or [`stop`] did; returns when the node is one of the cluster
/// again.
pub(super) fn start(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    lab.has(node)?;
    let progress = Progress::begin();
    let was_off = lab.home.init(node).is_none();
    let init = if was_off { node::start(lab, node)? } else { lab.running(node)? };
    if lab.settings.bare {
        return Ok(());
    }
    for process in ours(&init).iter().filter(|process| process.is_stopped()) {
        process.signal(Signal::CONT)?;
    }
    if named(&init, &[DAEMON]).is_empty() {
        progress.step("starting mfsd");
        start_daemon(lab, node)?;
    }
    if was_off {
        cluster::mount(lab, &[node], &progress)?;
    }
    // Itself only: others may be off or cut off on purpose.
    cluster::wait_for_sight(lab, &[node], &progress)
}

/// Cuts or mends the link between a node and the switch.
pub(super) fn set_link(lab: &Lab, node: LabNode, up: bool) -> anyhow::Result<()> {
    lab.running(node)?;
    switch::set_link(&lab.keeper()?, node, up)
}

/// The daemon and the mounts of a node.
pub(super) fn ours(init: &Process) -> Vec<Process> {
    named(init, &[&[DAEMON], &MOUNTS[..]].concat())
}

/// Whether the daemon of a node runs.
pub(super) fn has_daemon(init: &Process) -> bool {
    !named(init, &[DAEMON]).is_empty()
}

fn named(init: &Process, names: &[&str]) -> Vec<Process> {
    let inside = init.inside().into_iter();
    inside.filter(|(_, name)| names.iter().any(|n| name == n)).map(|(process, _)| process).collect()
}

/// Starts mfsd as the node's boot would.
fn start_daemon(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    // To the log of the mfsd that `mfs init` and `mfs join` start.
    let script = "mkdir -p /run/mfs && mfsd --detach </dev/null >>/run/mfs/mfsd.log 2>&1 &";
    Running::start(lab, node, &["sh", "-c", script])?
        .finish(PATIENCE)
        .map(drop)
        .context("cannot start mfsd")
}
