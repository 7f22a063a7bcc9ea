//! The keeper of a lab: a process that holds the namespace of the switch, and takes the lab down when
//! whoever wanted it has ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

use super::down;
use super::node::NAME;
use super::process::Process;
use super::root;
use super::state::Home;
use super::switch;
use super::sys::{self, Setup};
use crate::out::line;

/// A keeper that takes the lab down as soon as this is dropped, even by the end of the process; until
/// [`Leash::release`].
#[derive(Debug)]
pub(super) struct Leash {
    _child: Child,
    line: ChildStdin,
}

// === impl Leash ===

impl Leash {
    /// Starts the keeper of the lab at `home`, whose directory exists; returns when its switch works.
    pub(super) fn start(home: &Home) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(home.dir().join("log"))?;
        let mut command = Command::new("/proc/self/exe");
        std::os::unix::process::CommandExt::arg0(&mut command, NAME);
        command.args(home.keeper_words()).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        sys::prepare(&mut command, Setup { new_session: true, ..Setup::default() });
        let mut child = command.spawn().context("cannot start the lab's keeper")?;
        let pid = i32::try_from(child.id())?;
        let keeper = Process::open(pid).context("the lab's keeper ended at once")?;
        home.set_keeper(&keeper)?;
        let (Some(line), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the lab's keeper has no streams")
        };
        let mut answer = String::new();
        BufReader::new(said).read_line(&mut answer)?;
        match answer.trim_end() {
            "ready" => Ok(Self { _child: child, line }),
            "" => bail!("the lab's keeper ended without a message"),
            why => bail!("{why}"),
        }
    }

    /// Lets the lab live on: for ever, or until process `owner` ends.
    pub(super) fn release(mut self, owner: Option<i32>) -> anyhow::Result<()> {
        writeln!(self.line, "live {}", owner.unwrap_or(0)).context("the lab's keeper has ended")
    }
}

/// The keeper itself, a hidden command of `mfs`.
pub(super) fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let prepared = prepare(home);
    let answer = match &prepared {
        Ok(()) => "ready".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    line(answer)?;
    if prepared.is_err() {
        return Ok(ExitCode::FAILURE);
    }
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    let line = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    sys::replace_standard_streams(&nowhere)?;

    let mut order = String::new();
    // An error reads as an end without an order.
    let _ = File::from(line).read_to_string(&mut order);
    let owner = order.strip_prefix("live ").and_then(|owner| owner.trim_end().parse::<i32>().ok());
    match owner {
        // Whoever was bringing the lab up ended before it was complete.
        None => {}
        Some(0) => loop {
            // Nothing left to do but to exist, until `lab down` kills this process.
            let _ = poll(&mut [], None);
        },
        Some(owner) => {
            if let Some(owner) = Process::open(owner) {
                let mut fds = [PollFd::new(&owner, PollFlags::IN)];
                let _ = rustix::io::retry_on_intr(|| poll(&mut fds, None));
            }
        }
    }
    let lock = home.lock()?;
    down::take_down(home, &lock)?;
    Ok(ExitCode::SUCCESS)
}

fn prepare(home: &Home) -> anyhow::Result<()> {
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET).context("cannot make namespaces")?;
    // What the machine unmounts is to be unmounted here too, or this process would keep it busy.
    let follow = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", follow).context("cannot separate the mounts")?;
    let layers = home.dir().join("layers");
    fs::create_dir_all(&layers).with_context(|| format!("cannot make {}", layers.display()))?;
    if !root::can_be_upper(&layers)? {
        // Not every file system can hold the upper layer of an overlay: another overlay cannot.
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", &layers, "tmpfs", flags, Some(c"mode=0700"))
            .with_context(|| format!("cannot mount memory on {}", layers.display()))?;
        if !root::can_be_upper(&layers)? {
            bail!(
                "this kernel mounts no overlay over /: does it have overlayfs (modprobe overlay)?"
            );
        }
    }
    switch::build()
}
