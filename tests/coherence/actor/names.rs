//! Calls about names and attributes.

use libc::{AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW};

use super::super::hand::{Blob, Word};
use super::{Actor, Fd, Result};

/// Attributes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Its number.
    pub(crate) ino: u64,
    /// Kind and permissions.
    pub(crate) mode: u32,
    /// Its names.
    pub(crate) links: u32,
    /// Its owner.
    pub(crate) user: u32,
    /// Its group.
    pub(crate) group: u32,
    /// Its length.
    pub(crate) size: u64,
    /// Seconds and nanoseconds of its last change of data.
    pub(crate) modified: (i64, u32),
    /// The same of attributes.
    pub(crate) changed: (i64, u32),
}

// === impl Stat ===

impl Stat {
    /// Reads a `struct statx`, whose layout is the same everywhere (statx(2)).
    fn of(bytes: &[u8]) -> Self {
        let part = |at: usize| bytes[at..at + 8].try_into().expect("eight bytes");
        let long = |at| u64::from_le_bytes(part(at));
        let word = |at| long(at) as u32;
        let time = |at: usize| (i64::from_le_bytes(part(at)), word(at + 8));
        Self {
            links: word(16),
            user: word(20),
            group: word(24),
            mode: word(28) & 0xffff,
            ino: long(32),
            size: long(40),
            changed: time(96),
            modified: time(112),
        }
    }

    /// The permissions alone.
    pub(crate) const fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

// === impl Actor ===

impl Actor {
    /// stat(2).
    pub(crate) fn stat(&self, name: &str) -> Result<Stat> {
        self.statx(AT_FDCWD.into(), self.path(name), 0)
    }

    /// lstat(2).
    pub(crate) fn lstat(&self, name: &str) -> Result<Stat> {
        self.statx(AT_FDCWD.into(), self.path(name), AT_SYMLINK_NOFOLLOW)
    }

    /// fstat(2).
    pub(crate) fn fstat(&self, fd: Fd) -> Result<Stat> {
        self.statx(fd.0, vec![0], AT_EMPTY_PATH)
    }

    fn statx(&self, at: i64, path: Vec<u8>, flags: i32) -> Result<Stat> {
        let basic = i64::from(libc::STATX_BASIC_STATS);
        let words = vec![
            Word::Number(at),
            Word::Bytes(Blob(path)),
            Word::Number(flags.into()),
            Word::Number(basic),
            Word::Room(256),
        ];
        let (result, bytes) = self.system(libc::SYS_statx, words);
        result.map(|_| Stat::of(&bytes[1]))
    }

    /// The size alone.
    pub(crate) fn size(&self, name: &str) -> Result<u64> {
        self.stat(name).map(|stat| stat.size)
    }

    /// access(2) for reading: whether there is such a file that may be read.
    pub(crate) fn access(&self, name: &str) -> Result<()> {
        self.at_call(libc::SYS_faccessat, name, &[libc::R_OK.into()]).map(drop)
    }

    /// mkdir(2).
    pub(crate) fn mkdir(&self, name: &str) -> Result<()> {
        self.at_call(libc::SYS_mkdirat, name, &[0o777]).map(drop)
    }

    /// rmdir(2).
    pub(crate) fn rmdir(&self, name: &str) -> Result<()> {
        self.at_call(libc::SYS_unlinkat, name, &[AT_REMOVEDIR.into()]).map(drop)
    }

    /// unlink(2).
    pub(crate) fn unlink(&self, name: &str) -> Result<()> {
        self.at_call(libc::SYS_unlinkat, name, &[0]).map(drop)
    }

    /// rename(2).
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.rename_with(from, to, 0)
    }

    /// renameat2(2).
    pub(crate) fn rename_with(&self, from: &str, to: &str, flags: u32) -> Result<()> {
        self.two_paths(libc::SYS_renameat2, from, to, flags.into())
    }

    /// link(2).
    pub(crate) fn link(&self, from: &str, to: &str) -> Result<()> {
        self.two_paths(libc::SYS_linkat, from, to, 0)
    }

    fn two_paths(&self, number: i64, from: &str, to: &str, flags: i64) -> Result<()> {
        let words = vec![
            Word::Number(AT_FDCWD.into()),
            Word::Bytes(Blob(self.path(from))),
            Word::Number(AT_FDCWD.into()),
            Word::Bytes(Blob(self.path(to))),
            Word::Number(flags),
        ];
        self.system(number, words).0.map(drop)
    }

    /// symlink(2); the target is taken as it is.
    pub(crate) fn symlink(&self, target: &str, name: &str) -> Result<()> {
        let mut target = target.as_bytes().to_vec();
        target.push(0);
        let words = vec![
            Word::Bytes(Blob(target)),
            Word::Number(AT_FDCWD.into()),
            Word::Bytes(Blob(self.path(name))),
        ];
        self.system(libc::SYS_symlinkat, words).0.map(drop)
    }

