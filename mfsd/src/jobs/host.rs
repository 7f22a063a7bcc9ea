//! Runs a job on this node for its home: begins it or brings it here, carries its streams, and freezes it when it
//! is to move on.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use anyhow::{anyhow, bail};
use bytes::{Bytes, BytesMut};
use mfs::jobs::{JobId, Notice, Order, Program, Report, Restore, Setup, Task};
use mfs::types::{Caller, NodeName};
use mfs::wire::job::{job_ended, job_failed, terminal};
use mfs::wire::moving::{FreezeJob, JobFrozen, MAX_UNREAD, RestoreJob};
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{self, OwnedPermit, Sender};
use tokio::task::JoinHandle;
use tokio_stream::{Stream, StreamExt};

use super::images::Images;
use super::init::{Heard, Init};
use super::locks::Parking;
use super::restored::Restoring;
use super::{Hosting, Jobs, fetch, locks, obstacles, processes};
use crate::node::Node;

/// Most bytes of one message.
const PIECE: usize = 64 << 10;

/// Messages on their way to the home: what more is written waits in the job's own pipes.
const IN_FLIGHT: usize = 8;

/// The status that a shell gives of a program that cannot be run.
const CANNOT_RUN: u8 = 126;

/// SIGKILL (signal(7)).
const KILL: i32 = 9;

/// A job to be run here.
#[derive(Debug, Clone)]
pub(super) struct Hosted {
    pub(super) home: NodeName,
    /// Its number there.
    pub(super) number: u64,
    pub(super) program: Program,
    /// As whom; whoever is not root here is not root.
    pub(super) caller: Caller,
    pub(super) local_tmp: bool,
    /// It is not moved by balancing.
    pub(super) stays: bool,
}

/// How a job comes here.
#[derive(Debug)]
pub(super) enum Coming {
    /// It begins.
    New,
    /// It was frozen elsewhere.
    Brought(Box<RestoreJob>),
}

/// A job on this node.
struct Guest {
    node: Arc<Node>,
    jobs: Arc<Jobs>,
    hosting: Hosting,
    outputs: Sender<Output>,
    init: Init,
    /// Input that the job has not taken.
    pending: BytesMut,
    /// Nothing comes after it.
    input_has_ended: bool,
    has_ended: HasEnded,
    /// The first process; 0 until it is known.
    first: u32,
    home: NodeName,
    /// As whom it runs.
    user: Caller,
    stage: Stage,
}

/// Streams that nobody can write to any more.
#[derive(Debug, Default)]
struct HasEnded {
    output: bool,
    error: bool,
}

/// How far it is.
enum Stage {
    /// It is about to begin.
    Begins,
    /// It was restored or is about to be, and waits to be let go; with its images, and what is to be read first.
    Held { _images: Images, unread: Bytes, restoring: Option<Restoring> },
    /// It runs.
    Runs,
    /// Images of it are being made. Who was stopped before stays so if it runs on.
    Freezes {
        order: FreezeJob,
        dump: JoinHandle<anyhow::Result<(Images, Parking)>>,
        stopped: Vec<u32>,
        runs_on: bool,
    },
    /// It stands still.
    Frozen { order: FreezeJob, stopped: Vec<u32>, _locks: Parking },
}

/// Runs a job. What comes out of it; the last message says how it ended. It is ended when its inputs end, or
/// nobody takes its outputs.
pub(super) fn host(
    node: &Arc<Node>,
    job: Hosted,
    coming: Coming,
    inputs: impl Stream<Item = v1::JobInput> + Send + Unpin + 'static,
) -> mpsc::Receiver<Output> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let ended = async { Guest::come(&node, job, coming, &sender).await?.run(inputs).await };
        let ended =
            ended.await.unwrap_or_else(|error| job_failed(format!("{error:#}"), CANNOT_RUN));
        let _ = sender.send(Output::Ended(ended)).await; // or the home is gone
    });
    receiver
}

// === impl Guest ===

