//! What tells this start of the daemon from all others.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;

use mfs::types::{Epoch, Verifier};

/// Where Linux keeps the id of the machine's boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A lifetime of this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Names it to sessions.
    pub(crate) epoch: Epoch,
    /// Changes when acknowledged writes may have been lost: with the machine's boot. Not with the daemon:
    /// the page cache survives it, and so does an error of writing back that nobody has seen, since the
    /// kernel keeps it with the inode and tells the next who opens it (lib/errseq.c, Linux 4.17).
    pub(crate) verifier: Verifier,
}

// === impl Instance ===

impl Instance {
    /// A new lifetime.
    ///
    /// # Errors
    /// If /proc is not mounted.
    pub(crate) fn begin() -> io::Result<Self> {
        Ok(Self::of(fs::read_to_string(BOOT_ID)?.trim(), rand::random()))
    }

    fn of(boot: &str, start: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        boot.hash(&mut hasher);
        let epoch = Epoch::new(start).unwrap_or(Epoch::FIRST);
        Self { epoch, verifier: Verifier(hasher.finish()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_another_epoch_and_a_boot_another_verifier() {
        let first = Instance::of("a", 1);
        let restarted = Instance::of("a", 2);
        assert_ne!(first.epoch, restarted.epoch);
        assert_eq!(first.verifier, restarted.verifier);
        assert_ne!(first.verifier, Instance::of("b", 1).verifier);
        assert_ne!(Instance::begin().unwrap(), Instance::begin().unwrap());
    }
}
