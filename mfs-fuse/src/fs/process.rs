//! The process behind a request, as `/proc` shows it while the request is unanswered.
//!
//! Nothing here is cached and nothing is read after the reply: the kernel holds the asking thread in its
//! system call until then, so what its files say cannot belong to another process of the same number.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;

use mfs::types::op::{LockFamily, LockHolder, LockKind, Taking};
use mfs::types::{Caller, Capabilities};

/// Who asks, as the kernel's request says: identity and thread id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
    /// Thread id; 0 for a process outside this process's pid namespace.
    pub tid: u32,
}

/// A process by its number and the moment it started, so that a number used again is another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, clock ticks since boot.
    pub started: u64,
}

/// The parts of `/proc/TID/status` that matter to a file system.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    tgid: u32,
    groups: Vec<u32>,
    umask: u32,
    effective: u64,
    /// The real user id.
    real: u32,
    /// In how many pid namespaces it has a number, from ours on.
    depth: usize,
    pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

/// SIGKILL's bit in the signal masks of `/proc/PID/status`.
const KILL: u64 = 1 << (libc::SIGKILL - 1);

/// Where the capabilities of capabilities(7) stand in `CapEff`, and what they are here.
const CAPABILITY_BITS: [(u32, Capabilities); 11] = [
    (0, Capabilities::CHOWN),
    (1, Capabilities::DAC_OVERRIDE),
    (2, Capabilities::DAC_READ_SEARCH),
    (3, Capabilities::FOWNER),
    (4, Capabilities::FSETID),
    (9, Capabilities::LINUX_IMMUTABLE),
    (21, Capabilities::SYS_ADMIN),
    (24, Capabilities::SYS_RESOURCE),
    (27, Capabilities::MKNOD),
    (28, Capabilities::LEASE),
    (31, Capabilities::SETFCAP),
];

/// Most ancestors looked at: a loop through a reused number must end.
const MAX_ANCESTORS: usize = 1_024;

// === impl Asker ===

impl Asker {
    /// The caller with its groups, umask and file capabilities, read now.
    ///
    /// A process outside our pid namespace cannot be looked at: it is served with the identity that the
    /// kernel vouches for, without supplementary groups.
    pub fn caller(self) -> Caller {
        let identity = Caller {
            uid: self.uid,
            gid: self.gid,
            groups: Default::default(),
            pid: self.tid,
            umask: 0,
            capabilities: if self.uid == 0 { Capabilities::all() } else { Capabilities::empty() },
        };
        let Some(status) = self.status() else { return identity };
        // Root in the name of a job's user, as whoever images and restores the job: no more than the user.
        if self.uid == 0
            && (status.real != 0 || status.depth > 1)
            && let Some(user) = self.job_user()
        {
            let (pid, umask) = (status.tgid, status.umask);
            let capabilities = Capabilities::empty();
            return Caller { pid, umask, capabilities, ..user };
        }
        Caller {
            groups: status.groups.iter().copied().take(Caller::MAX_GROUPS).collect(),
            pid: status.tgid,
            umask: status.umask,
            capabilities: if status.effective != 0 && self.in_our_user_namespace() {
                file_capabilities(status.effective)
            } else {
                Capabilities::empty()
            },
            ..identity
        }
    }

    /// Whether a signal that the process would act upon is pending, so that EINTR is a true answer.
    pub fn is_interrupted(self) -> bool {
        self.status().is_some_and(|s| s.pending & !s.blocked & !s.ignored != 0)
    }

    /// Whether a signal that ends the process is pending: an operation that waits may end, nobody will
    /// see its error.
    pub fn is_killed(self) -> bool {
        self.status().is_some_and(|s| {
            let acting = s.pending & !s.blocked & !s.ignored;
            s.pending & KILL != 0 || acting & !s.caught & !harmless() != 0
        })
    }

