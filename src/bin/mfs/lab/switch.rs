//! The switch of a lab: a bridge in a network namespace of its own, with a port for each node.
//!
//! The machine's own interfaces, routes and firewall rules do not reach it. Links are made and cut with
//! ip(8), which the set-up of the tests and the demo installs.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::names::LabNode;
use super::process::Process;
use super::sys::{self, Setup};

const MISSING: &str = "the laboratory needs ip(8): apt-get install iproute2";

/// Makes the bridge, in the network namespace of this process.
pub(super) fn build() -> anyhow::Result<()> {
    // Snooping would keep multicast from nodes until they report their groups to a querier that is not
    // there.
    let script = "link set lo up\n\
         link add name switch type bridge mcast_snooping 0 stp_state 0 forward_delay 0\n\
         link set switch up\n";
    batch(Command::new("ip"), script).context("cannot make the switch")
}

/// Plugs a node in: a link from the switch, in the keeper's namespace, to the node's `eth0`.
pub(super) fn plug(keeper: &Process, node: LabNode, init: &Process) -> anyhow::Result<()> {
    let pid = init.id();
    let script = format!(
        "link add name {node} type veth peer name eth0 netns {pid}\n\
         link set {node} master switch\n\
         link set {node} up\n"
    );
    inside(keeper, &script).with_context(|| format!("cannot plug {node} into the switch"))?;
    let address = node.address();
    // The route for multicast lets a program send to a group without naming an interface.
    let script = format!(
        "link set lo up\n\
         addr add {address}/16 dev eth0\n\
         link set eth0 up\n\
         route add 224.0.0.0/4 dev eth0\n"
    );
    inside(init, &script).with_context(|| format!("cannot configure the network of {node}"))
}

/// Removes a node's port, if it is there.
pub(super) fn unplug(keeper: &Process, node: LabNode) -> anyhow::Result<()> {
    if port_is_up(keeper, node)?.is_some() {
        // The port may go by itself at this moment, with the namespace at its other end.
        let removed = inside(keeper, &format!("link del {node}\n"));
        if port_is_up(keeper, node)?.is_some() {
            return removed.with_context(|| format!("cannot unplug {node}"));
        }
    }
    Ok(())
}

/// Mends or cuts the link of a node. Packets are dropped in silence, as from a cable that was pulled.
pub(super) fn set_link(keeper: &Process, node: LabNode, up: bool) -> anyhow::Result<()> {
    let state = if up { "up" } else { "down" };
    inside(keeper, &format!("link set {node} {state}\n"))
        .with_context(|| format!("cannot set the link of {node} {state}"))
}

/// Whether a node's link is mended; `None` when it has none.
pub(super) fn port_is_up(keeper: &Process, node: LabNode) -> anyhow::Result<Option<bool>> {
    Ok(ports(keeper)?.into_iter().find(|(name, _)| *name == node.to_string()).map(|(_, up)| up))
}

/// All ports, and whether each is up.
pub(super) fn ports(keeper: &Process) -> anyhow::Result<Vec<(String, bool)>> {
    let mut command = entering(keeper)?;
    command.args(["-o", "link", "show"]).stdin(Stdio::null());
    let output = command.output().context(MISSING)?;
    if !output.status.success() {
        bail!("ip link show: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(port).collect())
}

/// Reads `4: n1@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu ...`.
fn port(line: &str) -> Option<(String, bool)> {
    let mut words = line.split_ascii_whitespace();
    let name = words.nth(1)?.trim_end_matches(':').split('@').next()?;
    let flags = words.next()?.trim_start_matches('<').trim_end_matches('>');
    Some((name.to_owned(), flags.split(',').any(|flag| flag == "UP")))
}

fn inside(process: &Process, script: &str) -> anyhow::Result<()> {
    batch(entering(process)?, script)
}

/// ip(8) in the network namespace of a process.
fn entering(process: &Process) -> anyhow::Result<Command> {
    use std::os::fd::AsFd;
    let network_of = Some(process.as_fd().try_clone_to_owned()?);
    let mut command = Command::new("ip");
    sys::prepare(&mut command, Setup { network_of, ..Setup::default() });
    Ok(command)
}

/// Runs commands of ip(8), stopping at the first that fails.
fn batch(mut command: Command, script: &str) -> anyhow::Result<()> {
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context(MISSING)?;
    if let Some(mut input) = child.stdin.take() {
        // When ip has ended before it read all, its own message says more than the broken pipe.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("ip: {}", said.lines().next().unwrap_or("failed without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_what_ip_prints() {
        let up =
            "4: n1@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master switch";
        assert_eq!(port(up), Some(("n1".to_owned(), true)));
        let down = "5: n2@if2: <BROADCAST,MULTICAST> mtu 1500";
        assert_eq!(port(down), Some(("n2".to_owned(), false)));
        assert_eq!(port(""), None);
    }
}
