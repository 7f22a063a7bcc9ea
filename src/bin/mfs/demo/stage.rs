//! The stage of the demo: its lab, the commands in it, and what is printed of them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mfs::clock;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::out::line;

/// A lab that is being shown.
#[derive(Debug)]
pub(super) struct Stage {
    lab: String,
}

/// A command in a node of the lab.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    /// Where it runs.
    pub node: &'static str,
    /// What a shell there is given; printed.
    pub script: &'static str,
    /// Standard input of it, and what is printed instead of the script.
    pub input: Option<(&'static str, &'static str)>,
}

/// A command that goes on while others are played. Dropped, it is ended.
pub(super) struct Begun(tokio::task::JoinSet<anyhow::Result<String>>);

/// After this long without a word the demo says that it still works.
const SILENCE: Duration = Duration::from_secs(2);

/// No part of the demo takes this long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Lines printed of what one command says.
const LINES: usize = 5;

/// Characters printed of a line.
const WIDTH: usize = 100;

// === impl Scene ===

impl Scene {
    /// A script that is short enough to be read.
    pub(super) const fn new(node: &'static str, script: &'static str) -> Self {
        Self { node, script, input: None }
    }
}

// === impl Begun ===

impl Begun {
    /// Waits for its end, and prints it; what it said.
    pub(super) async fn end(mut self) -> anyhow::Result<String> {
        let ended = tokio::time::timeout(PATIENCE, self.0.join_next()).await;
        let ended = ended.context("a command does not end")?.context("it was begun")?;
        let said = ended.context("a scene broke off")??;
        print_some(&said)?;
        Ok(said)
    }
}

// === impl Stage ===

impl Stage {
    /// A lab that no other demo uses; it does not exist yet.
    pub(super) fn new() -> Self {
        Self { lab: format!("demo-{}", std::process::id()) }
    }

    /// Brings the lab up. It goes with this process, however that ends.
    pub(super) async fn raise(&self, nodes: u16) -> anyhow::Result<()> {
        let (nodes, this) = (nodes.to_string(), std::process::id().to_string());
        line(format_args!("$ mfs lab up --name {} --nodes {nodes}", self.lab))?;
        let mut up = self.lab_command("up");
        up.args(["--nodes", &nodes, "--with-pid", &this]);
        let status = up.status().await.context("cannot call mfs lab")?;
        if !status.success() {
            bail!("the lab did not come up");
        }
        Ok(())
    }

    /// Takes the lab down, in whatever state it is; says nothing when there is none.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        let output = self.lab_command("down").stderr(Stdio::piped()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && !said.contains("there is no lab") {
            bail!("the lab is not taken down: {}", said.trim().trim_start_matches("mfs: "));
        }
        Ok(())
    }

    /// Does something to a node from outside: `kill`, `start`, `partition`, ...
    pub(super) async fn act(&self, what: &str, node: &str) -> anyhow::Result<()> {
        line(format_args!("$ mfs lab {what} {node}"))?;
        let status = self.lab_command(what).arg(node).status().await?;
        if !status.success() {
            bail!("mfs lab {what} {node} failed");
        }
        Ok(())
    }

    /// Plays scenes at the same time, and prints each; what they said, in their order.
    pub(super) async fn play(&self, scenes: &[Scene]) -> anyhow::Result<Vec<String>> {
        for scene in scenes {
            let shown = scene.input.map_or(scene.script, |(_, shown)| shown);
            line(format_args!("{}$ {shown}", scene.node))?;
        }
        let mut all = tokio::task::JoinSet::new();
        for (place, &scene) in scenes.iter().enumerate() {
            let command = self.command(&scene);
            all.spawn(async move { (place, output(command, scene).await) });
        }
        let mut said = vec![String::new(); scenes.len()];
        let started = clock::now();
        while !all.is_empty() {
            match tokio::time::timeout(SILENCE, all.join_next()).await {
                Ok(Some(ended)) => {
                    let (place, output) = ended.context("a scene broke off")?;
                    said[place] = output?;
                }
                Ok(None) => break,
                Err(_) => patience(started)?,
            }
        }
        said.iter().try_for_each(|said| print_some(said))?;
        Ok(said)
    }

    /// As [`play`](Self::play), for one scene.
    pub(super) async fn play_one(&self, scene: Scene) -> anyhow::Result<String> {
        Ok(self.play(&[scene]).await?.remove(0))
    }

    /// Begins a scene, as a shell does with `&`.
    pub(super) fn begin(&self, scene: Scene) -> anyhow::Result<Begun> {
        line(format_args!("{}$ {} &", scene.node, scene.script))?;
        let mut begun = tokio::task::JoinSet::new();
        begun.spawn(output(self.command(&scene), scene));
        Ok(Begun(begun))
    }

    fn command(&self, scene: &Scene) -> Command {
        let mut command = self.lab_command("exec");
        command.args([scene.node, "--", "sh", "-c", scene.script, "sh"]);
        command.stdin(if scene.input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn lab_command(&self, what: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("mfs").args(["lab", what, "--name", &self.lab]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        // A terminal's Ctrl-C is for the demo alone, which ends what it has begun; it would otherwise be
        // a matter of luck whether the demo hears of it before its command has failed.
        command.process_group(0);
        command
    }
}

/// Runs a command of the lab to its end.
async fn output(mut command: Command, scene: Scene) -> anyhow::Result<String> {
    let mut child = command.spawn().context("cannot call mfs lab")?;
    if let (Some(mut pipe), Some((input, _))) = (child.stdin.take(), scene.input) {
        pipe.write_all(input.as_bytes()).await.context("the command took no input")?;
    }
    let output = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    print_some(&said)?;
    print_some(&String::from_utf8_lossy(&output.stderr))?;
    bail!("on {}, `{}` failed ({})", scene.node, scene.script, output.status)
}

fn patience(started: Instant) -> anyhow::Result<()> {
    let waited = clock::now().duration_since(started);
    line(format_args!("    ... {} s", waited.as_secs()))?;
    if waited > PATIENCE {
        bail!("nothing happens any more after {} s", PATIENCE.as_secs());
    }
    Ok(())
}

/// Prints the last lines of what a command said.
fn print_some(said: &str) -> anyhow::Result<()> {
    let lines: Vec<&str> = said.lines().collect();
    let left_out = lines.len().saturating_sub(LINES);
    if left_out > 0 {
        line(format_args!("    ... {left_out} more above"))?;
    }
    lines.iter().skip(left_out).try_for_each(|said| match said.char_indices().nth(WIDTH) {
        Some((end, _)) => line(format_args!("    {} ...", &said[..end])),
        None => line(format_args!("    {said}")),
    })
}