    /// Which system call of a lock the thread is in: fuser passes on no flag that tells flock(2) from
    /// fcntl(2). Where it cannot be read, the lock is one of byte ranges, as on NFS, and the process's.
    pub fn locks(self, kind: LockKind) -> (LockFamily, Taking) {
        const OF_DESCRIPTIONS: [u64; 2] = [libc::F_OFD_SETLK as u64, libc::F_OFD_SETLKW as u64];
        let call = (self.tid != 0).then(|| self.system_call()).flatten();
        let (family, by) = match call {
            Some((libc::SYS_flock, _)) => (LockFamily::Flock, LockHolder::Description),
            Some((libc::SYS_fcntl, command)) if OF_DESCRIPTIONS.contains(&command) => {
                (LockFamily::Range, LockHolder::Description)
            }
            _ => (LockFamily::Range, LockHolder::Process),
        };
        // Who unlocks leaves no trace.
        let holder = if kind == LockKind::Unlock { None } else { self.status() };
        let namespace = holder.as_ref().and_then(|_| self.namespace()).unwrap_or(0);
        let pid = holder.map_or(0, |status| status.tgid);
        (family, Taking { pid, namespace, by, parked: None })
    }

    /// Whether the process lives in a pid namespace of its own, as those of a job do.
    pub fn is_apart(self) -> bool {
        static OURS: LazyLock<Option<u64>> = LazyLock::new(|| namespace("self"));
        let theirs = self.namespace();
        theirs.is_some() && theirs != *OURS
    }

    /// The number of its pid namespace.
    fn namespace(self) -> Option<u64> {
        if self.tid == 0 { None } else { namespace(&self.tid.to_string()) }
    }

    /// Whether the thread is in rename(2). `false` also where it cannot be read.
    pub fn is_in_rename(self) -> bool {
        const RENAMES: [i64; 3] = [libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2];
        self.tid != 0 && self.system_call().is_some_and(|(call, _)| RENAMES.contains(&call))
    }

    /// The number of the system call, and its second argument.
    fn system_call(self) -> Option<(i64, u64)> {
        system_call(&fs::read_to_string(format!("/proc/{}/syscall", self.tid)).ok()?)
    }

    /// The process of the thread; `None` if it cannot be seen.
    pub fn process(self) -> Option<ProcessId> {
        ProcessId::of(self.status()?.tgid)
    }

    fn status(self) -> Option<Status> {
        if self.tid == 0 {
            return None;
        }
        fs::read_to_string(format!("/proc/{}/status", self.tid)).ok()?.parse().ok()
    }

    /// Capabilities of another user namespace are none over our files.
    fn in_our_user_namespace(self) -> bool {
        static OURS: LazyLock<Option<PathBuf>> =
            LazyLock::new(|| fs::read_link("/proc/self/ns/user").ok());
        let theirs = fs::read_link(format!("/proc/{}/ns/user", self.tid)).ok();
        theirs.is_some() && theirs == *OURS
    }
}

// === impl ProcessId ===

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: stat_of(pid)?.1 })
    }

    /// The process and its ancestors, the nearest first.
    pub fn lineage(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |process| {
            let (parent, _) = stat_of(process.pid)?;
            if parent == 0 { None } else { Self::of(parent) }
        })
        .take(MAX_ANCESTORS)
    }

    /// Whether it is root's in every respect. Another than [`Self::owner`]: root owns the files of all processes
    /// that may not be looked into (proc(5)).
    pub fn is_roots(self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        ids.is_some_and(|ids| ids.split_whitespace().all(|id| id == "0"))
    }

    /// The user the process belongs to.
    pub fn owner(self) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(format!("/proc/{}", self.pid)).ok().map(|m| m.uid())
    }
}

// === impl Status ===

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fields: HashMap<_, _> =
            text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k, v.trim())).collect();
        let field = |name| fields.get(name).copied().ok_or(());
        let mask = |name| u64::from_str_radix(field(name)?, 16).map_err(drop);
        Ok(Self {
            tgid: field("Tgid")?.parse().map_err(drop)?,
            groups: field("Groups")?.split_whitespace().filter_map(|g| g.parse().ok()).collect(),
            umask: u32::from_str_radix(field("Umask")?, 8).map_err(drop)?,
            effective: mask("CapEff")?,
            real: fields
                .get("Uid")
                .and_then(|ids| ids.split_whitespace().next()?.parse().ok())
                .unwrap_or(0),
            depth: fields.get("NSpid").map_or(1, |numbers| numbers.split_whitespace().count()),
            pending: mask("SigPnd")? | mask("ShdPnd")?,
            blocked: mask("SigBlk")?,
            ignored: mask("SigIgn")?,
            caught: mask("SigCgt")?,
        })
    }
}

