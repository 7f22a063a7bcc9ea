//! Jobs: those that were started on this node, and those that it runs for its peers.
//!
//! A job's streams go from the command through mfsd of its home (`home`) to mfsd of the node where it runs
//! (`host`), which starts the job's first process (`mfs-init`) and speaks with it (`init`). When a job moves,
//! its home drives it (`moving`): the old node makes images (`criu`, `images`), the new one fetches (`fetch`)
//! and restores them.
//!
//! Lock order: `Jobs::inner` is a leaf.

mod carried;
mod clearing;
mod credentials;
mod criu;
mod fetch;
mod home;
mod host;
mod image;
mod images;
mod init;
mod link;
mod list;
mod load;
mod locks;
mod moving;
mod obstacles;
mod past;
mod preflight;
mod processes;
mod restored;
mod service;
mod sys;
mod timers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use mfs::clock;
use mfs::jobs::balance::{Admission, Asks, Movable, Move, Refusal};
use mfs::jobs::placement::{Candidate, Placed};
use mfs::jobs::{Hints, JobId};
use mfs::load::Load;
use mfs::membership::{Member, Tag};
use mfs::sync::Mutex;
use mfs::telemetry::metrics as m;
use mfs::types::{Caller, NodeId, NodeName};
use mfs_proto::v1;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use criu::Criu;
use images::Offers;
use past::Past;
use restored::Restored;

use crate::arguments::CriuPlaces;
use crate::load::JobUse;
use crate::node::Node;

pub(crate) use locks::PeerLocks;
pub(crate) use service::{LocalJobs, PeerJobs};

/// Most bytes of a message: a command and an environment as large as Linux takes them, and more.
pub(crate) const MAX_START: usize = 4 << 20;

/// The state of a job that has ended.
const ENDED: &str = "ended";

/// Below the state directory: images of jobs that move.
const IMAGES: &str = "images";

/// What is known of jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// An empty directory to build the views of jobs on.
    scratch: PathBuf,
    /// Where images are.
    images: PathBuf,
    /// Images that wait to be fetched.
    offers: Offers,
    /// Jobs that are being restored.
    pub(crate) restored: Restored,
    state_dir: PathBuf,
    places: CriuPlaces,
    /// A job is on its way by balancing.
    steering: AtomicBool,
    criu: tokio::sync::OnceCell<Criu>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    own: BTreeMap<u64, OwnJob>,
    last_hosted: u64,
    hosted: BTreeMap<u64, HostedJob>,
    placed: Placed,
    admission: Admission,
    past: Past,
}

/// A job that was started here and runs.
#[derive(Debug)]
struct OwnJob {
    caller: Caller,
    command: Vec<Bytes>,
    node: NodeName,
    /// Its first process there; 0 until it is known.
    pid: u32,
    since: Instant,
    state: State,
    migrations: u32,
    /// Why it was moved last, if it was by balancing.
    reason: String,
    hints: Hints,
    wishes: mpsc::UnboundedSender<Wish>,
    /// How it ended, for who waits.
    end: watch::Sender<Option<v1::JobEnded>>,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
    Moving,
}

/// What is to be done with a job.
#[derive(Debug)]
enum Wish {
    /// Send it this signal.
    Signal(i32),
    /// Move it to this node, and tell how far it is; with the reason, if it is by balancing.
    Move(Member, mpsc::UnboundedSender<Result<v1::MigrationProgress, Status>>, Option<String>),
}

/// Why balancing moves a job, and what it asks of the target.
#[derive(Debug)]
struct Balancing {
    reason: String,
    asks: v1::MoveAsks,
}

/// Why nothing is done with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denied {
    /// There is none, or it has ended.
    NoJob,
    /// It is another user's.
    AnothersJob,
}

/// A job that runs here.
#[derive(Debug, Clone)]
struct HostedJob {
    id: JobId,
    since: Instant,
    /// Its home is another node.
    guest: bool,
    /// It came from another node, running.
    is_brought: bool,
    /// It is not moved by balancing.
    stay: bool,
    /// Its first process; 0 until it is known.
    pid: u32,
}

/// A job of this node, as long as it runs.
#[derive(Debug)]
#[must_use = "the job is not known any more when this is dropped"]
struct Running {
    jobs: Arc<Jobs>,
    number: u64,
    /// How it ended, as it is remembered.
    ended: Option<v1::JobEnded>,
}

/// A job that this node runs, as long as it does.
#[derive(Debug)]
#[must_use = "the job does not count any more when this is dropped"]
struct Hosting {
    jobs: Arc<Jobs>,
    number: u64,
}

// === impl Jobs ===

