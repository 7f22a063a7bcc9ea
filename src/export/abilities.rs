//! What this kernel offers to the serving of files; where something is missing, it goes without.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::sys::{self, HandleUse};
use super::watch;
use crate::types::KernelFeature;

/// The means that may be missing, each found out once. Tests switch them off one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// `open_by_handle_at(2)`: file ids survive a restart of the server. Missing in containers without
    /// CAP_DAC_READ_SEARCH; then files known to peers are pinned, and forgotten by a restart.
    pub handles: bool,
    /// `openat2(2)` (Linux 5.6, but refused by some seccomp filters). Missing: mounts are recognised
    /// after opening instead of before.
    pub openat2: bool,
    /// `fanotify(7)` of whole file systems (Linux 5.17, CAP_SYS_ADMIN): local changes are noticed. Missing:
    /// nobody may remember anything, and asks each time.
    pub fanotify: bool,
    /// Leases of fcntl(2): local writers wait for who reads without asking. Missing: nobody does.
    pub leases: bool,
}

/// Whether the kernel gives them (proc(5)).
const LEASES_ENABLE: &str = "/proc/sys/fs/leases-enable";

// === impl Abilities ===

impl Abilities {
    /// Everything there is.
    pub const ALL: Self = Self { handles: true, openat2: true, fanotify: true, leases: true };

    /// Tries each on this kernel.
    pub fn probe() -> Self {
        let Ok(root) = rustix::fs::open("/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        else {
            return Self { handles: false, openat2: false, fanotify: false, leases: false };
        };
        let openat2 = rustix::fs::openat2(
            &root,
            ".",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH,
        )
        .is_ok();
        // A handle that cannot be made here says nothing about other file systems: that is found out
        // mount by mount. What counts here is the right to open one.
        let handles = match sys::name_to_handle(root.as_fd(), c"", HandleUse::Open) {
            Ok((handle, _)) => !matches!(
                sys::open_by_handle(root.as_fd(), &handle, OFlags::PATH | OFlags::CLOEXEC)
                    .err()
                    .and_then(|error| error.raw_os_error()),
                Some(libc::EPERM | libc::ENOSYS)
            ),
            Err(error) => error.raw_os_error() != Some(libc::ENOSYS),
        };
        let leases = std::fs::read_to_string(LEASES_ENABLE).is_ok_and(|on| on.trim() == "1");
        Self { handles, openat2, fanotify: watch::is_possible(&root), leases }
    }

    /// The same without these, as a kernel has it that lacks them.
    #[must_use]
    pub fn without(self, features: &[KernelFeature]) -> Self {
        Self {
            handles: self.handles && !features.contains(&KernelFeature::FileHandles),
            openat2: self.openat2 && !features.contains(&KernelFeature::Openat2),
            fanotify: self.fanotify && !features.contains(&KernelFeature::Fanotify),
            leases: self.leases && !features.contains(&KernelFeature::FileLeases),
        }
    }

    /// What is missing.
    pub fn missing(self) -> Vec<KernelFeature> {
        let mut missing = Vec::new();
        if !self.handles {
            missing.push(KernelFeature::FileHandles);
        }
        if !self.openat2 {
            missing.push(KernelFeature::Openat2);
        }
        if !self.fanotify {
            missing.push(KernelFeature::Fanotify);
        }
        if !self.leases {
            missing.push(KernelFeature::FileLeases);
        }
        missing
    }
}
