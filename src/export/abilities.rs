//! What this kernel offers to the serving of files; where something is missing, it goes without.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::sys::{self, HandleUse};

/// The means that may be missing, each found out once. Tests switch them off one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// `open_by_handle_at(2)`: file ids survive a restart of the server. Missing in containers without
    /// CAP_DAC_READ_SEARCH; then files known to peers are pinned, and forgotten by a restart.
    pub handles: bool,
    /// `openat2(2)` (Linux 5.6, but refused by some seccomp filters). Missing: mounts are recognised
    /// after opening instead of before.
    pub openat2: bool,
}

// === impl Abilities ===

impl Abilities {
    /// Everything there is.
    pub const ALL: Self = Self { handles: true, openat2: true };

    /// Tries each on this kernel.
    pub fn probe() -> Self {
        let Ok(root) = rustix::fs::open("/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        else {
            return Self { handles: false, openat2: false };
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
        Self { handles, openat2 }
    }

    /// What is missing, in words for `mfs nodes -v`.
    pub fn missing(self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.handles {
            missing.push("file handles (a restart of mfsd makes files stale)");
        }
        if !self.openat2 {
            missing.push("openat2 (mounts are recognised later)");
        }
        missing
    }
}
