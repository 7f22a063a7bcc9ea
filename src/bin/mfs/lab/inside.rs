//! Runs a command in a node for the laboratory itself, and tells what it said.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::MemfdFlags;
use rustix::process::Signal;

use super::names::LabNode;
use super::node::NAME;
use super::process::Process;
use super::state::Lab;

/// A command that was started in a node.
#[derive(Debug)]
pub(super) struct Running {
    node: LabNode,
    words: String,
    child: Child,
    process: Process,
    said: File,
    complained: File,
}

// === impl Running ===

impl Running {
    /// Starts `words` in `node`. What it says goes to memory, not to a pipe: a daemon that it leaves
    /// behind would keep a pipe open.
    pub(super) fn start(
        lab: &Lab,
        node: LabNode,
        words: &[impl AsRef<OsStr>],
    ) -> anyhow::Result<Self> {
        let memory = |name: &str| -> anyhow::Result<File> {
            Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
        };
        let (said, complained) = (memory("output")?, memory("errors")?);
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg("lab").arg("--state").arg(lab.home.state());
        command.args(["exec", "--name", lab.home.name().as_str(), &node.to_string(), "--"]);
        command.args(words).stdin(Stdio::null());
        command.stdout(said.try_clone()?).stderr(complained.try_clone()?);
        let child = command.spawn().context("cannot start a process")?;
        let process = Process::child(child.id())?;
        let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        Ok(Self { node, words: words.join(" "), child, process, said, complained })
    }

    /// Waits for its end; its standard output, or an error that says what it said last.
    pub(super) fn finish(self, patience: Duration) -> anyhow::Result<String> {
        let Self { node, words, mut child, process, mut said, mut complained } = self;
        if !process.gone_within(patience) {
            process.signal(Signal::KILL)?;
            child.wait()?;
            let said = all(&mut complained)?;
            let said = said.trim();
            let colon = if said.is_empty() { "" } else { ": " };
            bail!("on {node}, `{words}` did not end within {} s{colon}{said}", patience.as_secs());
        }
        let status = child.wait()?;
        if status.success() {
            return all(&mut said);
        }
        let said = all(&mut complained)?;
        let why = said.trim().trim_start_matches("mfs: ");
        let why = if why.is_empty() { status.to_string() } else { why.to_owned() };
        bail!("on {node}, `{words}` failed: {why}")
    }
}

fn all(file: &mut File) -> anyhow::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
