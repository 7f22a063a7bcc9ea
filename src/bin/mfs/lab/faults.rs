//! What happens to machines: power cuts, daemons that die or hang, cables that are pulled.

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::cluster;
use super::daemon;
use super::down;
use super::list;
use super::names::LabNode;
use super::node;
use super::process::Process;
use super::progress::Progress;
use super::state::Lab;
use super::switch;

/// The process of a mount, by the names that the kernel keeps; mount(8) calls it by the second one.
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
    let daemons = daemon::running(&lab.running(node)?);
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
    daemon::see_to(lab, node, &init, &progress)?;
    if was_off {
        cluster::mount(lab, &[node], &progress)?;
    }
    // Itself only: others may be off or cut off on purpose.
    cluster::wait_for_sight(lab, &[node], &progress)
}

/// Cuts the link between a node and the switch.
pub(super) fn partition(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    lab.running(node)?;
    switch::set_link(&lab.keeper()?, node, false)
}

/// Mends the link between a node and the switch; returns when the node and those that run see each other.
pub(super) fn heal(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    lab.running(node)?;
    let progress = Progress::begin();
    switch::set_link(&lab.keeper()?, node, true)?;
    let up = list::nodes_up(lab);
    if !up.contains(&node) {
        // It is stopped, or its daemon does not run: there is nothing to see.
        return Ok(());
    }
    let others: Vec<_> = up.into_iter().filter(|&other| other != node).collect();
    cluster::wait_for_each_other(lab, node, &others, &progress)
        .with_context(|| format!("the link of {node} is mended, but the nodes are not together"))
}

/// The daemon and the mounts of a node.
pub(super) fn ours(init: &Process) -> Vec<Process> {
    daemon::running(init).into_iter().chain(init.named(&MOUNTS)).collect()
}

/// Whether the daemon of a node runs.
pub(super) fn has_daemon(init: &Process) -> bool {
    !daemon::running(init).is_empty()
}
