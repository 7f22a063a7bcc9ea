//! Conflict copies: bytes that do not go into their file, because others have changed it meanwhile, are kept
//! beside it, in a file of their own with a hole where nothing was stored.
//!
//! A copy belongs to who had the file open, who alone may read it, and is made with his rights. Where he may
//! make none, or nobody knows any more where the file was, it is made by the server in a directory at the root
//! of the tree.
//!
//! Not here: whether a file was changed by others, and which bytes go into one copy.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};

use super::impersonate::Impersonation;
use super::io::write_all;
use super::mounts::path_of;
use super::open_file::OpenFile;
use crate::types::{DataVersion, Errno};

/// The directory for the copies that have no place beside their file. Who knows a name in it can open that,
/// if it is his.
const LOST: &str = ".mfs-conflicts";

/// Longest name of a file.
const NAME_MAX: usize = 255;

/// How many copies of one name there may be.
const MOST: u32 = 10_000;

// === impl OpenFile ===

impl OpenFile {
    /// Which data the file has at the moment.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn version(&self) -> Result<DataVersion, Errno> {
        self.attr().map(|attr| DataVersion::of(&attr))
    }

    /// Writes bytes that are not to go into the file into its conflict copy, and has them reach the disk: into
    /// `copy` if that is still there, else into a new one, named after the file and after `by`, whose bytes
    /// they are. Says where it is.
    ///
    /// # Errors
    /// Those of open(2), pwrite(2) and fdatasync(2): then the bytes are nowhere.
    pub fn write_apart(
        &self,
        by: &str,
        copy: Option<&Path>,
        offset: u64,
        data: &[u8],
    ) -> Result<PathBuf, Errno> {
        let again = copy.and_then(|path| Some((self.open_copy(path).ok()?, path.to_owned())));
        let (fd, path) = match again {
            Some(found) => found,
            None => self.make_copy(by)?,
        };
        let written = {
            let _as_opener = Impersonation::begin(&self.0.opener)?;
            write_all(fd.as_fd(), offset, data)?
        };
        if (written.size as usize) < data.len() {
            return Err(Errno::NoSpc);
        }
        rustix::fs::fdatasync(&fd)?;
        Ok(path)
    }

    fn open_copy(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let _as_opener = Impersonation::begin(&self.0.opener)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn make_copy(&self, by: &str) -> Result<(OwnedFd, PathBuf), Errno> {
        let place = self.last_place();
        let beside = place.as_ref().map(|(directory, name)| {
            let _as_opener = Impersonation::begin(&self.0.opener)?;
            make(CWD, name, by).map(|(fd, name)| (fd, directory.join(name)))
        });
        match beside {
            Some(Ok(made)) => Ok(made),
            Some(Err(_)) | None => {
                let name = place.as_ref().and_then(|(_, path)| path.file_name());
                let number = || OsString::from(format!("file-{}", self.number().get()));
                self.make_lost(&name.map_or_else(number, OsStr::to_owned), by)
            }
        }
    }

    /// Where the file is, or was when it was removed: its directory, and its whole path.
    fn last_place(&self) -> Option<(PathBuf, PathBuf)> {
        let fd = self.as_fd()?;
        let mut path = path_of(fd).ok()?;
        if rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_nlink == 0) {
            let bytes = path.as_os_str().as_bytes();
            let named = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes).to_vec();
            path = PathBuf::from(OsString::from_vec(named));
        }
        // What is reached by its handle alone has no path that leads to it.
        let directory = path.parent().filter(|_| path.is_absolute())?.to_owned();
        path.file_name()?;
        Some((directory, path))
    }

    fn make_lost(&self, name: &OsStr, by: &str) -> Result<(OwnedFd, PathBuf), Errno> {
        let root = self.0.tree.root.as_fd();
        match rustix::fs::mkdirat(root, LOST, Mode::from_bits_truncate(0o711)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(root, LOST, flags, Mode::empty())?;
        // Who may make names there could have made it; then it is not a safe place.
        if rustix::fs::fstat(&directory)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(Errno::Perm);
        }
        let (fd, made) = make(&directory, Path::new(name), by)?;
        let owner = (Uid::from_raw(self.0.opener.uid), Gid::from_raw(self.0.opener.gid));
        rustix::fs::fchown(&fd, Some(owner.0), Some(owner.1))?;
        Ok((fd, path_of(directory.as_fd())?.join(made)))
    }
}

/// Makes an empty copy of the file at `path`, with the thread's present identity. Its name.
fn make(directory: impl AsFd, path: &Path, by: &str) -> Result<(OwnedFd, OsString), Errno> {
    let original = path.file_name().ok_or(Errno::Inval)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for number in 1..MOST {
        let name = name_of_copy(original, by, number);
        let path = path.with_file_name(&name);
        match rustix::fs::openat(&directory, &path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok((fd, name)),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::Exist)
}

/// `NAME.mfs-conflict-NODE-NUMBER`, with as much of the name as there is room for.
fn name_of_copy(original: &OsStr, by: &str, number: u32) -> OsString {
    let suffix = format!(".mfs-conflict-{by}-{number}");
    let original = original.as_bytes();
    let kept = original.len().min(NAME_MAX.saturating_sub(suffix.len()));
    let mut name = original[..kept].to_vec();
    name.extend_from_slice(suffix.as_bytes());
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_named_after_its_file_as_far_as_there_is_room() {
        let name = name_of_copy(OsStr::new("a.db"), "n1", 2);
        assert_eq!(name, "a.db.mfs-conflict-n1-2");
        let long = name_of_copy(OsStr::new(&"x".repeat(255)), "n1", 1);
        assert_eq!(long.len(), 255);
        assert!(long.to_string_lossy().ends_with("x.mfs-conflict-n1-1"));
    }
}