impl Jobs {
    /// None yet; views are built on this directory, and images lie in that of the daemon's state.
    pub(crate) fn new(scratch: PathBuf, state_dir: PathBuf, places: CriuPlaces) -> Arc<Self> {
        let images = state_dir.join(IMAGES);
        // Of jobs that were about to move when this daemon ended.
        if let Err(error) = std::fs::remove_dir_all(&images)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("old images stay in {}: {error}", images.display());
        }
        Arc::new(Self {
            scratch,
            images,
            offers: Offers::default(),
            restored: Restored::default(),
            state_dir,
            places,
            steering: AtomicBool::new(false),
            criu: tokio::sync::OnceCell::new(),
            inner: Mutex::default(),
        })
    }

    /// What makes and restores images.
    async fn criu(&self) -> anyhow::Result<&Criu> {
        self.criu.get_or_try_init(|| Criu::find(&self.places, &self.state_dir)).await
    }

    /// Chooses the best of these for a job of this node, which counts there from now on. `None`: there is none.
    fn place(&self, candidates: Vec<Candidate>) -> Option<NodeName> {
        // Chosen and noted as one step: of two jobs that come at once the second counts the first.
        let best = self.inner.lock().placed.place(candidates, clock::since_boot(), rand::random());
        best.map(|best| best.node)
    }

    /// A job of this node goes to that one, without a choice by [`Self::place`].
    fn placed(&self, node: NodeId) {
        self.inner.lock().placed.note(Tag::of(node), clock::since_boot());
    }

    /// A job of this node begins, on that node.
    fn begin(
        self: &Arc<Self>,
        caller: Caller,
        command: Vec<Bytes>,
        node: NodeName,
        hints: Hints,
    ) -> (Running, mpsc::UnboundedReceiver<Wish>) {
        let (wishes, received) = mpsc::unbounded_channel();
        let mut inner = self.inner.lock();
        inner.last += 1;
        let number = inner.last;
        let (state, since) = (State::Running, clock::now());
        let end = watch::Sender::default();
        let job = OwnJob {
            caller,
            command,
            node,
            pid: 0,
            since,
            state,
            migrations: 0,
            reason: String::new(),
            hints,
            wishes,
            end,
        };
        inner.own.insert(number, job);
        (Running { jobs: Arc::clone(self), number, ended: None }, received)
    }

    /// A job begins here; a guest if its home is another node.
    fn host(self: &Arc<Self>, id: JobId, guest: bool, is_brought: bool, stay: bool) -> Hosting {
        let mut inner = self.inner.lock();
        inner.last_hosted += 1;
        let number = inner.last_hosted;
        inner
            .hosted
            .insert(number, HostedJob { id, since: clock::now(), guest, is_brought, stay, pid: 0 });
        count(&inner);
        Hosting { jobs: Arc::clone(self), number }
    }

    /// How many run here, and how many of them are guests.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.hosted.len(), inner.hosted.values().filter(|job| job.guest).count())
    }

    /// The first processes of those that run here, and which of them are guests.
    pub(crate) fn hosted_pids(&self) -> Vec<(u32, bool)> {
        let inner = self.inner.lock();
        let known = inner.hosted.values().filter(|job| job.pid != 0);
        known.map(|job| (job.pid, job.guest)).collect()
    }

    /// Takes a job that balancing wants to move here, or says why not.
    fn admit(&self, own: &Load, asks: Asks, is_own: bool) -> Result<(), Refusal> {
        self.inner.lock().admission.admit(own, asks, is_own, clock::since_boot())
    }

    /// Has a job moved as balancing wants it, one at a time; answers whether it is tried. A node where jobs cannot
    /// be moved leaves it.
    pub(crate) fn steer(self: &Arc<Self>, node: &Arc<Node>, step: &Move) -> bool {
        if self.steering.swap(true, Ordering::Relaxed) {
            return false;
        }
        let (jobs, node, step) = (Arc::clone(self), Arc::clone(node), step.clone());
        tokio::spawn(async move {
            if jobs.criu().await.is_ok() {
                match clearing::steer(&node, &step).await {
                    Ok(to) => tracing::info!("job {} went to node {to}: {}", step.job, step.reason),
                    Err(status) => tracing::debug!("job {} stays: {}", step.job, status.message()),
                }
            }
            jobs.steering.store(false, Ordering::Relaxed);
        });
        true
    }

    /// The jobs of others that run here.
    fn guests(&self) -> BTreeSet<JobId> {
        let inner = self.inner.lock();
        let guests = inner.hosted.values().filter(|job| job.guest);
        // One that comes back may meet itself going.
        guests.map(|job| job.id.clone()).collect()
    }

    /// The jobs of this node that run elsewhere, as far as that user may move them.
    fn away(&self, own: &NodeName, uid: u32) -> Vec<u64> {
        let inner = self.inner.lock();
        let away = inner.own.iter().filter(|(_, job)| job.node != *own);
        let theirs = away.filter(|(_, job)| uid == 0 || uid == job.caller.uid);
        theirs.map(|(number, _)| *number).collect()
    }

    /// The jobs that run here, as they count for balancing; `uses`: what each takes, by its first process.
    ///
    /// Which files a job reads and writes is not known here yet.
    pub(crate) fn movable(&self, uses: &HashMap<u32, JobUse>) -> Vec<Movable> {
        let inner = self.inner.lock();
        let movable = |job: &HostedJob| {
            let JobUse { cpu, resident } = *uses.get(&job.pid)?;
            let here = clock::now().saturating_duration_since(job.since);
            Some(Movable {
                id: job.id.clone(),
                cpu,
                resident,
                traffic: Vec::new(),
                age: here,
                moved: job.is_brought.then_some(here),
                migrations: job.is_brought.into(),
                held: job.stay.then(|| "it is to stay where it is".to_owned()),
            })
        };
        inner.hosted.values().filter_map(movable).collect()
    }

    /// Those of a home that run here: its number there, and the first process, where it is known.
    fn guests_of(&self, home: &NodeName) -> Vec<(u64, u32)> {
        let inner = self.inner.lock();
        let theirs = inner.hosted.values().filter(|job| job.id.home == *home && job.pid != 0);
        theirs.map(|job| (job.id.number, job.pid)).collect()
    }

    /// The jobs of this node; those that have ended too, if they are `all` wanted. Their ids are not filled in.
    fn own(&self, all: bool) -> Vec<(u64, v1::Job)> {
        let mut inner = self.inner.lock();
        let mut jobs = if all { inner.past.all() } else { Vec::new() };
        jobs.extend(inner.own.iter().map(|(number, job)| (*number, job.told())));
        jobs
    }

    /// Waits for the end of a job of this node; `None`: there is none, or it is forgotten.
    async fn end(&self, number: u64) -> Option<v1::JobEnded> {
        let mut end = {
            let mut inner = self.inner.lock();
            match inner.own.get(&number) {
                Some(job) => job.end.subscribe(),
                None => return inner.past.ended(number),
            }
        };
        // The sender is gone without a word where the job never ran.
        end.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Has something done with a job of this node, for that user.
    fn wish(&self, number: u64, wish: Wish, uid: u32) -> Result<(), Denied> {
        self.may(number, uid)?;
        let inner = self.inner.lock();
        let job = inner.own.get(&number).ok_or(Denied::NoJob)?;
        // One that has just ended has no wishes.
        job.wishes.send(wish).map_err(|_| Denied::NoJob)
    }

    /// Whether a user may have something done with a job of this node; as whom it runs.
    fn may(&self, number: u64, uid: u32) -> Result<Caller, Denied> {
        let inner = self.inner.lock();
        let job = inner.own.get(&number).ok_or(Denied::NoJob)?;
        if uid != 0 && uid != job.caller.uid {
            return Err(Denied::AnothersJob);
        }
        Ok(job.caller.clone())
    }

    /// Where a job of this node runs.
    fn node_of(&self, number: u64) -> Option<NodeName> {
        self.inner.lock().own.get(&number).map(|job| job.node.clone())
    }
}