impl Guest {
    /// Begins a job, or brings it here.
    async fn come(
        node: &Arc<Node>,
        job: Hosted,
        coming: Coming,
        outputs: &Sender<Output>,
    ) -> anyhow::Result<Self> {
        let node = Arc::clone(node);
        let (jobs, scratch) = (Arc::clone(&node.jobs), node.jobs.scratch.clone());
        let is_guest = job.home != *node.credentials().identity().name();
        let id = JobId { home: job.home.clone(), number: job.number };
        let is_brought = matches!(coming, Coming::Brought(_));
        let hosting = jobs.host(id, is_guest, is_brought, job.stays);
        let (user, home) = (job.caller.clone(), job.home.clone());
        let mut token = None;
        let setup = tokio::task::spawn_blocking(move || setup(job, scratch)).await??;
        let (task, mut stage) = match coming {
            Coming::New => (Task::Begin(Box::new(setup)), Stage::Begins),
            Coming::Brought(brought) => {
                let criu = jobs.criu().await?;
                let images = fetch::images(&node, &brought, &user, outputs).await?;
                let restore = Restore {
                    criu: criu.program().to_owned(),
                    images: images.path().to_owned(),
                    view: setup.view,
                    cluster: setup.cluster,
                    scratch: setup.scratch,
                    streams: brought.frozen.streams,
                };
                let unread = brought.frozen.unread.clone();
                token = Some(brought.token);
                (
                    Task::Restore(Box::new(restore)),
                    Stage::Held { _images: images, unread, restoring: None },
                )
            }
        };
        let init = Init::start(&task, &home, &user)?;
        if let (Stage::Held { restoring, .. }, Some(token)) = (&mut stage, token) {
            *restoring = jobs.restore(init.keeper_number(), token);
        }
        let (outputs, pending) = (outputs.clone(), BytesMut::new());
        Ok(Self {
            node,
            jobs,
            hosting,
            outputs,
            init,
            pending,
            input_has_ended: false,
            has_ended: HasEnded::default(),
            first: 0,
            home,
            user,
            stage,
        })
    }

