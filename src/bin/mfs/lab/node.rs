//! A node's processes of its own: the one that makes its namespaces, and the first one in them.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use rustix::process::WaitOptions;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use super::cgroup;
use super::names::LabNode;
use super::process::Process;
use super::root;
use super::state::Lab;
use super::switch;
use super::sys::{self, Fork, Setup, Signals};

/// Name of this program in the list of processes.
pub(super) const NAME: &str = "mfs";

/// Switches a node on: its namespaces, its root, its link. What runs in it is the caller's affair.
pub(super) fn start(lab: &Lab, node: LabNode) -> anyhow::Result<Process> {
    let keeper = lab.keeper()?;
    let dir = lab.home.node_dir(node);
    for (part, mode) in [("data", 0o755), ("mfs", 0o700), ("root", 0o755)] {
        let part = dir.join(part);
        fs::create_dir_all(&part)
            .and_then(|()| fs::set_permissions(&part, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot make {}", part.display()))?;
    }
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let mut command = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, NAME);
    command.args(lab.home.node_words()).arg(node.to_string());
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let cgroup = match lab.settings.cpus {
        Some(_) => Some(cgroup::door(&lab.home, node)?),
        None => None,
    };
    sys::prepare(&mut command, Setup { cgroup, new_session: true, ..Setup::default() });
    let mut launcher = command.spawn().context("cannot start a process for the node")?;
    let said = launcher.stdout.take().context("the node has no output")?;
    let init = hear(said, node, |init| lab.home.set_init(node, init));
    launcher.wait()?;
    let init = init?;
    // A port is left when the node was switched off half way.
    switch::unplug(&keeper, node)?;
    switch::plug(&keeper, node, &init)?;
    Ok(init)
}

/// Waits for what the processes of a starting node report: `pid N`, then `ready` or `error: ...`.
fn hear(
    said: impl std::io::Read,
    node: LabNode,
    remember: impl Fn(&Process) -> anyhow::Result<()>,
) -> anyhow::Result<Process> {
    let mut init = None;
    for line in BufReader::new(said).lines() {
        match line?.split_once(' ') {
            Some(("pid", pid)) => {
                let process = Process::open(pid.parse()?).context("the node ended at once")?;
                remember(&process)?;
                init = Some(process);
            }
            Some(("ready", _)) => return init.context("the node did not name its first process"),
            Some(("error", why)) => bail!("cannot start {node}: {why}"),
            _ => {}
        }
    }
    bail!("cannot start {node}: it ended without a message")
}

/// The process that makes the namespaces, a hidden command of `mfs`: forks the first process of the node,
/// which goes on in here, and ends.
pub(super) fn launch(lab: &Lab, node: LabNode) -> anyhow::Result<ExitCode> {
    let tell = |line: &str| {
        let mut out = std::io::stdout();
        // Nobody may listen any more; then there is nobody to tell so.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    match split(lab) {
        Ok(Fork::Parent(child)) => {
            tell(&format!("pid {}", child.as_raw_nonzero()));
            Ok(ExitCode::SUCCESS)
        }
        Ok(Fork::Child) => {
            // As the first process of a namespace it would end all others with it, so it never returns.
            let error = match become_node(lab, node, &tell) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            tell(&format!("error {error:#}"));
            std::process::exit(1)
        }
        Err(error) => {
            tell(&format!("error {error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn split(lab: &Lab) -> anyhow::Result<Fork> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // The keeper's mounts, because the nodes' layers may lie in memory that only it has mounted.
    rustix::thread::move_into_thread_name_spaces(
        std::os::fd::AsFd::as_fd(&lab.keeper()?),
        ThreadNameSpaceType::MOUNT,
    )
    .context("cannot enter the mounts of the lab's keeper")?;
    sys::unshare(
        UnshareFlags::NEWNS
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWPID,
    )
    .context("cannot make namespaces")?;
    sys::fork().context("cannot fork")
}

fn become_node(
    lab: &Lab,
    node: LabNode,
    tell: &dyn Fn(&str),
) -> anyhow::Result<std::convert::Infallible> {
    let signals = Signals::take(&[libc::SIGCHLD])?;
    rustix::system::sethostname(node.to_string().as_bytes()).context("cannot set the host name")?;
    root::enter(lab, node)?;
    tell("ready .");
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    sys::replace_standard_streams(&nowhere)?;
    set_name(c"mfs-lab-init");
    loop {
        reap();
        signals.next()?;
    }
}

/// Takes note of every process that has ended: those whose parents are gone are children of this one.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// Names this process for `ps` and `top` in the node.
fn set_name(name: &CStr) {
    // Cosmetic: a node whose first process has another name works as well.
    let _ = rustix::thread::set_name(name);
}