// === impl OwnJob ===

impl OwnJob {
    /// As it is told; its id and home are left to who knows this node's name.
    fn told(&self) -> v1::Job {
        v1::Job {
            pid: self.pid,
            uid: self.caller.uid,
            command: self.command.clone(),
            node: self.node.to_string(),
            age_ms: past::millis(self.since.elapsed()),
            state: self.state.name().to_owned(),
            migrations: self.migrations,
            hints: Some(self.hints.clone().into()),
            reason: self.reason.clone(),
            ..v1::Job::default()
        }
    }
}

// === impl State ===

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Moving => "moving",
        }
    }
}

// === impl Running ===

impl Running {
    fn change(&self, change: impl FnOnce(&mut OwnJob)) {
        if let Some(job) = self.jobs.inner.lock().own.get_mut(&self.number) {
            change(job);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut inner = self.jobs.inner.lock();
        let Some(job) = inner.own.remove(&self.number) else { return };
        // One that never ran is not remembered.
        if let Some(ended) = self.ended.take() {
            let told =
                v1::Job { state: ENDED.to_owned(), ended: Some(ended.clone()), ..job.told() };
            inner.past.remember(self.number, told);
            job.end.send_replace(Some(ended));
        }
    }
}

// === impl Hosting ===

impl Hosting {
    /// Its first process is known.
    fn has_pid(&self, pid: u32) {
        if let Some(job) = self.jobs.inner.lock().hosted.get_mut(&self.number) {
            job.pid = pid;
        }
    }
}

fn count(inner: &Inner) {
    let guests = inner.hosted.values().filter(|job| job.guest).count();
    m::JOBS_HOSTED.set(i64::try_from(inner.hosted.len()).unwrap_or(i64::MAX));
    m::JOBS_GUESTS.set(i64::try_from(guests).unwrap_or(i64::MAX));
}

impl Drop for Hosting {
    fn drop(&mut self) {
        let mut inner = self.jobs.inner.lock();
        inner.hosted.remove(&self.number);
        count(&inner);
    }
}
