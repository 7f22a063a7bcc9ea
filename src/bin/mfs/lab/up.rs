//! `mfs lab up`.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::process::ExitCode;

use anyhow::{Context, bail};
use mfs::clock;

use super::cgroup;
use super::cluster;
use super::down;
use super::keeper::Leash;
use super::names::{LabNode, MOST_NODES};
use super::node;
use super::process::Process;
use super::programs::Programs;
use super::progress::Progress;
use super::state::{Home, Lab, Settings};
use crate::out::print;

/// How the nodes talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Transport {
    /// Encrypted, with certificates on both sides
    Tls,
    /// Not encrypted: to measure what encryption costs
    Plaintext,
}

/// The arguments of `mfs lab up`.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(
    after_help = "Examples:\n  mfs lab up\n  mfs lab up --name two --nodes 2 --mount-options dfsa=0\n  mfs lab up --bare --cpus 0.5"
)]
pub(super) struct Up {
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_NODES)))]
    nodes: u16,
    /// Processors that each node may use, such as 0.5
    #[arg(long, value_name = "X", value_parser = cpus)]
    cpus: Option<f64>,
    /// How the nodes talk to each other
    #[arg(long, value_enum, default_value_t = Transport::Tls)]
    transport: Transport,
    /// Mount options in the nodes' /etc/fstab
    #[arg(long, value_name = "OPTIONS", default_value = "dfsa=1", value_parser = mount_options)]
    mount_options: String,
    /// Nodes without a cluster: neither mfsd nor /mfs runs in them
    #[arg(long)]
    bare: bool,
    /// Take the lab down when process PID ends
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    with_pid: Option<i32>,
}

// === impl Up ===

impl Up {
    /// Brings the lab up at `home`, or leaves nothing behind.
    pub(super) fn run(self, home: Home) -> anyhow::Result<ExitCode> {
        let progress = Progress::begin();
        if !self.bare {
            Programs::beside_this()?.complete()?;
        }
        if let Some(pid) = self.with_pid.filter(|&pid| Process::open(pid).is_none()) {
            bail!("there is no process {pid} to take the lab down with");
        }
        let held = home.lock()?;
        if home.is_complete() && home.keeper().is_some() {
            let name = home.name();
            bail!(
                "lab {name} is up already: mfs lab down --name {name} ends it, --name OTHER makes another"
            );
        }
        // What an earlier one that was killed half way left.
        down::clear(&home).context("cannot clear what is left of an earlier lab")?;
        let lab = Lab { home, settings: self.settings() };
        if let Err(error) = self.build(&lab, &progress) {
            // The first reason is the one to tell; a second one goes with it.
            return match down::take_down(&lab.home, &held) {
                Ok(()) => Err(error),
                Err(more) => Err(error.context(format!("{more:#}; before that"))),
            };
        }
        drop(held);
        let (name, seconds) = (lab.home.name(), progress.seconds());
        let nodes = lab.nodes().map(|node| node.to_string()).collect::<Vec<_>>().join(" ");
        print(&format!("lab {name} is up after {seconds:.1} s: {nodes}\n"))
    }

    fn settings(&self) -> Settings {
        Settings {
            nodes: self.nodes,
            cpus: self.cpus,
            plaintext: self.transport == Transport::Plaintext,
            mount_options: self.mount_options.clone(),
            bare: self.bare,
            created: clock::unix_seconds(),
        }
    }

    fn build(&self, lab: &Lab, progress: &Progress) -> anyhow::Result<()> {
        let dir = lab.home.dir();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
        let leash = Leash::start(&lab.home)?;
        lab.save()?;
        if let Some(cpus) = lab.settings.cpus {
            cgroup::create(&lab.home, lab.nodes(), cpus)?;
        }
        let nodes: Vec<LabNode> = lab.nodes().collect();
        progress.step(&format!(
            "starting {} node{}",
            nodes.len(),
            if nodes.len() == 1 { "" } else { "s" }
        ));
        for (place, &node) in nodes.iter().enumerate() {
            node::start(lab, node)?;
            progress.count("started", place + 1, nodes.len());
        }
        if !self.bare {
            cluster::form(lab, progress)?;
            progress.step("mounting /mfs");
            cluster::mount(lab, &nodes, progress)?;
            cluster::wait_for_sight(lab, &nodes, progress)?;
        }
        lab.home.set_complete()?;
        leash.release(self.with_pid)
    }
}

/// Reads a number of processors. The kernel's smallest quota is a hundredth of one.
fn cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.01..=1024.0).contains(&cpus) => Ok(cpus),
        _ => Err("a number of processors from 0.01 to 1024".to_owned()),
    }
}

/// Refuses what would not stay one field of one fstab line; mount(8) says about the words themselves.
fn mount_options(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_graphic() && c != '\\' && c != '#';
    match text.chars().all(fits) && !text.is_empty() && text.len() <= 1000 {
        true => Ok(text.to_owned()),
        false => Err("mount options as in fstab, separated by commas, without blanks".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_that_mean_nothing_are_refused() {
        assert_eq!(cpus("0.5"), Ok(0.5));
        for bad in ["", "0", "-1", "nan", "inf", "1e9", "0.001", "1,5", "two"] {
            assert!(cpus(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mount_options_stay_in_their_field() {
        assert!(mount_options("dfsa=0,ro").is_ok());
        for bad in ["", "dfsa=0 ro", "dfsa=0\nx", "a\\040b", "#", "ä"] {
            assert!(mount_options(bad).is_err(), "{bad:?}");
        }
    }
}
