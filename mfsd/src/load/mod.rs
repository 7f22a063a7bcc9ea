//! How busy this node is, and what it knows of the others: measured, told and heard each second.
//!
//! One task owns the window of records; all others read the snapshot that it publishes.
//!
//! Not here: what is decided by it (`mfs::jobs`), and the datagrams (`cluster`).
//!
//! Lock order: `Loads::changing`, then `Loads::measured`, a leaf.

mod cgroup;
mod proc;
mod sampler;
mod speed;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mfs::clock;
use mfs::identity::{IdentityError, Store};
use mfs::jobs::balance::{Departures, Rules, decide};
use mfs::load::{ClusterLoad, Idleness, Lending, Load, Speed, Window, Wish, Wishes};
use mfs::membership::Tag;
use mfs::sync::Mutex;
use mfs::telemetry::metrics as m;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::node::Node;
use sampler::{Measured, Sampler};

pub(crate) use sampler::JobUse;

/// Time between two records.
const PERIOD: Duration = Duration::from_secs(1);

/// How often it is counted in this time who runs. Twice is coarse for one second, and fine for the mean over
/// several that a record holds; in a container each counting reads a file for each thread.
const COUNTS: u32 = 2;

/// Messages of others that wait: more than a node gets in a second.
const WAITING: usize = 64;

/// What is wanted of this node, beside what is kept of its membership.
const WISHES: &str = "lending.json";

/// What this node knows of loads, and what is wanted of it.
#[derive(Debug)]
pub(crate) struct Loads {
    wishes: watch::Sender<Wishes>,
    /// Held while the wishes change.
    changing: tokio::sync::Mutex<()>,
    snapshot: watch::Sender<Snapshot>,
    /// How fast a processor is, once that has been measured.
    measured: Mutex<Option<Speed>>,
    /// Its own users do not need it.
    idle: AtomicBool,
}

/// What is known at one moment. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The loads of the nodes, this one's too.
    pub(crate) cluster: ClusterLoad,
}

/// The task that measures, tells and hears.
struct Teller {
    node: Weak<Node>,
    loads: Arc<Loads>,
    window: Window,
    idleness: Idleness,
    /// Moves that are in no measurement yet.
    departures: Departures,
    began: std::time::Instant,
    heard: mpsc::Receiver<Vec<u8>>,
}

/// The way by which messages of others come.
pub(crate) fn channel() -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
    mpsc::channel(WAITING)
}

// === impl Loads ===

impl Loads {
    /// Knows nothing yet but what is wanted of this node.
    pub(crate) fn new(me: Tag, store: &Store) -> Arc<Self> {
        let kept = store.read::<Wishes>(WISHES).unwrap_or_else(|error| {
            tracing::warn!("what was wanted of this node (block, stay, speed) is lost: {error}");
            None
        });
        let snapshot = Snapshot { cluster: ClusterLoad::none(me) };
        Arc::new(Self {
            wishes: watch::Sender::new(kept.unwrap_or_default()),
            changing: tokio::sync::Mutex::new(()),
            snapshot: watch::Sender::new(snapshot),
            measured: Mutex::new(None),
            idle: AtomicBool::new(false),
        })
    }

