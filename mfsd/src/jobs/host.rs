//! Runs a job on this node for its home: starts its first process, and carries its streams.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use mfs::jobs::{Program, Report, Setup, Terminal};
use mfs::types::{Caller, NodeName};
use mfs::wire::job::{job_ended, job_failed};
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt};

use super::init::Init;
use super::{Hosting, sys};
use crate::node::Node;

/// Most bytes of one message.
const PIECE: usize = 64 << 10;

/// Messages on their way to the home: what more is written waits in the job's own pipes.
const IN_FLIGHT: usize = 8;

/// The status that a shell gives of a program that cannot be run.
const CANNOT_RUN: u8 = 126;

/// A job to be run here.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) home: NodeName,
    pub(super) program: Program,
    /// As whom; whoever is not root here is not root.
    pub(super) caller: Caller,
    pub(super) local_tmp: bool,
}

/// The job's input, on this side.
enum Inlet {
    Pipe(Option<ChildStdin>),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

/// Runs a job. What comes out of it; the last message says how it ended. It is ended when its inputs end, or
/// nobody takes its outputs.
pub(super) fn host(
    node: &Arc<Node>,
    job: Hosted,
    inputs: impl Stream<Item = v1::JobInput> + Send + Unpin + 'static,
) -> mpsc::Receiver<Output> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let (hosting, scratch) = (node.jobs.host(), node.jobs.scratch.clone());
    tokio::spawn(async move {
        let ended = run(job, scratch, hosting, inputs, &sender).await;
        let ended = ended.unwrap_or_else(|error| job_failed(format!("{error:#}"), CANNOT_RUN));
        let _ = sender.send(Output::Ended(ended)).await; // or the home is gone
    });
    receiver
}

async fn run(
    job: Hosted,
    scratch: PathBuf,
    _hosting: Hosting,
    mut inputs: impl Stream<Item = v1::JobInput> + Send + Unpin,
    outputs: &mpsc::Sender<Output>,
) -> anyhow::Result<v1::JobEnded> {
    let setup = tokio::task::spawn_blocking(move || setup(job, scratch)).await??;
    let mut init = Init::start(setup)?;
    let pid = init.child.id().unwrap_or(0);
    let mut carried = JoinSet::new();
    let mut inlet = Inlet::Pipe(init.child.stdin.take());
    let (stdout, stderr) = (init.child.stdout.take(), init.child.stderr.take());
    if let Some(stdout) = stdout {
        carried.spawn(carry(stdout, outputs.clone(), Output::Output));
    }
    if let Some(stderr) = stderr {
        carried.spawn(carry(stderr, outputs.clone(), Output::Error));
    }
    loop {
        tokio::select! {
            report = init.reports.recv() => match report {
                Some((Report::Running, terminal)) => {
                    if let Some(terminal) = terminal {
                        let terminal = Arc::new(sys::watch(terminal)?);
                        carried.spawn(carry_terminal(Arc::clone(&terminal), outputs.clone()));
                        inlet = Inlet::Terminal(terminal);
                    }
                    let started = v1::JobStarted { pid, ..v1::JobStarted::default() };
                    outputs.send(Output::Started(started)).await?;
                }
                Some((Report::Failed(message, status), _)) => return Ok(job_failed(message, status)),
                Some((Report::Ended(ended), _)) => {
                    drop(inlet);
                    // What it has written comes first.
                    while carried.join_next().await.is_some() {}
                    return Ok(job_ended(ended));
                }
                None => anyhow::bail!("its first process has ended without a word"),
            },
            input = inputs.next() => {
                let Some(kind) = input.and_then(|input| input.kind) else {
                    anyhow::bail!("its home is gone");
                };
                take(&init, &mut inlet, kind).await;
            }
            () = outputs.closed() => anyhow::bail!("its home is gone"),
        }
    }
}

/// What goes into the job.
async fn take(init: &Init, inlet: &mut Inlet, input: Input) {
    match (input, inlet) {
        (Input::Input(bytes), Inlet::Pipe(pipe)) => {
            // Whoever has closed its input wants no more.
            if let Some(open) = pipe
                && open.write_all(&bytes).await.is_err()
            {
                *pipe = None;
            }
        }
        (Input::Input(bytes), Inlet::Terminal(terminal)) => {
            let _ = type_on(terminal, &bytes).await; // the program may have ended
        }
        (Input::InputEnd(_), Inlet::Pipe(pipe)) => *pipe = None,
        (Input::Size(size), Inlet::Terminal(terminal)) => {
            let Terminal { rows, columns } = size.into();
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(terminal.get_ref(), size); // as above
        }
        (Input::Signal(signal), _) => init.signal(signal),
        (Input::InputEnd(_), Inlet::Terminal(_)) | (Input::Size(_), Inlet::Pipe(_)) => {}
        (Input::Start(_), _) => tracing::debug!("a job was started twice; it runs on"),
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    to: mpsc::Sender<Output>,
    as_output: fn(Bytes) -> Output,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if to.send(as_output(Bytes::copy_from_slice(&piece[..length]))).await.is_err() {
            return;
        }
    }
}

async fn carry_terminal(from: Arc<AsyncFd<OwnedFd>>, to: mpsc::Sender<Output>) {
    let mut piece = vec![0; PIECE];
    loop {
        let Ok(mut ready) = from.readable().await else { return };
        let read = ready.try_io(|fd| Ok(rustix::io::read(fd.as_fd(), &mut piece)?));
        match read {
            // EIO: nobody has the terminal open any more (pty(7)).
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(length)) => {
                let bytes = Bytes::copy_from_slice(&piece[..length]);
                if to.send(Output::Output(bytes)).await.is_err() {
                    return;
                }
            }
            Err(_not_yet) => {}
        }
    }
}

async fn type_on(terminal: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = terminal.writable().await?;
        if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.as_fd(), bytes)?)) {
            bytes = &bytes[written?..];
        }
    }
    Ok(())
}

/// What its first process needs. Looks at mounts, so it may block.
fn setup(job: Hosted, scratch: PathBuf) -> anyhow::Result<Setup> {
    let Hosted { home, program, caller, local_tmp } = job;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let cluster = mounted(&mounts).ok_or_else(|| {
        anyhow::anyhow!(
            "the cluster is not mounted on this node, so there is no tree to show: mount /mfs"
        )
    })?;
    match std::fs::create_dir(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    Ok(Setup {
        view: cluster.join(home.as_str()),
        program,
        uid: caller.uid,
        gid: caller.gid,
        groups: caller.groups.to_vec(),
        cluster,
        scratch,
        host_name: home.to_string(),
        local_tmp,
    })
}

/// Where the cluster is mounted: at /mfs, or the first place.
fn mounted(mounts: &str) -> Option<PathBuf> {
    let places = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "fuse.mfs").then_some(place)
    });
    let places: Vec<&str> = places.collect();
    let usual = places.iter().find(|place| **place == "/mfs").or(places.first())?;
    Some(PathBuf::from(usual.replace("\\040", " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_place_comes_first() {
        let mounts =
            "proc /proc proc rw 0 0\nmfs /other fuse.mfs rw 0 0\nmfs /mfs fuse.mfs rw 0 0\n";
        assert_eq!(mounted(mounts), Some(PathBuf::from("/mfs")));
        assert_eq!(mounted("mfs /a\\040b fuse.mfs rw 0 0\n"), Some(PathBuf::from("/a b")));
        assert_eq!(mounted("proc /proc proc rw 0 0\n"), None);
    }
}