/// The number of the pid namespace of a process (namespaces(7)).
fn namespace(process: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{process}/ns/pid")).ok().map(|file| file.ino())
}

/// The number and the second argument in a line `72 0x3 0x25 0x7ffc 0x0 0x0 0x0 0x7ffc 0x7f1d`
/// (proc_pid_syscall(5)).
fn system_call(line: &str) -> Option<(i64, u64)> {
    let mut words = line.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let second = words.nth(1)?.strip_prefix("0x")?;
    Some((number, u64::from_str_radix(second, 16).ok()?))
}

/// Signals whose default is not to end the process (signal(7)).
const fn harmless() -> u64 {
    1 << (libc::SIGCHLD - 1)
        | 1 << (libc::SIGCONT - 1)
        | 1 << (libc::SIGURG - 1)
        | 1 << (libc::SIGWINCH - 1)
        | 1 << (libc::SIGSTOP - 1)
        | 1 << (libc::SIGTSTP - 1)
        | 1 << (libc::SIGTTIN - 1)
        | 1 << (libc::SIGTTOU - 1)
}

fn file_capabilities(effective: u64) -> Capabilities {
    CAPABILITY_BITS
        .iter()
        .filter(|(bit, _)| effective >> bit & 1 == 1)
        .map(|(_, capability)| *capability)
        .collect()
}

/// Parent and start time of a process (proc_pid_stat(5)).
fn stat_of(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may itself hold parentheses and spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Asker {
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        Asker { uid, gid, tid: rustix::thread::gettid().as_raw_nonzero().get() as u32 }
    }

    #[test]
    fn a_caller_has_the_groups_and_the_process_of_its_thread() {
        let caller = std::thread::spawn(|| me().caller()).join().unwrap();
        assert_eq!(caller.pid, std::process::id());
        let groups = rustix::process::getgroups().unwrap();
        let groups: Vec<u32> = groups.into_iter().map(|g| g.as_raw()).collect();
        assert_eq!(caller.groups.as_slice(), groups);
    }

    #[test]
    fn a_caller_out_of_sight_keeps_the_kernels_identity() {
        let caller = Asker { uid: 1000, gid: 100, tid: 0 }.caller();
        assert_eq!((caller.uid, caller.gid, caller.groups.len()), (1000, 100, 0));
        assert_eq!(caller.capabilities, Capabilities::empty());
        assert_eq!(Asker { uid: 0, gid: 0, tid: 0 }.caller().capabilities, Capabilities::all());
    }

    #[test]
    fn capabilities_are_those_of_the_mask() {
        assert_eq!(file_capabilities(0), Capabilities::empty());
        assert_eq!(file_capabilities(1 << 27 | 1), Capabilities::CHOWN | Capabilities::MKNOD);
        assert_eq!(file_capabilities(u64::MAX), Capabilities::all());
    }

    #[test]
    fn a_system_call_is_read_with_its_command() {
        assert_eq!(system_call("72 0x3 0x25 0x7ffc 0x0 0x0 0x0 0x7ffc 0x7f1d\n"), Some((72, 0x25)));
        assert_eq!(system_call("running\n"), None);
        assert_eq!(system_call("-1 0x7ffc 0x7f1d\n").map(|(number, _)| number), Some(-1));
    }

    #[test]
    fn the_lineage_goes_up_to_the_first_process() {
        let me = ProcessId::of(std::process::id()).unwrap();
        let lineage: Vec<_> = me.lineage().collect();
        assert_eq!(lineage[0], me);
        assert!(lineage.len() > 1, "a test has a parent");
        assert!(me.owner().is_some());
    }

    #[test]
    fn a_blocked_or_ignored_signal_interrupts_nothing() {
        let status = |pending: &str, blocked: &str| {
            format!(
                "Tgid:\t1\nGroups:\t4 5 \nUmask:\t0022\nCapEff:\t0\nSigPnd:\t{pending}\n\
                 ShdPnd:\t0\nSigBlk:\t{blocked}\nSigIgn:\t0\nSigCgt:\t0\n"
            )
            .parse::<Status>()
            .unwrap()
        };
        let waiting = status("2", "2");
        assert_eq!(waiting.pending & !waiting.blocked, 0);
        assert_eq!(status("2", "0").groups, [4, 5]);
        assert_eq!(status("2", "0").umask, 0o22);
    }
}
