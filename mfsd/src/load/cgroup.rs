//! The part of the machine's processors that the control group of this process may use (cgroups(7)), of either
//! version. Jobs run in the same group.

use std::fs;
use std::path::{Path, PathBuf};

/// A quota of processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quota {
    /// Thousandths of a processor.
    pub(super) processors: u32,
    /// Where the group says under what pressure it is; only groups of version 2 do.
    pub(super) pressure: Option<PathBuf>,
}

/// The hierarchy that limits processors.
#[derive(Debug, PartialEq, Eq)]
enum Hierarchy {
    /// Version 1: the mount of the controller `cpu`, and the group in it.
    Separate(PathBuf, PathBuf),
    /// Version 2: the one mount of all controllers, and the group.
    Unified(PathBuf, PathBuf),
}

/// The quota of this process, if it has one.
pub(super) fn quota() -> Option<Quota> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let read = |path: &Path| fs::read_to_string(path).ok();
    hierarchies(&mounts, &groups)
        .iter()
        .filter_map(|hierarchy| hierarchy.quota(&read))
        .min_by_key(|quota| quota.processors)
}

fn hierarchies(mounts: &str, groups: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        let [_, point, kind, options, ..] = fields.as_slice() else { continue };
        let point = PathBuf::from(point.replace("\\040", " "));
        // Lines are number:controllers:path; the controllers of version 2 are none.
        let group = |is_own: &dyn Fn(&str) -> bool| {
            groups.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                is_own(controllers).then(|| PathBuf::from(path.trim_start_matches('/')))
            })
        };
        let of_cpu = |words: &str| words.split(',').any(|word| word == "cpu");
        if *kind == "cgroup2" {
            found.extend(group(&str::is_empty).map(|group| Hierarchy::Unified(point, group)));
        } else if *kind == "cgroup" && of_cpu(options) {
            found.extend(group(&of_cpu).map(|group| Hierarchy::Separate(point, group)));
        }
    }
    found
}

// === impl Hierarchy ===

impl Hierarchy {
    /// The least quota of the group and those above it. Inside a container the mount shows the container's own
    /// group at its top, and the path of the group is nowhere: then the top counts.
    fn quota(&self, read: &dyn Fn(&Path) -> Option<String>) -> Option<Quota> {
        let (Self::Separate(mount, group) | Self::Unified(mount, group)) = self;
        let unified = matches!(self, Self::Unified(..));
        let of = |group: &Path| {
            let directory = mount.join(group);
            let (quota, period) = if unified {
                let text = read(&directory.join("cpu.max"))?;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
            } else {
                let number = |name| read(&directory.join(name))?.trim().parse().ok();
                (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
            };
            let processors = (quota * 1_000).checked_div(period)?;
            Some(Quota {
                processors: u32::try_from(processors).unwrap_or(u32::MAX).max(1),
                pressure: unified.then_some(directory),
            })
        };
        group.ancestors().filter_map(of).min_by_key(|quota| quota.processors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&Path) -> Option<String> + 'a {
        move |path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        }
    }

    #[test]
    fn both_versions_are_found() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let groups = "3:cpuset:/x\n2:cpu,cpuacct:/lab/n1\n0::/two\n";
        let path = PathBuf::from;
        let wanted = [
            Hierarchy::Separate(path("/sys/fs/cgroup/cpu"), path("lab/n1")),
            Hierarchy::Unified(path("/sys/fs/cgroup/unified"), path("two")),
        ];
        assert_eq!(hierarchies(mounts, groups), wanted);
        assert_eq!(hierarchies("", groups), []);
        let _ = quota(); // whatever this machine has, it is no reason to panic
    }

    #[test]
    fn the_least_quota_on_the_way_counts() {
        let unified = Hierarchy::Unified("/c".into(), "a/b".into());
        let least =
            files(&[("/c/a/b/cpu.max", "max 100000\n"), ("/c/a/cpu.max", "50000 100000\n")]);
        let wanted = Quota { processors: 500, pressure: Some("/c/a".into()) };
        assert_eq!(unified.quota(&least), Some(wanted));
        assert_eq!(unified.quota(&files(&[("/c/a/cpu.max", "max 100000")])), None);
        assert_eq!(unified.quota(&files(&[("/c/a/cpu.max", "1 0")])), None);
        let separate = Hierarchy::Separate("/c".into(), "elsewhere".into());
        let top =
            files(&[("/c/cpu.cfs_quota_us", "250000\n"), ("/c/cpu.cfs_period_us", "100000\n")]);
        assert_eq!(separate.quota(&top).unwrap().processors, 2_500);
        let none = files(&[("/c/cpu.cfs_quota_us", "-1\n"), ("/c/cpu.cfs_period_us", "100000\n")]);
        assert_eq!(separate.quota(&none), None);
    }
}
