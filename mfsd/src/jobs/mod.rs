//! Jobs: those that were started on this node, and those that it runs for its peers.
//!
//! A job's streams go from the command through mfsd of its home (`home`) to mfsd of the node where it runs
//! (`host`), which starts the job's first process (`mfs-init`) and speaks with it (`init`).
//!
//! Lock order: `Jobs::inner` is a leaf.

mod home;
mod host;
mod init;
mod load;
mod service;
mod sys;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mfs::clock;
use mfs::jobs::JobId;
use mfs::sync::Mutex;
use mfs::telemetry::metrics as m;
use mfs::types::NodeName;
use mfs_proto::v1;
use tokio::sync::mpsc;

pub(crate) use service::{LocalJobs, PeerJobs};

/// Most bytes of a message: a command and an environment as large as Linux takes them, and more.
pub(crate) const MAX_START: usize = 4 << 20;

/// What is known of jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// An empty directory to build the views of jobs on.
    scratch: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    own: BTreeMap<u64, OwnJob>,
    hosted: u32,
}

/// A job that was started here and runs.
#[derive(Debug)]
struct OwnJob {
    uid: u32,
    command: Vec<Bytes>,
    node: NodeName,
    /// Its first process there; 0 until it is known.
    pid: u32,
    since: Instant,
    signals: mpsc::UnboundedSender<i32>,
}

/// A job of this node, as long as it runs.
#[derive(Debug)]
#[must_use = "the job is not known any more when this is dropped"]
struct Running {
    jobs: Arc<Jobs>,
    number: u64,
}

/// A job that this node runs, as long as it does.
#[derive(Debug)]
#[must_use = "the job does not count any more when this is dropped"]
struct Hosting {
    jobs: Arc<Jobs>,
}

// === impl Jobs ===

impl Jobs {
    /// None yet; views are built on this directory.
    pub(crate) fn new(scratch: PathBuf) -> Arc<Self> {
        Arc::new(Self { scratch, inner: Mutex::default() })
    }

    /// A job of this node begins, on that node.
    fn begin(
        self: &Arc<Self>,
        uid: u32,
        command: Vec<Bytes>,
        node: NodeName,
    ) -> (Running, mpsc::UnboundedReceiver<i32>) {
        let (signals, received) = mpsc::unbounded_channel();
        let mut inner = self.inner.lock();
        inner.last += 1;
        let number = inner.last;
        let job = OwnJob { uid, command, node, pid: 0, since: clock::now(), signals };
        inner.own.insert(number, job);
        (Running { jobs: Arc::clone(self), number }, received)
    }

    /// A job begins here.
    fn host(self: &Arc<Self>) -> Hosting {
        let mut inner = self.inner.lock();
        inner.hosted += 1;
        m::JOBS_HOSTED.set(inner.hosted.into());
        Hosting { jobs: Arc::clone(self) }
    }

    /// How many run here.
    fn hosted(&self) -> u32 {
        self.inner.lock().hosted
    }

    /// The jobs of this node.
    fn own(&self, home: &NodeName) -> Vec<v1::Job> {
        let inner = self.inner.lock();
        let told = |(number, job): (&u64, &OwnJob)| v1::Job {
            id: JobId { home: home.clone(), number: *number }.to_string(),
            pid: job.pid,
            uid: job.uid,
            command: job.command.clone(),
            home: home.to_string(),
            node: job.node.to_string(),
            age_ms: u64::try_from(job.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        inner.own.iter().map(told).collect()
    }

    /// Sends a signal to a job of this node, for that user. `None`: there is no such job; `false`: it is
    /// another's.
    fn signal(&self, number: u64, signal: i32, uid: u32) -> Option<bool> {
        let inner = self.inner.lock();
        let job = inner.own.get(&number)?;
        let may = uid == 0 || uid == job.uid;
        if may {
            // One that has just ended needs none.
            let _ = job.signals.send(signal);
        }
        Some(may)
    }
}

// === impl Running ===

impl Running {
    fn has_pid(&self, pid: u32) {
        if let Some(job) = self.jobs.inner.lock().own.get_mut(&self.number) {
            job.pid = pid;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs.inner.lock().own.remove(&self.number);
    }
}

impl Drop for Hosting {
    fn drop(&mut self) {
        let mut inner = self.jobs.inner.lock();
        inner.hosted -= 1;
        m::JOBS_HOSTED.set(inner.hosted.into());
    }
}
