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
    /// Changes when acknowledged writes may have been lost: with the machine's boot, and with the daemon,
    /// whose descriptors held the errors of writing back.
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
        (boot, start).hash(&mut hasher);
        let epoch = Epoch::new(start).unwrap_or(Epoch::FIRST);
        Self { epoch, verifier: Verifier(hasher.finish()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_and_every_boot_is_another() {
        let first = Instance::of("a", 1);
        assert_eq!(first, Instance::of("a", 1));
        assert_ne!(first.verifier, Instance::of("a", 2).verifier);
        assert_ne!(first.verifier, Instance::of("b", 1).verifier);
        assert_ne!(first.epoch, Instance::of("a", 2).epoch);
        assert_ne!(Instance::begin().unwrap(), Instance::begin().unwrap());
    }
}
