//! How busy this node is, as the kernel says.

use std::fs;
use std::thread;

use mfs_proto::v1;

/// Now, with so many jobs of the cluster.
pub(super) fn now(jobs: u32) -> v1::LoadReply {
    // A quota of this process's control group counts.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    v1::LoadReply {
        processors_milli: u32::try_from(processors * 1_000).unwrap_or(u32::MAX),
        running_milli: running(&text("/proc/loadavg")).unwrap_or(0).max(jobs * 1_000),
        memory_free: memory_free(&text("/proc/meminfo")).unwrap_or(u64::MAX),
        jobs,
    }
}

/// The processes that run or wait for a processor, this one not counted, thousandths: the fourth field of
/// `/proc/loadavg` (proc(5)).
fn running(loadavg: &str) -> Option<u32> {
    let (running, _) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    Some(running.parse::<u32>().ok()?.saturating_sub(1).saturating_mul(1_000))
}

/// Bytes of memory that can be had without swapping.
fn memory_free(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(running("0.20 0.18 0.12 3/80 11206\n"), Some(2_000));
        assert_eq!(running("0.20 0.18 0.12 0/80 11206\n"), Some(0));
        assert_eq!(running(""), None);
        let meminfo = "MemTotal: 8 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(memory_free(meminfo), Some(1 << 20));
        assert_eq!(memory_free("MemTotal: 8 kB\n"), None);
    }

    #[test]
    fn a_job_that_has_just_begun_counts() {
        let load = now(u32::MAX / 1_000);
        assert!(load.running_milli >= u32::MAX / 1_000 * 1_000 && load.processors_milli >= 1_000);
    }
}
