//! `mfs lab ls`.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use super::faults;
use super::names::LabNode;
use super::process::Process;
use super::state::{Home, Lab};
use super::switch;
use crate::out::{print, print_json};

/// A lab as `ls` shows it.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    state_dir: String,
    created: u64,
    mount_options: String,
    transport: &'static str,
    cpus: Option<f64>,
    /// Its switch works; without it the lab can only be taken down.
    whole: bool,
    nodes: Vec<ShownNode>,
}

/// A node as `ls` shows it.
#[derive(Debug, Serialize)]
struct ShownNode {
    name: String,
    address: String,
    state: NodeState,
    /// The first process of the node, in the machine's numbers; /proc/PID/root is its root.
    pid: Option<i32>,
    /// Its /data, in the machine's tree.
    data: String,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum NodeState {
    /// Works.
    Up,
    /// Its link is cut.
    Partitioned,
    /// Its daemon or its mount is stopped.
    Stopped,
    /// Its daemon does not run.
    NoDaemon,
    /// Its power is cut.
    Off,
}

/// Shows all labs below the same directory as `any`.
pub(super) fn run(any: &Home, json: bool) -> anyhow::Result<ExitCode> {
    let names = any.siblings()?;
    // A lab that is being made or ended right now has no description.
    let labs: Vec<Shown> = names
        .into_iter()
        .filter_map(|name| Lab::find(any.of(name)).ok())
        .map(|lab| Shown::of(&lab))
        .collect();
    if json {
        return print_json(&labs);
    }
    if labs.is_empty() {
        return print("no lab: mfs lab up makes one\n");
    }
    let mut text = String::new();
    for lab in labs {
        let note = if lab.whole {
            String::new()
        } else {
            format!("  broken: mfs lab down --name {}", lab.name)
        };
        writeln!(text, "{}  {}{note}", lab.name, lab.mount_options)?;
        for node in lab.nodes {
            writeln!(text, "  {:<5} {:<12} {}", node.name, node.address, node.state.said())?;
        }
    }
    print(&text)
}

/// The nodes that work and have their link.
pub(super) fn nodes_up(lab: &Lab) -> Vec<LabNode> {
    let states = states(lab, lab.home.keeper().as_ref());
    states.into_iter().filter(|(_, state)| *state == NodeState::Up).map(|(node, _)| node).collect()
}

fn states(lab: &Lab, keeper: Option<&Process>) -> Vec<(LabNode, NodeState)> {
    let ports = keeper.and_then(|keeper| switch::ports(keeper).ok());
    let cut = |node: LabNode| {
        let name = node.to_string();
        ports.iter().flatten().any(|(port, up)| *port == name && !up)
    };
    lab.nodes().map(|node| (node, NodeState::of(lab, node, cut(node)))).collect()
}

// === impl Shown ===

impl Shown {
    fn of(lab: &Lab) -> Self {
        let keeper = lab.home.keeper();
        let settings = &lab.settings;
        let states = states(lab, keeper.as_ref()).into_iter();
        let nodes = states.map(|(node, state)| ShownNode::of(lab, node, state)).collect();
        Self {
            name: lab.home.name().to_string(),
            state_dir: lab.home.dir().display().to_string(),
            created: settings.created,
            mount_options: settings.mount_options.clone(),
            transport: if settings.plaintext { "plaintext" } else { "tls" },
            cpus: settings.cpus,
            whole: keeper.is_some(),
            nodes,
        }
    }
}

// === impl ShownNode ===

impl ShownNode {
    fn of(lab: &Lab, node: LabNode, state: NodeState) -> Self {
        let (name, address) = (node.to_string(), node.address().to_string());
        let data = lab.home.node_dir(node).join("data").display().to_string();
        Self { name, address, state, pid: lab.home.init(node).map(|init| init.id()), data }
    }
}

// === impl NodeState ===

impl NodeState {
    fn of(lab: &Lab, node: LabNode, cut: bool) -> Self {
        match lab.home.init(node) {
            None => Self::Off,
            Some(_) if cut => Self::Partitioned,
            Some(_) if lab.settings.bare => Self::Up,
            Some(init) if faults::ours(&init).iter().any(Process::is_stopped) => Self::Stopped,
            Some(init) if !faults::has_daemon(&init) => Self::NoDaemon,
            Some(_) => Self::Up,
        }
    }

    fn said(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Partitioned => "partitioned",
            Self::Stopped => "stopped",
            Self::NoDaemon => "mfsd is not running",
            Self::Off => "off",
        }
    }
}