    /// Begins to measure, to tell, and to hear what comes by `heard`.
    pub(crate) fn begin(node: &Arc<Node>, heard: mpsc::Receiver<Vec<u8>>) {
        let me = Tag::of(node.view().me());
        let teller = Teller {
            node: Arc::downgrade(node),
            loads: Arc::clone(&node.loads),
            window: Window::new(me),
            idleness: Idleness::default(),
            departures: Departures::default(),
            began: clock::now(),
            heard,
        };
        let stop = node.stop.clone();
        node.tasks.spawn(async move {
            tokio::select! {
                () = teller.run() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// What is known now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// What is wanted of this node.
    pub(crate) fn wishes(&self) -> Wishes {
        *self.wishes.borrow()
    }

    /// Changes what is wanted of this node, and keeps it; the others know with the next message. How fast its
    /// processors are taken for then.
    pub(crate) async fn wish(&self, store: &Store, wish: Wish) -> Result<Speed, IdentityError> {
        {
            // Of two changes at once both are kept.
            let _alone = self.changing.lock().await;
            let wishes = self.wishes().with(wish);
            store.write(WISHES, &wishes)?;
            self.wishes.send_replace(wishes);
        }
        let wishes = self.wishes();
        tracing::info!("what is wanted of this node is now: {wishes:?}");
        Ok(match wish {
            Wish::Speed(None) => self.measure_speed().await,
            _ => self.speed(),
        })
    }

    /// Why this node takes no guests at present; the rest of a sentence that begins with its name.
    pub(crate) fn refuses_guests(&self) -> Option<&'static str> {
        match self.wishes().lending {
            Lending::Never => Some(
                "is blocked: it runs no jobs of other nodes until somebody says `mfs unblock` there",
            ),
            Lending::WhenIdle if !self.idle.load(Ordering::Relaxed) => Some(
                "lends itself only while it is idle, and its own users need it now (`mfs block --when-busy` was said there)",
            ),
            Lending::Always | Lending::WhenIdle => None,
        }
    }

    /// Measures how fast a processor is, now.
    pub(crate) async fn measure_speed(&self) -> Speed {
        let measured = tokio::task::spawn_blocking(speed::measure).await;
        let speed = measured.unwrap_or(Speed::YARDSTICK);
        *self.measured.lock() = Some(speed);
        tracing::info!("a processor of this node is measured with speed {speed}");
        // Those that wait for a change of wishes see the speed, too.
        self.wishes.send_modify(|_| {});
        speed
    }

    fn speed(&self) -> Speed {
        let measured = *self.measured.lock();
        self.wishes().speed.or(measured).unwrap_or(Speed::YARDSTICK)
    }
}

// === impl Teller ===

impl Teller {
    async fn run(mut self) {
        self.loads.measure_speed().await;
        let mut wishes = self.loads.wishes.subscribe();
        let mut sampler = Box::new(Sampler::begin());
        let mut measured = Measured::default();
        // Nodes that were started together do not all tell in the same moment.
        let first = Instant::now() + PERIOD.mul_f64(rand::random());
        let mut ticks = interval_at(first, PERIOD / COUNTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counted = 0;
        loop {
            tokio::select! {
                Some(message) = self.heard.recv() => {
                    self.hear(&message);
                    continue;
                }
                changed = wishes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = ticks.tick() => {
                    counted += 1;
                    let Some(node) = self.node.upgrade() else { return };
                    let jobs = node.jobs.hosted_pids();
                    let due = counted % COUNTS == 0;
                    let looked = tokio::task::spawn_blocking(move || {
                        if due {
                            return (sampler.measure(&jobs), sampler);
                        }
                        sampler.count();
                        (Measured::default(), sampler)
                    });
                    let Ok((now, back)) = looked.await else { return };
                    sampler = back;
                    if !due {
                        continue;
                    }
                    measured = now;
                    let now = self.now();
                    let idle = self.idleness.look(now, measured.own_running, measured.processors);
                    self.loads.idle.store(idle, Ordering::Relaxed);
                }
            }
            if measured.processors > 0 && !self.tell(&measured) {
                return;
            }
        }
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }

    fn hear(&mut self, message: &[u8]) {
        match self.window.hear(self.now(), message) {
            Some(_) => m::LOAD_MESSAGES_RECEIVED.add_one(),
            None => m::LOAD_MESSAGES_REFUSED.add_one(),
        }
    }

    /// Notes how busy this node is, tells another, and publishes what is known; `false` if the node has ended.
    fn tell(&mut self, measured: &Measured) -> bool {
        let Some(node) = self.node.upgrade() else { return false };
        let (view, now, wishes) = (node.view(), self.now(), self.loads.wishes());
        let incarnation = view.by_id(view.me()).map_or(0, |member| member.incarnation);
        let (hosted, guests) = node.jobs.counts();
        let load = Load {
            processors: measured.processors,
            speed: self.loads.speed(),
            running: measured.running,
            memory_total: measured.memory.total,
            memory_free: measured.memory.free,
            swap_total: measured.memory.swap_total,
            swap_free: measured.memory.swap_free,
            pressure: measured.pressure,
            jobs: u16::try_from(hosted).unwrap_or(u16::MAX),
            guests: u16::try_from(guests).unwrap_or(u16::MAX),
            flags: wishes.flags(self.idleness.is_idle()),
        };
        self.window.note_own(now, incarnation, load);
        let members: std::collections::HashSet<Tag> =
            view.members().iter().map(|member| Tag::of(member.id)).collect();
        self.window.forget(now, |node| members.contains(&node));
        node.push(self.window.message(now, wishes.quiet));
        m::LOAD_MESSAGES_SENT.add_one();
        let cpu: u64 = measured.jobs.values().map(|job| u64::from(job.cpu)).sum();
        m::JOBS_CPU.set(i64::try_from(cpu).unwrap_or(i64::MAX));
        let resident = measured.jobs.values().map(|job| job.resident).fold(0, u64::saturating_add);
        m::JOBS_RESIDENT.set(i64::try_from(resident).unwrap_or(i64::MAX));
        m::LOAD_RUNNING.set(i64::from(load.running));
        m::LOAD_PROCESSORS.set(i64::from(load.processors));
        m::LOAD_SPEED.set(i64::from(load.speed.units()));
        m::LOAD_RECORDS.set(i64::try_from(self.window.others()).unwrap_or(i64::MAX));
        let cluster = ClusterLoad::of(&view, self.window.known(now));
        self.weigh(&node, &cluster, measured);
        self.loads.snapshot.send_replace(Snapshot { cluster });
        true
    }

    /// Has a job that had better run elsewhere moved there.
    fn weigh(&mut self, node: &Arc<Node>, cluster: &ClusterLoad, measured: &Measured) {
        if measured.jobs.is_empty() {
            return;
        }
        let movable = node.jobs.movable(&measured.jobs);
        let now = self.now();
        let cluster = self.departures.seen(cluster, now);
        let step = decide(&Rules::default(), &cluster, &movable, rand::random());
        if let Some(step) = step {
            m::JOBS_BETTER_ELSEWHERE.add_one();
            tracing::debug!("job {} had better run on {}: {}", step.job, step.to, step.reason);
            if node.jobs.steer(node, &step) {
                self.departures.note(&step, now);
            }
        }
    }
}
