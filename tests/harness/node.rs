//! `Node`: one machine of a laboratory, from a test's side.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::{Cluster, binary, programs};

/// A node of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    cluster: &'a Cluster,
    number: u32,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

// === impl Node ===

impl<'a> Node<'a> {
    pub(crate) const fn new(cluster: &'a Cluster, number: u32) -> Self {
        Self { cluster, number }
    }

    /// Its name in the cluster.
    pub fn name(&self) -> String {
        format!("n{}", self.number)
    }

    /// A command to be run inside it, for more than its output.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(binary("mfs"));
        programs::with_criu(&mut command);
        command.args(["lab", "exec", "--name", self.cluster.name(), &self.name(), "--"]);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a line of shell inside it.
    pub fn try_run(&self, line: &str) -> Ran {
        let output = self.command("sh").args(["-c", line]).output().expect("mfs lab exec starts");
        Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a line of shell inside it and answers what it printed, without the last line's end.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let ran = self.try_run(line);
        assert!(ran.status.success(), "{}: {line}\n{}\n{}", self.name(), ran.status, ran.stderr);
        ran.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs a line of shell inside it that must fail, and answers its complaint.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let ran = self.try_run(line);
        assert!(!ran.status.success(), "{}: {line}\nsucceeded: {}", self.name(), ran.stdout);
        ran.stderr
    }

    /// Its tree as this process sees it: `/proc/PID/root` of its first process.
    pub fn root(&self) -> PathBuf {
        let pid = self.described()["pid"].as_u64().expect("the node is on");
        PathBuf::from(format!("/proc/{pid}/root"))
    }

    /// A path of its own tree as this process sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// The figures of its daemon.
    pub fn daemon_figures(&self) -> Value {
        self.figures()["daemon"]["metrics"].clone()
    }

    /// The figures of its mount at /mfs.
    pub fn mount_figures(&self) -> Value {
        self.figures()["mounts"][0]["metrics"].clone()
    }

    /// Cuts its power: all its processes are killed, its link goes down.
    pub fn kill(&self) {
        self.cluster.change(&["kill"], &self.name());
    }

    /// Kills its mfsd.
    pub fn kill_daemon(&self) {
        self.cluster.change(&["kill", "--daemon"], &self.name());
    }

    /// Stops its mfsd and its mount, as SIGSTOP does.
    pub fn stop(&self) {
        self.cluster.change(&["stop"], &self.name());
    }

    /// Undoes `kill`, `kill_daemon` and `stop`.
    pub fn start(&self) {
        self.cluster.change(&["start"], &self.name());
    }

    /// As [`Self::start`], with fail points armed in its mfsd (`mfs::failpoint`).
    pub fn start_failing(&self, points: &str) {
        self.cluster.change_with(&["start"], &self.name(), &[("MFS_FAIL", points)]);
    }

    /// Cuts its link.
    pub fn partition(&self) {
        self.cluster.change(&["partition"], &self.name());
    }

    /// Mends its link.
    pub fn heal(&self) {
        self.cluster.change(&["heal"], &self.name());
    }

    /// Whether its mfsd runs, by the laboratory's own account: what `start` goes by.
    pub fn has_daemon(&self) -> bool {
        self.described()["state"] != "no-daemon"
    }

    fn figures(&self) -> Value {
        let json = self.run("mfs stats --json");
        serde_json::from_str(&json).expect("mfs stats --json prints JSON")
    }

    fn described(&self) -> Value {
        let lab = self.cluster.describe();
        let nodes = lab["nodes"].as_array().expect("a laboratory has nodes");
        let own = nodes.iter().find(|node| node["name"] == self.name().as_str());
        own.unwrap_or_else(|| panic!("{} is not in {lab}", self.name())).clone()
    }
}
