//! Means of the kernel that mfs uses where they are, and goes without where they are not.

use std::fmt;
use std::str::FromStr;

/// A means that a kernel may lack, or that an administrator switches off (`without` in mfsd.toml).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelFeature {
    /// open_by_handle_at(2): file ids survive a restart of mfsd. Missing in some containers.
    FileHandles,
    /// openat2(2), Linux 5.6: mounts below the export are recognised before they are touched.
    Openat2,
    /// fanotify(7) of whole file systems, Linux 5.17: local changes are noticed, so that peers may remember.
    Fanotify,
    /// Leases of fcntl(2): who wants to write a file waits until other nodes have let it go. Off where the
    /// administrator has switched them off (`fs.leases-enable`).
    FileLeases,
    /// FUSE passthrough, Linux 6.9: direct access at the speed of the local file system.
    Passthrough,
}

/// A text names none of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a kernel feature that mfs can do without: write \"file-handles\", \"openat2\", \"fanotify\", \"file-leases\" or \"passthrough\""
)]
pub struct KernelFeatureError(String);

// === impl KernelFeature ===

impl KernelFeature {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::FileHandles, Self::Openat2, Self::Fanotify, Self::FileLeases, Self::Passthrough];

    /// The word for it in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::FileHandles => "file-handles",
            Self::Openat2 => "openat2",
            Self::Fanotify => "fanotify",
            Self::FileLeases => "file-leases",
            Self::Passthrough => "passthrough",
        }
    }

    /// What it means to go without, for `mfs nodes -v`.
    pub const fn consequence(self) -> &'static str {
        match self {
            Self::FileHandles => {
                "file handles: a restart of mfsd makes files stale, and dfsa=1 goes through mfsd"
            }
            Self::Openat2 => {
                "openat2: mounts below the export are recognised only after they are touched"
            }
            Self::Fanotify => {
                "fanotify: other nodes remember nothing of its files and ask each time"
            }
            Self::FileLeases => {
                "file leases: other nodes ask each time they open or read one of its files"
            }
            Self::Passthrough => "FUSE passthrough: dfsa=1 reads and writes through mfs-fuse",
        }
    }
}

impl fmt::Display for KernelFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for KernelFeature {
    type Err = KernelFeatureError;

    fn from_str(text: &str) -> Result<Self, KernelFeatureError> {
        Self::ALL
            .into_iter()
            .find(|feature| feature.word() == text)
            .ok_or_else(|| KernelFeatureError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_word_of_its_own() {
        for feature in KernelFeature::ALL {
            assert_eq!(feature.word().parse(), Ok(feature));
        }
        assert!("".parse::<KernelFeature>().is_err());
        assert!("leases".parse::<KernelFeature>().is_err());
    }
}
