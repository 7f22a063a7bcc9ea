//! Restoring: brings a job back from images that another node made, with CRIU.
//!
//! The home's tree and the cluster's are mounted in a namespace of the keeper's own; CRIU makes the job's
//! namespaces from them. The first process becomes a child of the keeper, as if it had been begun here.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mfs_init::{Notice, Restore, Task, read_frame, write_frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, waitpid};
use rustix::thread::UnshareFlags;

use crate::call::JobUser;
use crate::keeper::Ends;
use crate::refusal::{OrRefuse, Refusal};
use crate::{gate, sys, view};

/// Where CRIU says what it did, beside the images.
const LOG: &str = "restore.log";
/// Where it leaves the number of the first process.
const NUMBER: &str = "first.pid";
/// How long CRIU may take to end what it has restored when nobody wants it any more.
const LAST_WORD: Duration = Duration::from_secs(20);

/// Restores a job, holds it until the daemon lets it go, and lets it go.
pub(super) fn restore(
    ends: Ends,
    brought: &Restore,
    user: Option<JobUser>,
) -> Result<(UnixStream, Pid), Refusal> {
    let exe = fs::read_link("/proc/self/exe").or_refuse("find its own program")?;
    sys::unshare(UnshareFlags::NEWNS).or_refuse("have namespaces of its own")?;
    let [root, cluster] = view::prepare(&brought.view, &brought.cluster, &brought.scratch)?;
    let [restored, go] = gate::pipes(&brought.images);
    for pipe in [&restored, &go] {
        mknodat(CWD, pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .or_refuse("have a gate")?;
    }
    // Open in both directions, so that neither side waits for the other to open it.
    let open = |path: &Path| File::options().read(true).write(true).open(path);
    let restored = open(&restored).or_refuse("have a gate")?;
    let go = open(&go).or_refuse("have a gate")?;
    let criu = start(&ends, brought, user, &exe, &root, &cluster)?;
    let Ends { daemon, orders, reports } = ends;
    drop((orders, reports));
    attend(&daemon, criu, restored, go, &brought.images)?;
    let number =
        fs::read_to_string(brought.images.join(NUMBER)).or_refuse("find its first process")?;
    let first = number.trim().parse().ok().and_then(Pid::from_raw);
    let first = first.ok_or_else(|| Refusal::new("the job has no first process"))?;
    // Nothing of the machine's mounts stays in use because of this job.
    view::leave(&brought.scratch)?;
    Ok((daemon, first))
}

fn start(
    ends: &Ends,
    brought: &Restore,
    user: Option<JobUser>,
    gate: &Path,
    root: &Path,
    cluster: &Path,
) -> Result<Child, Refusal> {
    let mut command = Command::new(&brought.criu);
    command.args(["restore", "-v2", "-o", LOG, "--pidfile", NUMBER, "--manage-cgroups=ignore"]);
    command.args(["--restore-detached", "--restore-sibling", "--tcp-established", "--file-locks"]);
    command.arg("--action-script").arg(gate);
    command.arg("--images-dir").arg(&brought.images).arg("--root").arg(root);
    command.arg("--external").arg(format!("mnt[root]:{}", root.display()));
    command.arg("--external").arg(format!("mnt[mfs]:{}", cluster.display()));
    let streams = &brought.streams;
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let passed = [
        (input.as_fd(), streams.input),
        (output.as_fd(), streams.output),
        (error.as_fd(), streams.error),
        (ends.orders.as_fd(), streams.orders),
        (ends.reports.as_fd(), streams.reports),
    ];
    let mut copies: Vec<OwnedFd> = Vec::new();
    for (end, image) in passed {
        let copy = sys::inheritable(end).or_refuse("pass on its streams")?;
        command.arg("--inherit-fd").arg(format!("fd[{}]:pipe:[{image}]", copy.as_raw_fd()));
        copies.push(copy);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = user {
        user.lend(&mut command);
    }
    let started = command.spawn();
    started.or_refuse(format_args!("be restored by {}", brought.criu.display()))
}

/// Waits until the job is restored, and then for the daemon's word.
fn attend(
    daemon: &UnixStream,
    mut criu: Child,
    mut restored: File,
    mut go: File,
    images: &Path,
) -> Result<(), Refusal> {
    let number = i32::try_from(criu.id()).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| Refusal::new("CRIU has no number"))?;
    let ended = pidfd_open(number, PidfdFlags::empty()).or_refuse("watch CRIU")?;
    let mut is_called_off = false;
    loop {
        let mut awaited = [
            PollFd::new(&ended, PollFlags::IN),
            PollFd::new(&restored, PollFlags::IN),
            PollFd::new(daemon, PollFlags::IN | PollFlags::RDHUP),
        ];
        // Gone is gone: its descriptor would be ready all the time.
        let awaited = if is_called_off { &mut awaited[..1] } else { &mut awaited[..] };
        let patience = if is_called_off { LAST_WORD.try_into().ok() } else { None };
        let woken = rustix::io::retry_on_intr(|| poll(awaited, patience.as_ref()));
        if woken.or_refuse("watch CRIU")? == 0 {
            let _ = criu.kill();
        }
        let ready: Vec<_> = awaited.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            let status = criu.wait().or_refuse("hear of CRIU's end")?;
            if status.success() {
                return Ok(());
            }
            end_what_is_left();
            return Err(why(images));
        }
        if ready.get(1) == Some(&true) {
            let mut byte = [0];
            restored.read_exact(&mut byte).or_refuse("watch the gate")?;
            let _ = write_frame(daemon, &Notice::Prepared); // or the daemon is gone, as is seen next
        }
        if ready.get(2) == Some(&true) {
            let heard = read_frame::<Task>(daemon).ok().flatten();
            is_called_off = heard != Some(Task::Go);
            // With any other word, CRIU ends what it has restored.
            let word = if is_called_off { gate::STAY } else { gate::GO };
            go.write_all(&[word]).or_refuse("open the gate")?;
        }
    }
}

/// Ends the first process, if CRIU has died and left it: it is a child of this process.
fn end_what_is_left() {
    let own = rustix::process::getpid().as_raw_pid();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        if let Some(child) = child.parse().ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(child, Signal::KILL);
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
    }
}

/// The last error that CRIU has noted.
fn why(images: &Path) -> Refusal {
    let log = fs::read_to_string(images.join(LOG)).unwrap_or_default();
    Refusal::new(format!("the job cannot be restored: {}", mfs_init::first_error(&log)))
}
