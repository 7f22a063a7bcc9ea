//! `Cluster`: a laboratory of a test. It comes up with the value and goes down with it, and then leaves
//! nothing behind: no process, no mount, no interface, no directory.

use std::panic::Location;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::{Machine, Node, binary, programs};

/// How a cluster is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Number of nodes, n1 and so on.
    pub nodes: u32,
    /// Fourth field of the nodes' fstab line; as in fstab.example if `None`.
    pub mount_options: Option<String>,
    /// Nodes without mfsd and without /mfs, for tests of forming a cluster.
    pub bare: bool,
    /// Processors that each node may use; not limited if `None`.
    pub cpus: Option<String>,
    /// Nothing is encrypted between the nodes.
    pub plaintext: bool,
}

/// A running laboratory.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    setup: Setup,
    before: Machine,
}

/// Makes the names of one process's clusters differ.
static COUNT: AtomicU32 = AtomicU32::new(1);

// === impl Setup ===

impl Setup {
    /// So many nodes, mounted as the example says.
    pub const fn nodes(nodes: u32) -> Self {
        Self { nodes, mount_options: None, bare: false, cpus: None, plaintext: false }
    }

    /// With these mount options.
    #[must_use]
    pub fn mounted(mut self, options: &str) -> Self {
        self.mount_options = Some(options.to_owned());
        self
    }

    /// With so many processors each.
    #[must_use]
    pub fn cpus(mut self, cpus: &str) -> Self {
        self.cpus = Some(cpus.to_owned());
        self
    }

    /// Without encryption.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// Without a cluster on the nodes.
    #[must_use]
    pub const fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Brings it up; returns when every node sees every other.
    ///
    /// # Panics
    /// If it does not come up: with what `mfs lab up` said.
    #[track_caller]
    pub fn up(self) -> Cluster {
        Cluster::up(self)
    }
}

// === impl Cluster ===

impl Cluster {
    #[track_caller]
    fn up(setup: Setup) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t-{}-{number}", std::process::id());
        let nodes = setup.nodes.to_string();
        // A test that is killed takes its laboratory with it.
        let own = std::process::id().to_string();
        let mut words = vec!["up", "--name", &name, "--nodes", &nodes, "--with-pid", &own];
        if let Some(options) = &setup.mount_options {
            words.extend(["--mount-options", options]);
        }
        if let Some(cpus) = &setup.cpus {
            words.extend(["--cpus", cpus]);
        }
        if setup.plaintext {
            words.extend(["--transport", "plaintext"]);
        }
        if setup.bare {
            words.push("--bare");
        }
        let before = Machine::look();
        let output = lab(&words);
        let place = Location::caller();
        assert!(output.status.success(), "{place}: mfs lab {}: {}", words.join(" "), said(&output));
        Self { name, setup, before }
    }

    /// The laboratory's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node n`number`.
    pub fn node(&self, number: u32) -> Node<'_> {
        assert!((1..=self.setup.nodes).contains(&number), "there is no n{number}");
        Node::new(self, number)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        (1..=self.setup.nodes).map(|number| self.node(number))
    }

    /// What `mfs lab ls --json` says of it.
    pub fn describe(&self) -> Value {
        let output = lab(&["ls", "--json"]);
        assert!(output.status.success(), "mfs lab ls: {}", said(&output));
        let all: Value =
            serde_json::from_slice(&output.stdout).expect("mfs lab ls --json prints JSON");
        let labs = all.as_array().expect("an array of laboratories");
        let own = labs.iter().find(|lab| lab["name"] == self.name.as_str());
        own.unwrap_or_else(|| panic!("{} is not in {all}", self.name)).clone()
    }

    /// `mfs lab COMMAND --name THIS NODE`.
    pub(crate) fn change(&self, command: &[&str], node: &str) {
        self.change_with(command, node, &[]);
    }

    /// As [`Self::change`], with more in the environment of what it starts.
    pub(crate) fn change_with(&self, command: &[&str], node: &str, more: &[(&str, &str)]) {
        let mut words = command.to_vec();
        words.extend(["--name", &self.name, node]);
        let output = lab_with(&words, more);
        assert!(output.status.success(), "mfs lab {}: {}", words.join(" "), said(&output));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = lab(&["down", "--name", &self.name]);
        let complaint = if output.status.success() {
            self.before.left_behind(&self.name)
        } else {
            vec![format!("mfs lab down --name {}: {}", self.name, said(&output))]
        };
        // A second panic would end the process and hide the first.
        if !complaint.is_empty() {
            let complaint = format!("the laboratory left:\n  {}", complaint.join("\n  "));
            if std::thread::panicking() {
                eprintln!("{complaint}");
            } else {
                panic!("{complaint}");
            }
        }
    }
}

/// Runs `mfs lab`.
fn lab(words: &[&str]) -> Output {
    lab_with(words, &[])
}

fn lab_with(words: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary("mfs"));
    command.arg("lab").args(words).stdin(std::process::Stdio::null());
    programs::with_criu(&mut command);
    command.envs(environment.iter().copied());
    command.output().expect("mfs starts")
}

/// All that a program printed.
fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}; {} {}", output.status, text(&output.stdout), text(&output.stderr))
}
