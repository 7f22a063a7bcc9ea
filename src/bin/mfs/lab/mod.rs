//! `mfs lab`: a cluster of several nodes on one machine.
//!
//! Each node has host name, network, mounts and processes of its own; what runs in it are the programs
//! and commands of real machines. The laboratory knows nothing of mfs but how to call it.
//!
//! Locks: whoever changes a lab holds its lock file ([`state::Lock`]); `exec`, `shell` and `ls` take none.

mod cgroup;
mod cluster;
mod daemon;
mod down;
mod enter;
mod faults;
mod inside;
mod keeper;
mod list;
mod mounts;
mod names;
mod node;
mod process;
mod programs;
mod progress;
mod root;
mod shell;
mod state;
mod switch;
mod sys;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use names::{LabName, LabNode};
use state::{DEFAULT_STATE, Home, Lab};

/// The arguments of `mfs lab`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory that holds the state of labs
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_STATE)]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

/// Which lab is meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// Name of the lab
    #[arg(long, value_name = "LAB", default_value = "default")]
    name: LabName,
}

/// Which node is meant.
#[derive(Debug, clap::Args)]
struct WhichNode {
    #[command(flatten)]
    lab: Which,
    /// Name of the node: n1, n2, ...
    node: LabNode,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a lab up; returns when every node sees every other in /mfs
    Up {
        #[command(flatten)]
        lab: Which,
        #[command(flatten)]
        up: up::Up,
    },
    /// Run a command in a node: its streams, signals and exit status are those of this command
    #[command(
        after_help = "Examples:\n  mfs lab exec n1 ls /mfs\n  mfs lab exec n2 -- sh -c 'echo x >/mfs/n1/tmp/x'"
    )]
    Exec {
        #[command(flatten)]
        which: WhichNode,
        /// The command and its arguments
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "CMD"
        )]
        command: Vec<OsString>,
    },
    /// Open a shell in a node
    #[command(after_help = "Examples:\n  mfs lab shell n1\n  mfs lab shell --name two n2")]
    Shell(WhichNode),
    /// Cut the power of a node: all its processes end, its link is down
    #[command(after_help = "Examples:\n  mfs lab kill n2\n  mfs lab kill --daemon n2")]
    Kill {
        #[command(flatten)]
        which: WhichNode,
        /// Kill mfsd only
        #[arg(long)]
        daemon: bool,
    },
    /// Stop mfsd and mfs-fuse of a node (SIGSTOP)
    #[command(after_help = "Examples:\n  mfs lab stop n2")]
    Stop(WhichNode),
    /// Undo kill, kill --daemon and stop; waits until the node is back
    #[command(after_help = "Examples:\n  mfs lab start n2")]
    Start(WhichNode),
    /// Cut the link of a node
    #[command(after_help = "Examples:\n  mfs lab partition n2")]
    Partition(WhichNode),
    /// Mend the link of a node; waits until nodes see each other
    #[command(after_help = "Examples:\n  mfs lab heal n2")]
    Heal(WhichNode),
    /// List labs and their nodes
    #[command(after_help = "Examples:\n  mfs lab ls\n  mfs lab ls --json")]
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a lab down: end every process in it and remove its files
    #[command(after_help = "Examples:\n  mfs lab down\n  mfs lab down --name two")]
    Down(Which),
    /// Hold the switch of a lab; started by `up`
    #[command(hide = true)]
    Keeper { name: LabName },
    /// Be the first process of a node; started by `up` and `start`
    #[command(hide = true)]
    Node { name: LabName, node: LabNode },
    /// Wait, in a node, until these nodes are in /mfs; called by `up`, `start` and `heal`
    #[command(hide = true)]
    Look {
        #[arg(long)]
        seconds: u16,
        #[arg(required = true)]
        nodes: Vec<LabNode>,
    },
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = |name: LabName| Home::new(&args.state, name);
    let lab = |name: LabName| Lab::find(home(name)?);
    match args.command {
        Command::Up { lab, up } => up.run(home(lab.name)?),
        Command::Exec { which, command } => enter::exec(lab(which.lab.name), which.node, &command),
        Command::Shell(which) => shell::run(lab(which.lab.name)?, which.node),
        Command::Kill { which, daemon: true } => {
            change(lab(which.lab.name)?, |lab| faults::kill_daemon(lab, which.node))
        }
        Command::Kill { which, daemon: false } => {
            change(lab(which.lab.name)?, |lab| faults::kill(lab, which.node))
        }
        Command::Stop(which) => change(lab(which.lab.name)?, |lab| faults::stop(lab, which.node)),
        Command::Start(which) => change(lab(which.lab.name)?, |lab| faults::start(lab, which.node)),
        Command::Partition(which) => {
            change(lab(which.lab.name)?, |lab| faults::partition(lab, which.node))
        }
        Command::Heal(which) => change(lab(which.lab.name)?, |lab| faults::heal(lab, which.node)),
        Command::Ls { json } => list::run(&home("default".parse()?)?, json),
        Command::Down(which) => down::run(&home(which.name)?),
        Command::Keeper { name } => keeper::run(&home(name)?),
        Command::Node { name, node } => node::launch(&lab(name)?, node),
        Command::Look { seconds, nodes } => {
            cluster::look(&nodes, Duration::from_secs(seconds.into()))
        }
    }
}

/// Changes a lab while nobody else does.
fn change(lab: Lab, act: impl FnOnce(&Lab) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let _held = lab.home.lock()?;
    // It may have been taken down while this waited.
    let lab = Lab::find(lab.home)?;
    act(&lab)?;
    Ok(ExitCode::SUCCESS)
}
