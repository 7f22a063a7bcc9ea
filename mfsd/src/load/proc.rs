//! What the kernel says of processes and of the machine in `/proc` (proc(5)), and what it means.
//!
//! Texts go in and figures come out; only [`processes`] reads files.

use std::collections::{HashMap, HashSet};
use std::fs;

use mfs::load::{Mebibytes, Pressure};

/// A process, as its `/proc/PID/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// Its threads that run or wait for a processor.
    pub(super) running: u32,
    /// Time of processors that it has had, clock ticks.
    pub(super) ticks: u64,
    /// Memory, pages.
    pub(super) resident: u64,
    threads: u32,
}

/// Memory of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Memory {
    pub(super) total: Mebibytes,
    pub(super) free: Mebibytes,
    pub(super) swap_total: Mebibytes,
    pub(super) swap_free: Mebibytes,
}

/// What the processes of one job take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) running: u32,
    pub(super) ticks: u64,
    pub(super) resident: u64,
}

/// All processes that are seen from here.
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(one).collect()
}

fn one(pid: u32) -> Option<Process> {
    // One that has ended since is none.
    let mut process = stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    if process.threads > 1 {
        // The state of a process is that of its first thread only.
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let state = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).ok();
        let running = tasks.flatten().filter_map(state).filter_map(|text| stat(&text));
        process.running = running.map(|task| task.running).sum();
    }
    Some(process)
}

/// A line of `/proc/PID/stat`. The name in brackets may hold anything, brackets too.
pub(super) fn stat(text: &str) -> Option<Process> {
    let (head, rest) = text.rsplit_once(')')?;
    let pid = head.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Process {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        running: u32::from(*fields.first()? == "R"),
        ticks: number(11)? + number(12)?,
        resident: number(21)?,
        threads: u32::try_from(number(17)?).ok()?,
    })
}

/// What each of these processes takes, with all that descend from it. Who descends from two of them counts for
/// the nearer.
pub(super) fn trees(processes: &[Process], roots: &[u32]) -> HashMap<u32, Sum> {
    let parents: HashMap<u32, u32> = processes.iter().map(|one| (one.pid, one.parent)).collect();
    let wanted: HashSet<u32> = roots.iter().copied().collect();
    let mut sums: HashMap<u32, Sum> = HashMap::new();
    for process in processes {
        let mut at = process.pid;
        // As deep as there are processes at most: what was read while it changed may hold a ring.
        for _ in 0..processes.len() {
            if wanted.contains(&at) {
                let sum = sums.entry(at).or_default();
                sum.running += process.running;
                sum.ticks += process.ticks;
                sum.resident += process.resident;
                break;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => break,
            }
        }
    }
    sums
}

/// Processes that run or wait for a processor, this one not counted: the fourth field of `/proc/loadavg`. The
/// averages before it go back a minute and more, and count those that wait for a disk.
pub(super) fn running(loadavg: &str) -> Option<u32> {
    let (running, _) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    Some(running.parse::<u32>().ok()?.saturating_sub(1))
}

/// The lines of `/proc/meminfo` that count here.
pub(super) fn memory(meminfo: &str) -> Memory {
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Mebibytes::of_bytes(kib.unwrap_or(0) << 10)
    };
    let (total, swap_total) = (of("MemTotal"), of("SwapTotal"));
    Memory {
        total,
        free: of("MemAvailable").min(total),
        swap_total,
        swap_free: of("SwapFree").min(swap_total),
    }
}

/// `some avg10` of a pressure file, hundredths of a per cent; 0 where there is none (CONFIG_PSI is off).
fn some(text: &str) -> u16 {
    let line = text.lines().find_map(|line| line.strip_prefix("some avg10="));
    let percent = line.and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
    // Between 0 and 100, so nothing is lost.
    (percent.unwrap_or(0.0).clamp(0.0, 100.0) * 100.0).round() as u16
}

/// The pressures, from what is read of each.
pub(super) fn pressure(read: impl Fn(&str) -> String) -> Pressure {
    Pressure { cpu: some(&read("cpu")), memory: some(&read("memory")), io: some(&read("io")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pid: u32, name: &str, state: &str, parent: u32, ticks: u64) -> String {
        format!(
            "{pid} ({name}) {state} {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 2 9 9 20 0 1 0 5 1000 77 0\n"
        )
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let process = stat(&line(7, "a) R (b", "S", 3, 40)).unwrap();
        assert_eq!((process.pid, process.parent, process.running), (7, 3, 0));
        assert_eq!((process.ticks, process.resident, process.threads), (42, 77, 1));
        assert_eq!(stat(&line(7, "x", "R", 3, 0)).unwrap().running, 1);
        for text in ["", "7", "7 (x)", "7 (x) S 3"] {
            assert_eq!(stat(text), None);
        }
        assert!(processes().iter().any(|one| one.pid == std::process::id()));
    }

    #[test]
    fn a_job_is_all_that_descends_from_its_first_process() {
        let of = |pid, parent, running| {
            let state = if running { "R" } else { "S" };
            stat(&line(pid, "x", state, parent, 8)).unwrap()
        };
        let processes = [
            of(1, 0, false),
            of(10, 1, false),
            of(11, 10, true),
            of(12, 11, true),
            of(20, 12, true),
        ];
        let sums = trees(&processes, &[10, 20, 99]);
        assert_eq!(sums.len(), 2);
        assert_eq!(sums[&10], Sum { running: 2, ticks: 30, resident: 231 });
        assert_eq!(sums[&20], Sum { running: 1, ticks: 10, resident: 77 });
        let ring = [of(5, 6, true), of(6, 5, true)];
        assert!(trees(&ring, &[1]).is_empty());
    }

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(running("0.20 0.18 0.12 3/80 11206\n"), Some(2));
        assert_eq!(running("0.20 0.18 0.12 0/80 11206\n"), Some(0));
        assert_eq!(running(""), None);
        let text =
            "MemTotal: 8192 kB\nMemAvailable:   4096 kB\nSwapTotal: 2048 kB\nSwapFree: 9999 kB\n";
        let [eight, four, two] = [8, 4, 2].map(Mebibytes);
        let wanted = Memory { total: eight, free: four, swap_total: two, swap_free: two };
        assert_eq!(memory(text), wanted);
        assert_eq!(memory(""), Memory::default());
        let text = "some avg10=12.34 avg60=0.53 avg300=2.92 total=1\nfull avg10=99.00\n";
        let read = |name: &str| if name == "cpu" { text.to_owned() } else { String::new() };
        assert_eq!(pressure(read), Pressure { cpu: 1_234, memory: 0, io: 0 });
    }
}
