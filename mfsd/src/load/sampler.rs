//! `Sampler`: measures how busy this node is. Reads files of `/proc` and of control groups, so it may block.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use mfs::clock;
use mfs::load::Pressure;
use rustix::param::{clock_ticks_per_second, page_size};

use super::cgroup::{self, Quota};
use super::proc::{self, Memory, Process};

/// Measures, and remembers what it needs to compare with.
#[derive(Debug)]
pub(super) struct Sampler {
    place: Place,
    quota: Option<Quota>,
    quota_looked: Instant,
    /// What was counted since the last measurement.
    counted: Vec<u32>,
    /// Mean of the last seconds.
    running: f64,
    guests_running: f64,
    /// The time of processors that each job had had, when it was looked at last.
    before: HashMap<u32, (u64, Instant)>,
}

/// Whose processes are this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The machine's: the kernel counts them.
    Machine,
    /// Those of a container with a numbering of its own, as of a node of `mfs lab`: they are counted one by one.
    Container,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Processors that the node may use, thousandths.
    pub(super) processors: u32,
    /// Running processes, thousandths.
    pub(super) running: u32,
    /// The same without those of guests.
    pub(super) own_running: u32,
    pub(super) memory: Memory,
    pub(super) pressure: Pressure,
    /// What each job takes, by its first process.
    pub(super) jobs: HashMap<u32, JobUse>,
}

/// What a job takes of the node that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct JobUse {
    /// Processors, mean of the last second, thousandths.
    pub(crate) cpu: u32,
    /// Memory of all its processes, bytes; what they share counts several times.
    pub(crate) resident: u64,
}

/// How often the quota is looked for: it changes when somebody changes it.
const QUOTA_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// The first process-id namespace of a machine has this number (PROC_PID_INIT_INO in the kernel's
/// include/linux/proc_ns.h).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

// === impl Sampler ===

impl Sampler {
    /// Looks where it is.
    pub(super) fn begin() -> Self {
        let own = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let first = own.to_str() == Some(FIRST_NAMESPACE);
        Self {
            place: if first { Place::Machine } else { Place::Container },
            quota: cgroup::quota(),
            quota_looked: clock::now(),
            counted: Vec::new(),
            running: 0.0,
            guests_running: 0.0,
            before: HashMap::new(),
        }
    }

    /// Counts who runs now; several times for each measurement.
    pub(super) fn count(&mut self) {
        let running = match self.place {
            Place::Machine => proc::running(&text("/proc/loadavg")),
            // This thread runs, too.
            Place::Container => Some(all_running(&proc::processes()).saturating_sub(1)),
        };
        self.counted.extend(running);
    }

    /// What it all comes to. `jobs`: the first process of each, and whether it is a guest.
    pub(super) fn measure(&mut self, jobs: &[(u32, bool)]) -> Measured {
        if self.quota_looked + QUOTA_EVERY <= clock::now() {
            self.quota = cgroup::quota();
            self.quota_looked = clock::now();
        }
        let processes = if jobs.is_empty() && self.place == Place::Machine {
            Vec::new()
        } else {
            proc::processes()
        };
        let (jobs, guests) = self.jobs(&processes, jobs);
        if self.place == Place::Container {
            self.counted.push(all_running(&processes).saturating_sub(1));
        }
        let counted = std::mem::take(&mut self.counted);
        if !counted.is_empty() {
            let mean = counted.iter().sum::<u32>() as f64 / counted.len() as f64;
            self.running = half_way(self.running, mean);
        }
        self.guests_running = half_way(self.guests_running, guests.into());
        let pressure = match self.quota.as_ref().and_then(|quota| quota.pressure.as_ref()) {
            Some(group) => proc::pressure(|of| text(group.join(format!("{of}.pressure")))),
            None => proc::pressure(|of| text(format!("/proc/pressure/{of}"))),
        };
        Measured {
            processors: self.processors(),
            running: thousandths(self.running),
            own_running: thousandths((self.running - self.guests_running).max(0.0)),
            memory: proc::memory(&text("/proc/meminfo")),
            pressure,
            jobs,
        }
    }

    /// What each job takes, and how many threads of guests run.
    fn jobs(&mut self, processes: &[Process], jobs: &[(u32, bool)]) -> (HashMap<u32, JobUse>, u32) {
        let pids: Vec<u32> = jobs.iter().map(|(pid, _)| *pid).collect();
        let sums = proc::trees(processes, &pids);
        let (now, before) = (clock::now(), std::mem::take(&mut self.before));
        let (mut uses, mut guests) = (HashMap::new(), 0);
        for (pid, is_guest) in jobs {
            let Some(sum) = sums.get(pid) else { continue };
            self.before.insert(*pid, (sum.ticks, now));
            guests += if *is_guest { sum.running } else { 0 };
            // A process that has ended takes its time with it: then it seems to have had none.
            let cpu = before.get(pid).map_or(0.0, |(ticks, at)| {
                let seconds = now.saturating_duration_since(*at).as_secs_f64().max(0.001);
                let had = sum.ticks.saturating_sub(*ticks) as f64;
                had / clock_ticks_per_second() as f64 / seconds
            });
            let resident = sum.resident.saturating_mul(page_size() as u64);
            uses.insert(*pid, JobUse { cpu: thousandths(cpu), resident });
        }
        (uses, guests)
    }

    fn processors(&self) -> u32 {
        let allowed = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        let all = allowed.saturating_mul(1_000).max(1);
        self.quota.as_ref().map_or(all, |quota| quota.processors.min(all))
    }
}

fn text(path: impl AsRef<std::path::Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn all_running(processes: &[Process]) -> u32 {
    processes.iter().map(|process| process.running).sum()
}

/// A mean that forgets half of the past with each second.
fn half_way(past: f64, present: f64) -> f64 {
    (past + present) / 2.0
}

/// Never negative and never so large that anything but the largest number is meant.
fn thousandths(number: f64) -> u32 {
    (number * 1_000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_measured() {
        let mut sampler = Sampler::begin();
        let pid = std::process::id();
        for place in [Place::Machine, Place::Container] {
            sampler.place = place;
            sampler.count();
            let measured = sampler.measure(&[(pid, true), (u32::MAX, false)]);
            assert!(measured.processors > 0 && measured.memory.total > measured.memory.free);
            assert_eq!(measured.jobs.len(), 1);
            assert!(measured.jobs[&pid].resident > 1 << 20);
            assert!(measured.own_running <= measured.running);
        }
    }
}
