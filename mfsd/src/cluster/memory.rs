//! What membership keeps in the state directory: the boot epoch and the members as last seen.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mfs::clock;
use mfs::membership::Member;

/// Directory of membership in the state directory; 0700, as all of it.
const DIRECTORY: &str = "membership";
const EPOCH: &str = "epoch";
const LAST_VIEW: &str = "last-view.json";

/// Membership's part of the state directory.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    directory: PathBuf,
}

// === impl Memory ===

impl Memory {
    /// Below this state directory; makes what is missing.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let directory = state_dir.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        Ok(Self { directory })
    }

    /// The boot epoch of the run that begins: later than all before it, also if the clock was set back.
    ///
    /// On the disk before it is returned: two runs with the same epoch would seal different datagrams
    /// with the same nonce.
    pub(super) fn begin_epoch(&self) -> io::Result<u32> {
        let last = match fs::read_to_string(self.directory.join(EPOCH)) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let path = self.directory.join(EPOCH);
                io::Error::other(format!(
                    "{} does not hold a number: write the seconds since 1970 into it (date +%s)",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0_u32,
            Err(error) => return Err(error),
        };
        let clock = u32::try_from(clock::unix_seconds()).unwrap_or(u32::MAX);
        let epoch = clock.max(last.saturating_add(1));
        self.remember_epoch(epoch)?;
        Ok(epoch)
    }

    /// Makes sure that no later run has this epoch or one before it.
    pub(super) fn remember_epoch(&self, epoch: u32) -> io::Result<()> {
        self.replace(EPOCH, format!("{epoch}\n").as_bytes())
    }

    /// The members as the last run saw them; none if there is no such file, or not a good one.
    pub(super) fn last_view(&self) -> Vec<Member> {
        let path = self.directory.join(LAST_VIEW);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the members as last seen are unreadable; starting without");
                vec![]
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the members as last seen are unreadable; starting without");
                vec![]
            }
        }
    }

    /// Keeps the members as seen now.
    pub(super) fn remember_view(&self, members: &[Member]) -> io::Result<()> {
        self.replace(LAST_VIEW, &serde_json::to_vec(members)?)
    }

    /// Replaces a file, all or nothing.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (path, fresh) = (self.directory.join(name), self.directory.join(format!("{name}.new")));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_never_begun_twice() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        let first = memory.begin_epoch().unwrap();
        assert!(first >= 1_700_000_000);
        let second = Memory::open(state.path()).unwrap().begin_epoch().unwrap();
        assert!(second > first);
        memory.remember_epoch(second + 1_000).unwrap();
        assert_eq!(memory.begin_epoch().unwrap(), second + 1_001);
        fs::write(memory.directory.join(EPOCH), "garbage").unwrap();
        assert!(memory.begin_epoch().unwrap_err().to_string().contains("does not hold a number"));
    }

    #[test]
    fn a_spoilt_view_is_no_view() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        assert_eq!(memory.last_view(), []);
        fs::write(memory.directory.join(LAST_VIEW), b"{").unwrap();
        assert_eq!(memory.last_view(), []);
        memory.remember_view(&[]).unwrap();
        assert_eq!(memory.last_view(), []);
    }
}