    /// Until it has ended.
    async fn run(
        mut self,
        mut inputs: impl Stream<Item = v1::JobInput> + Send + Unpin,
    ) -> anyhow::Result<v1::JobEnded> {
        loop {
            let (init, outputs) = (&mut self.init, &self.outputs);
            let dump = async {
                match &mut self.stage {
                    Stage::Freezes { dump, .. } => dump.await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = init.heard.recv() => {
                    if let Some(ended) = self.hear(heard).await? {
                        return Ok(ended);
                    }
                }
                dumped = dump => {
                    let dumped = dumped.map_err(Into::into).and_then(|dumped| dumped);
                    self.dumped(dumped).await?;
                }
                Ok(permit) = may_read(&init.output, outputs), if !self.has_ended.output => {
                    self.has_ended.output = pass(&init.output, permit, Output::Output);
                }
                Ok(permit) = may_read(&init.error, outputs), if !self.has_ended.error => {
                    self.has_ended.error = pass(&init.error, permit, Output::Error);
                }
                Ok(()) = may_write(init.input.as_ref(), &self.pending) => self.give().await?,
                input = inputs.next() => match input.and_then(|input| input.kind) {
                    Some(kind) => self.take(kind).await?,
                    None => return Err(self.abandon()),
                },
                () = outputs.closed() => return Err(self.abandon()),
            }
        }
    }

    /// Its home does not want it any more, here.
    fn abandon(&self) -> anyhow::Error {
        if matches!(self.stage, Stage::Freezes { .. } | Stage::Frozen { .. }) {
            // Who stands still cannot be told to end.
            processes::end(self.first);
        }
        anyhow!("its home is gone")
    }

    /// What its keeper and its first process say.
    async fn hear(&mut self, heard: Option<Heard>) -> anyhow::Result<Option<v1::JobEnded>> {
        match heard {
            Some(Heard::Notice(Notice::First(first))) => {
                self.first = first;
                self.hosting.has_pid(first);
                if let Stage::Held { unread, .. } = &self.stage {
                    self.pending.extend_from_slice(unread);
                    self.started().await?;
                }
            }
            Some(Heard::Notice(Notice::Prepared)) => {
                self.outputs.send(Output::Restored(v1::JobRestored {})).await?;
            }
            Some(Heard::Report(Report::Running)) => self.started().await?,
            Some(Heard::Report(Report::Stopped(signal))) => {
                // One that is frozen was not stopped by anybody.
                if matches!(self.stage, Stage::Runs) {
                    // What it has shown comes first: whoever is told shows nothing more.
                    self.written().await?;
                    self.outputs.send(Output::Stopped(signal)).await?;
                }
            }
            Some(Heard::Notice(Notice::Failed(sentence))) => {
                return Ok(Some(job_failed(sentence, CANNOT_RUN)));
            }
            Some(Heard::Report(Report::Failed(sentence, status))) => {
                return Ok(Some(job_failed(sentence, status)));
            }
            Some(Heard::Report(Report::Ended(ended))) => {
                // What it has written comes first.
                self.rest().await?;
                return Ok(Some(job_ended(ended)));
            }
            Some(Heard::Notice(Notice::Lost)) => {
                self.rest().await?;
                return Ok(Some(job_ended(mfs::jobs::Ended::Killed(KILL))));
            }
            // Its keeper says how it ended.
            Some(Heard::Silence) => {}
            None => bail!("its first process has ended without a word"),
        }
        Ok(None)
    }

    async fn started(&mut self) -> anyhow::Result<()> {
        self.stage = Stage::Runs;
        let started = v1::JobStarted { pid: self.first, ..v1::JobStarted::default() };
        Ok(self.outputs.send(Output::Started(started)).await?)
    }

    /// What goes into the job.
    async fn take(&mut self, input: Input) -> anyhow::Result<()> {
        match input {
            Input::Input(bytes) => {
                if self.init.input.is_none() {
                    self.taken(bytes.len()).await?;
                } else {
                    anyhow::ensure!(
                        self.pending.len() + bytes.len() <= MAX_UNREAD / 2,
                        "its home sends more input than it may"
                    );
                    self.pending.extend_from_slice(&bytes);
                }
            }
            Input::InputEnd(_) => {
                self.input_has_ended = true;
                self.end_input();
            }
            Input::Size(size) => self.init.order(&Order::Size(terminal(size))),
            Input::Signal(signal) => self.init.order(&Order::Signal(signal)),
            Input::Foreground(is_its) => self.init.order(&Order::Foreground(is_its)),
            Input::Freeze(order) => self.freeze(order.try_into()?).await?,
            Input::Thaw(_) => self.thaw(),
            Input::Start(_) | Input::Restore(_) => {
                tracing::debug!("a job was started twice; it runs on");
            }
        }
        Ok(())
    }

    /// Gives the job what it reads, as far as it takes it now.
    async fn give(&mut self) -> anyhow::Result<()> {
        let Some(input) = &self.init.input else { return Ok(()) };
        match input.try_write(&self.pending) {
            Ok(length) => {
                let _ = self.pending.split_to(length);
                self.taken(length).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Whoever has closed its input wants no more.
            Err(_) => {
                let length = self.pending.len();
                self.pending.clear();
                self.init.input = None;
                self.taken(length).await?;
            }
        }
        self.end_input();
        Ok(())
    }

    fn end_input(&mut self) {
        if self.input_has_ended && self.pending.is_empty() {
            self.init.input = None;
        }
    }

    /// So much more may be sent.
    async fn taken(&self, length: usize) -> anyhow::Result<()> {
        if length > 0 {
            self.outputs.send(Output::Taken(u32::try_from(length)?)).await?;
        }
        Ok(())
    }

    /// Sends the rest that it has written, when nobody can write more.
    async fn rest(&mut self) -> anyhow::Result<()> {
        for (pipe, as_output) in [
            (&self.init.output, Output::Output as fn(Bytes) -> Output),
            (&self.init.error, Output::Error),
        ] {
            while let Some(bytes) = next_piece(pipe).await {
                self.outputs.send(as_output(bytes)).await?;
            }
        }
        Ok(())
    }

    /// Sends what it has written so far.
    async fn written(&self) -> anyhow::Result<()> {
        for (pipe, as_output) in [
            (&self.init.output, Output::Output as fn(Bytes) -> Output),
            (&self.init.error, Output::Error),
        ] {
            let mut piece = vec![0; PIECE];
            // Past the runtime, which may not have been told yet that there is something.
            while let Ok(length @ 1..) = rustix::io::read(pipe, &mut piece) {
                self.outputs.send(as_output(Bytes::copy_from_slice(&piece[..length]))).await?;
            }
        }
        Ok(())
    }

    /// Begins to make images.
    async fn freeze(&mut self, order: FreezeJob) -> anyhow::Result<()> {
        if !matches!(self.stage, Stage::Runs) {
            let why = "it does not run yet".to_owned();
            return Ok(self.outputs.send(Output::NotFrozen(why)).await?);
        }
        let (node, jobs) = (Arc::clone(&self.node), Arc::clone(&self.jobs));
        let (first, user, home) = (self.first, self.user.clone(), self.home.clone());
        let movable = match obstacles::look(first) {
            Ok(movable) => movable,
            Err(why) => return Ok(self.outputs.send(Output::NotFrozen(why)).await?),
        };
        let stopped = processes::stopped(first);
        let dump = tokio::spawn(async move {
            let criu = jobs.criu().await?;
            let images = Images::new(&jobs.images, order.token)?;
            criu.dump(first, images.path(), movable, &home, &user).await?;
            let locks = locks::park(&node, first, order, images.path()).await?;
            Ok((images, locks))
        });
        self.stage = Stage::Freezes { order, dump, stopped, runs_on: false };
        Ok(())
    }

    /// There are images, or there cannot be.
    async fn dumped(&mut self, dumped: anyhow::Result<(Images, Parking)>) -> anyhow::Result<()> {
        let stage = std::mem::replace(&mut self.stage, Stage::Runs);
        let Stage::Freezes { order, stopped, runs_on, .. } = stage else { return Ok(()) };
        let frozen = async {
            let (images, locks) = dumped?;
            let unread = processes::unread(self.first, self.init.streams.input)?;
            anyhow::Ok((images.bytes()?, images, locks, unread))
        };
        match frozen.await {
            Ok((bytes, images, locks, unread)) if !runs_on => {
                self.written().await?;
                let unread = [&unread[..], &self.pending[..]].concat().into();
                self.jobs.offers.put(order.token, order.target, Arc::new(images));
                self.stage = Stage::Frozen { order, stopped, _locks: locks };
                let frozen = JobFrozen { bytes, streams: self.init.streams, unread };
                self.outputs.send(Output::Frozen(frozen.into())).await?;
            }
            Ok(_) => processes::go_on(self.first, &stopped),
            Err(error) => {
                processes::go_on(self.first, &stopped);
                self.outputs.send(Output::NotFrozen(format!("{error:#}"))).await?;
            }
        }
        Ok(())
    }

    /// Lets it run: on, or for the first time here.
    fn thaw(&mut self) {
        match &mut self.stage {
            Stage::Held { .. } => self.init.let_go(),
            // CRIU is not disturbed while it is at work in the job's memory.
            Stage::Freezes { runs_on, .. } => *runs_on = true,
            Stage::Frozen { order, stopped, .. } => {
                self.jobs.offers.withdraw(order.token);
                processes::go_on(self.first, stopped);
                self.stage = Stage::Runs;
            }
            Stage::Begins | Stage::Runs => {}
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Stage::Frozen { order, .. } = &self.stage {
            self.jobs.offers.withdraw(order.token);
        }
    }
}

/// Waits until there is something to read, and room to send it.
async fn may_read(pipe: &pipe::Receiver, to: &Sender<Output>) -> Result<OwnedPermit<Output>, ()> {
    pipe.readable().await.map_err(|_| ())?;
    to.clone().reserve_owned().await.map_err(|_| ())
}

/// Waits until there is something to write, and it can be written.
async fn may_write(pipe: Option<&pipe::Sender>, bytes: &BytesMut) -> io::Result<()> {
    match pipe {
        Some(pipe) if !bytes.is_empty() => pipe.writable().await,
        _ => std::future::pending().await,
    }
}

/// Sends what can be read now; answers whether it was the end, which can be read again and again.
fn pass(
    pipe: &pipe::Receiver,
    permit: OwnedPermit<Output>,
    as_output: fn(Bytes) -> Output,
) -> bool {
    let mut piece = vec![0; PIECE];
    match pipe.try_read(&mut piece) {
        Ok(0) => return true,
        Ok(length) => drop(permit.send(as_output(Bytes::copy_from_slice(&piece[..length])))),
        Err(_) => {}
    }
    false
}

/// The next piece; none at the end.
async fn next_piece(pipe: &pipe::Receiver) -> Option<Bytes> {
    let mut piece = vec![0; PIECE];
    loop {
        pipe.readable().await.ok()?;
        match pipe.try_read(&mut piece) {
            Ok(length @ 1..) => return Some(Bytes::copy_from_slice(&piece[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

/// What its first process needs. Looks at mounts, so it may block.
fn setup(job: Hosted, scratch: PathBuf) -> anyhow::Result<Setup> {
    let Hosted { home, program, caller, local_tmp, .. } = job;
    let cluster = find_cluster()?;
    match fs::create_dir(&scratch) {
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

/// Where the cluster is mounted on this node.
pub(super) async fn cluster_place() -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(find_cluster).await?
}

fn find_cluster() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    mounted(&mounts).ok_or_else(|| {
        anyhow!("the cluster is not mounted on this node, so there is no tree to show: mount /mfs")
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
