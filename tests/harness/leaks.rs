//! What a laboratory must not leave on the machine.

use std::collections::BTreeSet;
use std::fs;

/// What of this machine a laboratory could change.
#[derive(Debug, Clone)]
pub struct Machine {
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
}

// === impl Machine ===

impl Machine {
    /// The machine as it is now.
    pub fn look() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
        let names = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        Self {
            mounts: mountinfo.lines().filter_map(point).collect(),
            interfaces: names.filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        }
    }

    /// What is there now of the laboratory `name` that was not there at the time of `self`: a line each.
    ///
    /// Tests run side by side, so only what bears the laboratory's name is its own.
    pub fn left_behind(&self, name: &str) -> Vec<String> {
        let now = Self::look();
        let mut left = Vec::new();
        for mount in now.mounts.difference(&self.mounts).filter(|mount| mount.contains(name)) {
            left.push(format!("mount {mount}"));
        }
        for interface in now.interfaces.difference(&self.interfaces) {
            if interface.contains(name) {
                left.push(format!("interface {interface}"));
            }
        }
        left.extend(processes_of(name));
        left
    }
}

/// Processes that name the laboratory in their arguments or their environment.
fn processes_of(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let has_name = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            bytes
                .split(|byte| *byte == 0)
                .any(|word| String::from_utf8_lossy(word).split(['/', '=', ' ']).any(|p| p == name))
        };
        // The root of a process inside shows the laboratory's directory.
        let root = fs::read_link(entry.path().join("root")).unwrap_or_default();
        let inside = root.components().any(|part| part.as_os_str() == name);
        if pid != std::process::id() && (inside || has_name("cmdline") || has_name("environ")) {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            found.push(format!("process {pid}: {}", words.trim()));
        }
    }
    found
}
