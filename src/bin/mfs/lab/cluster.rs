//! Makes a cluster of the nodes of a lab by the commands that people use on real machines, and waits
//! until it is one.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use mfs::clock;

use super::inside::Running;
use super::names::LabNode;
use super::progress::Progress;
use super::state::Lab;

/// How long a command may take that forms the cluster. Generous: a machine that runs tests is busy.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take until every node sees every other, and more for each node.
const SIGHT_PATIENCE: Duration = Duration::from_secs(30);
const SIGHT_PATIENCE_PER_NODE: Duration = Duration::from_millis(500);

/// Nodes that join at a time.
const AT_ONCE: usize = 4;

/// Founds the cluster on the first node and lets the others join.
pub(super) fn form(lab: &Lab, progress: &Progress) -> anyhow::Result<()> {
    progress.step("forming the cluster");
    let mut found = words(&["mfs", "init", "--name", "n1", "--trust-root"]);
    if lab.settings.nodes > 1 {
        found.extend(["--uses".to_owned(), (lab.settings.nodes - 1).to_string()]);
    }
    let said = Running::start(lab, LabNode::FIRST, &found)?.finish(COMMAND_PATIENCE)?;
    let others: Vec<LabNode> = lab.nodes().skip(1).collect();
    if others.is_empty() {
        return Ok(());
    }
    let token = token(&said).context("mfs init printed no line `mfs join TOKEN`")?;
    let address = LabNode::FIRST.address().to_string();
    each(lab, &others, progress, "joined", |node| {
        words(&["mfs", "join", &token, &address, "--name", &node.to_string()])
    })
}

/// Mounts /mfs by the nodes' own fstab.
pub(super) fn mount(lab: &Lab, nodes: &[LabNode], progress: &Progress) -> anyhow::Result<()> {
    each(lab, nodes, progress, "mounted", |_| words(&["mount", "/mfs"]))
}

/// Waits until every node of `nodes` sees every node of them in /mfs.
pub(super) fn wait_for_sight(
    lab: &Lab,
    nodes: &[LabNode],
    progress: &Progress,
) -> anyhow::Result<()> {
    progress.step("waiting until every node sees every other");
    let looks: Vec<_> = nodes.iter().map(|&node| (node, nodes.to_vec())).collect();
    wait(lab, &looks, progress)
}

/// Waits until `node` sees those of `others`, and they see it, that are members to each other: a node may
/// have been removed meanwhile, or never have been in the cluster, or have no mount.
pub(super) fn wait_for_each_other(
    lab: &Lab,
    node: LabNode,
    others: &[LabNode],
    progress: &Progress,
) -> anyhow::Result<()> {
    progress.step(&format!("waiting until {node} and the others see each other"));
    let here = listed(lab, node)?;
    let mut seen = Vec::new();
    for &other in others {
        if here.contains(&other.to_string()) && listed(lab, other)?.contains(&node.to_string()) {
            seen.push(other);
        }
    }
    let mut looks: Vec<_> = seen.iter().map(|&other| (other, vec![node])).collect();
    if !seen.is_empty() {
        looks.push((node, seen));
    }
    wait(lab, &looks, progress)
}

/// The members that a node lists in /mfs, whether they answer or not.
fn listed(lab: &Lab, node: LabNode) -> anyhow::Result<Vec<String>> {
    let said = Running::start(lab, node, &["ls", "/mfs"])?.finish(COMMAND_PATIENCE)?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Waits until each node sees those that stand beside it.
fn wait(lab: &Lab, looks: &[(LabNode, Vec<LabNode>)], progress: &Progress) -> anyhow::Result<()> {
    let count = u32::try_from(looks.len())?;
    let patience = SIGHT_PATIENCE + SIGHT_PATIENCE_PER_NODE * count;
    let seconds = patience.as_secs().to_string();
    let slack = Duration::from_secs(10);
    let mut waiting = Vec::new();
    for (node, seen) in looks {
        let names = seen.iter().map(LabNode::to_string);
        let look = words(&["mfs", "lab", "look", "--seconds", &seconds]);
        let look: Vec<String> = look.into_iter().chain(names).collect();
        waiting.push(Running::start(lab, *node, &look)?);
    }
    for (place, looking) in waiting.into_iter().enumerate() {
        looking.finish(patience + slack)?;
        progress.count("see all", place + 1, looks.len());
    }
    Ok(())
}

/// In a node: waits until all of `names` are in /mfs and can be entered. A hidden command of `mfs`.
pub(super) fn look(names: &[LabNode], patience: Duration) -> anyhow::Result<ExitCode> {
    let deadline = clock::now() + patience;
    let mut pause = Duration::from_millis(10);
    loop {
        let unseen = names.iter().find_map(|name| {
            let path = format!("/mfs/{name}/.");
            std::fs::read_dir(&path).err().map(|error| format!("/mfs/{name}: {error}"))
        });
        let Some(unseen) = unseen else { return Ok(ExitCode::SUCCESS) };
        if clock::now() >= deadline {
            bail!("after {} s {unseen}", patience.as_secs());
        }
        // No event tells that another node has become visible here: that is what is being tested.
        let _ = rustix::thread::nanosleep(&rustix::time::Timespec::try_from(pause)?);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Runs a command in each of `nodes`, some at a time.
fn each(
    lab: &Lab,
    nodes: &[LabNode],
    progress: &Progress,
    done: &str,
    command: impl Fn(LabNode) -> Vec<String>,
) -> anyhow::Result<()> {
    let mut finished = 0;
    for some in nodes.chunks(AT_ONCE) {
        let mut running = Vec::new();
        for &node in some {
            running.push(Running::start(lab, node, &command(node))?);
        }
        for command in running {
            command.finish(COMMAND_PATIENCE)?;
            finished += 1;
            progress.count(done, finished, nodes.len());
        }
    }
    Ok(())
}

/// Finds the token in what `mfs init` printed for people.
fn token(said: &str) -> Option<String> {
    let line = said.lines().find_map(|line| line.trim().split_once("mfs join "))?.1;
    line.split_ascii_whitespace().next().map(str::to_owned)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_in_prose() {
        let said =
            "The cluster is founded.\n\nOn the other machines:\n\n    mfs join mfs1-abc n1\n";
        assert_eq!(token(said).as_deref(), Some("mfs1-abc"));
        assert_eq!(token("nothing"), None);
    }
}