    /// readlink(2).
    pub(crate) fn readlink(&self, name: &str) -> Result<String> {
        let words = vec![
            Word::Number(AT_FDCWD.into()),
            Word::Bytes(Blob(self.path(name))),
            Word::Room(4096),
            Word::Number(4096),
        ];
        let (length, bytes) = self.system(libc::SYS_readlinkat, words);
        let target = &bytes[1][..usize::try_from(length?).expect("a length")];
        Ok(String::from_utf8_lossy(target).into_owned())
    }

    /// chmod(2).
    pub(crate) fn chmod(&self, name: &str, mode: u32) -> Result<()> {
        self.at_call(libc::SYS_fchmodat, name, &[mode.into()]).map(drop)
    }

    /// chown(2).
    pub(crate) fn chown(&self, name: &str, user: u32, group: u32) -> Result<()> {
        self.at_call(libc::SYS_fchownat, name, &[user.into(), group.into(), 0]).map(drop)
    }

    /// utimensat(2): sets both times to the same.
    pub(crate) fn set_times(&self, name: &str, time: (i64, i64)) -> Result<()> {
        let one = [time.0.to_le_bytes(), time.1.to_le_bytes()].concat();
        let words = vec![
            Word::Number(AT_FDCWD.into()),
            Word::Bytes(Blob(self.path(name))),
            Word::Bytes(Blob([one.clone(), one].concat())),
            Word::Number(0),
        ];
        self.system(libc::SYS_utimensat, words).0.map(drop)
    }

    /// setxattr(2).
    pub(crate) fn set_attribute(&self, name: &str, attribute: &str, value: &[u8]) -> Result<()> {
        let words = vec![
            Word::Bytes(Blob(self.path(name))),
            Word::Bytes(Blob(format!("{attribute}\0").into_bytes())),
            Word::Bytes(Blob(value.to_vec())),
            Word::Number(value.len() as i64),
            Word::Number(0),
        ];
        self.system(libc::SYS_setxattr, words).0.map(drop)
    }

    /// getxattr(2).
    pub(crate) fn attribute(&self, name: &str, attribute: &str) -> Result<Vec<u8>> {
        let words = vec![
            Word::Bytes(Blob(self.path(name))),
            Word::Bytes(Blob(format!("{attribute}\0").into_bytes())),
            Word::Room(1024),
            Word::Number(1024),
        ];
        let (length, mut bytes) = self.system(libc::SYS_getxattr, words);
        let mut value = bytes.remove(2);
        value.truncate(usize::try_from(length?).expect("a length"));
        Ok(value)
    }

    /// removexattr(2).
    pub(crate) fn remove_attribute(&self, name: &str, attribute: &str) -> Result<()> {
        let words = vec![
            Word::Bytes(Blob(self.path(name))),
            Word::Bytes(Blob(format!("{attribute}\0").into_bytes())),
        ];
        self.system(libc::SYS_removexattr, words).0.map(drop)
    }

    /// The names in a directory, sorted.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>> {
        let fd = self.open(name, libc::O_RDONLY | libc::O_DIRECTORY)?;
        let names = self.entries(fd);
        self.close(fd)?;
        let mut names = names?;
        names.sort();
        Ok(names)
    }

    /// The rest of an open directory, by as many calls of getdents64(2) as it takes.
    pub(crate) fn entries(&self, fd: Fd) -> Result<Vec<String>> {
        let mut names = Vec::new();
        loop {
            let more = self.some_entries(fd, 32 << 10)?;
            if more.is_empty() {
                return Ok(names);
            }
            names.extend(more.into_iter().filter(|name| name != "." && name != ".."));
        }
    }

    /// What one call of getdents64(2) gives; nothing at the end.
    pub(crate) fn some_entries(&self, fd: Fd, room: u64) -> Result<Vec<String>> {
        let words = vec![
            Word::Number(fd.0),
            Word::Room(room),
            Word::Number(room.try_into().expect("small")),
        ];
        let (length, bytes) = self.system(libc::SYS_getdents64, words);
        let mut rest = &bytes[0][..usize::try_from(length?).expect("a length")];
        let mut names = Vec::new();
        while !rest.is_empty() {
            // struct linux_dirent64: number, cookie, length of the record, kind, name up to NUL.
            let record = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            let name = rest[19..record].split(|byte| *byte == 0).next().expect("one part");
            names.push(String::from_utf8_lossy(name).into_owned());
            rest = &rest[record..];
        }
        Ok(names)
    }

    /// chdir(2).
    pub(crate) fn chdir(&self, name: &str) -> Result<()> {
        self.path_call(libc::SYS_chdir, name, &[]).map(drop)
    }

    /// The working directory, as the kernel names it.
    pub(crate) fn working_directory(&self) -> Result<String> {
        let words = vec![Word::Room(4096), Word::Number(4096)];
        let (length, bytes) = self.system(libc::SYS_getcwd, words);
        let path = &bytes[0][..usize::try_from(length?).expect("a length") - 1];
        Ok(String::from_utf8_lossy(path).into_owned())
    }
}
