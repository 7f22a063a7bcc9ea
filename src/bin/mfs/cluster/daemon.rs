//! Starts mfsd where it does not run yet: by systemd where there is one, else beside this command.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use mfs::config::paths;
use mfs::net::local::{LocalClient, LocalError};
use mfs_proto::v1::local_client::LocalClient as Stub;
use tonic::transport::Channel;

use super::Daemon;
use crate::out::tell;

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is tried.
const INTERVAL: Duration = Duration::from_millis(50);

/// Connects to mfsd, starting it (and enabling it at boot, where systemd does that) if it does not run.
pub(super) async fn ensure(daemon: &Daemon) -> anyhow::Result<Stub<Channel>> {
    match LocalClient::connect(&daemon.runtime).await {
        Ok(client) => {
            enable_at_boot(&daemon.runtime);
            return Ok(client.stub());
        }
        Err(LocalError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if !rustix::process::geteuid().is_root() {
        bail!("only root can start mfsd: sudo mfs ...");
    }
    let mut child = if has_systemd() && daemon.runtime == Path::new(paths::RUNTIME) {
        start_by_systemd()?;
        None
    } else {
        Some(spawn(&daemon.runtime)?)
    };
    let deadline = mfs::clock::now() + PATIENCE;
    loop {
        match LocalClient::connect(&daemon.runtime).await {
            Ok(client) => return Ok(client.stub()),
            Err(LocalError::NotRunning { .. }) if mfs::clock::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(child) = &mut child
            && let Some(status) = child.try_wait().context("mfsd was started, but is lost")?
        {
            bail!("mfsd ended at once ({status}): {}", last_words(&daemon.runtime));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn has_systemd() -> bool {
    // sd_booted(3)
    Path::new("/run/systemd/system").is_dir()
}

fn enable_at_boot(runtime: &Path) {
    if has_systemd()
        && runtime == Path::new(paths::RUNTIME)
        && let Err(error) = systemctl(&["enable", "--quiet", "mfsd.service"])
    {
        tell(format_args!("mfs: warning: mfsd runs, but will not start at boot: {error:#}"));
    }
}

/// Enables and starts the unit; why it did not start is said in the daemon's own words, if it had any.
fn start_by_systemd() -> anyhow::Result<()> {
    let began = mfs::clock::unix_seconds();
    let Err(error) = systemctl(&["enable", "--now", "mfsd.service"]) else { return Ok(()) };
    match last_words_in_journal(began) {
        Some(words) => bail!("mfsd was started by systemd and ended: {words}"),
        None => Err(error),
    }
}

/// The last line that the daemon wrote to the journal since then. What systemd itself says of the unit is not
/// among them: that the start failed is known.
fn last_words_in_journal(since: u64) -> Option<String> {
    // What was written just now may be under way still; if it cannot be waited for, it may yet be there.
    let _ = Command::new("journalctl").arg("--sync").stdin(Stdio::null()).output();
    let output = Command::new("journalctl")
        // Not --lines=1: together with --since that is the first line.
        .args(["--quiet", "--no-pager", "--output=cat"])
        .arg(format!("--since=@{since}"))
        .arg("_SYSTEMD_UNIT=mfsd.service")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    last_line(&output.stdout)
}

fn systemctl(words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("systemctl")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("cannot run systemctl")?;
    if !output.status.success() {
        bail!(
            "systemctl {} failed: {}; is mfs installed (make install)?",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Starts mfsd as a process of its own, in a session of its own, its messages in a file.
fn spawn(runtime: &Path) -> anyhow::Result<std::process::Child> {
    let program = beside_this().unwrap_or_else(|| PathBuf::from("mfsd"));
    let mut directory = fs::DirBuilder::new();
    directory.mode(0o755).recursive(true);
    directory.create(runtime).with_context(|| format!("cannot make {}", runtime.display()))?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log_file(runtime))
        .with_context(|| format!("cannot write {}", log_file(runtime).display()))?;
    Command::new(&program)
        .arg("--detach")
        .arg("--runtime")
        .arg(runtime)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| {
            format!("cannot start {}; is mfs installed (make install)?", program.display())
        })
}

/// mfsd in the directory of this command, as it is built, or in the `sbin` beside its `bin`, as it is
/// installed: what belongs together lies together, and root's PATH need not name it.
fn beside_this() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    let here = this.parent()?;
    let places = [here.join("mfsd"), here.join("../sbin/mfsd")];
    places.into_iter().find(|program| program.is_file())
}

fn log_file(runtime: &Path) -> PathBuf {
    runtime.join("mfsd.log")
}

/// The last line that the daemon wrote, which says why it ended.
fn last_words(runtime: &Path) -> String {
    let log = log_file(runtime);
    let text = fs::read(&log).unwrap_or_default();
    last_line(&text).unwrap_or_else(|| format!("see {}", log.display()))
}

fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}
