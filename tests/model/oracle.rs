//! What the local file system says: the operations as system calls of an ordinary process of the
//! caller, on a directory of its own.
//!
//! Shares no code with the export: identities are those of setuid(2), files are found by walking names,
//! errors are what the kernel gave.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use mfs::types::{Access, Caller, Errno, FileKind};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};

use crate::differential::{Answer, At, Facts, Op, Result};
use crate::sys;

/// Threads that are processes of one user each, working on one directory.
pub(crate) struct Oracle {
    users: Vec<(Sender<Op>, Receiver<Result>)>,
}

/// One user's view.
struct User {
    root: PathBuf,
    opens: std::sync::Arc<std::sync::Mutex<HashMap<usize, OwnedFd>>>,
}

// === impl Oracle ===

impl Oracle {
    pub(crate) fn new(root: &Path, callers: &[Caller]) -> Self {
        let opens = std::sync::Arc::default();
        let users = callers
            .iter()
            .map(|caller| {
                let (ask, asked) = channel::<Op>();
                let (answer, answered) = channel();
                let user = User { root: root.to_owned(), opens: std::sync::Arc::clone(&opens) };
                let caller = caller.clone();
                std::thread::spawn(move || {
                    sys::become_for_good(&caller);
                    for op in asked {
                        if answer.send(user.execute(&op)).is_err() {
                            return;
                        }
                    }
                });
                (ask, answered)
            })
            .collect();
        Self { users }
    }

    pub(crate) fn execute(&self, user: usize, op: &Op) -> Result {
        let (ask, answered) = &self.users[user];
        ask.send(op.clone()).expect("the thread lives");
        answered.recv().expect("the thread answers")
    }
}

// === impl User ===

impl User {
    fn execute(&self, op: &Op) -> Result {
        match op {
            Op::Stat(at) => Ok(Answer::Facts(self.facts(&self.reach(at)?)?)),
            Op::MakeDir(at, mode) => {
                let (parent, name) = self.parent(at)?;
                rustix::fs::mkdirat(&parent, name, bits(*mode))?;
                self.facts_of(at)
            }
            Op::MakeNode(at, kind, mode) => {
                let (parent, name) = self.parent(at)?;
                let kind = match kind {
                    FileKind::Fifo => FileType::Fifo,
                    FileKind::Socket => FileType::Socket,
                    FileKind::CharDevice => FileType::CharacterDevice,
                    _ => FileType::RegularFile,
                };
                let device = rustix::fs::makedev(1, 3);
                rustix::fs::mknodat(&parent, name, kind, bits(*mode), device)?;
                self.facts_of(at)
            }
            Op::Symlink(at, target) => {
                let (parent, name) = self.parent(at)?;
                rustix::fs::symlinkat(target.as_str(), &parent, name)?;
                self.facts_of(at)
            }
            Op::ReadLink(at) => {
                let (parent, name) = self.parent(at)?;
                let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
                Ok(Answer::Bytes(target.into_bytes()))
            }
            Op::Link(from, to) => {
                let (old, old_name) = self.parent(from)?;
                self.reach(from)?;
                let (new, new_name) = self.parent(to)?;
                rustix::fs::linkat(&old, old_name, &new, new_name, AtFlags::empty())?;
                self.facts_of(to)
            }
            Op::Unlink(at) => {
                let (parent, name) = self.parent(at)?;
                Ok(done(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?))
            }
            Op::RemoveDir(at) => {
                let (parent, name) = self.parent(at)?;
                Ok(done(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?))
            }
            Op::Rename(from, to, flags) => {
                let (old, old_name) = self.parent(from)?;
                let (new, new_name) = self.parent(to)?;
                let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
                Ok(done(rustix::fs::renameat_with(&old, old_name, &new, new_name, flags)?))
            }
            Op::SetMode(at, mode) => {
                let file = self.reach(at)?;
                if self.kind(&file)? == FileKind::Symlink {
                    return Err(Errno::OpNotSupp);
                }
                rustix::fs::chmod(path_to(&file), bits(*mode))?;
                self.facts_of(at)
            }
            Op::SetOwner(at, uid, gid) => {
                let (parent, name) = self.parent(at)?;
                self.reach(at)?;
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                self.facts_of(at)
            }
            Op::SetSize(at, size) => {
                let file = self.reach(at)?;
                if self.kind(&file)? == FileKind::Symlink {
                    return Err(Errno::Inval);
                }
                sys::truncate(Path::new(&path_to(&file)), *size as i64)?;
                self.facts_of(at)
            }
            Op::Check(at, mode) => {
                let file = self.reach(at)?;
                if self.kind(&file)? == FileKind::Symlink {
                    return Ok(Answer::Done); // access(2) would ask of its target
                }
                let mode = rustix::fs::Access::from_bits_retain(mode.bits());
                let mode = if mode.is_empty() { rustix::fs::Access::EXISTS } else { mode };
                Ok(done(rustix::fs::access(path_to(&file), mode)?))
            }
            Op::List(at) => self.list(at),
            Op::SetXattr(at, name, value, mode) => {
                let file = self.reach(at)?;
                let flags = match mode {
                    mfs::types::SetXattrMode::Any => XattrFlags::empty(),
                    mfs::types::SetXattrMode::Create => XattrFlags::CREATE,
                    mfs::types::SetXattrMode::Replace => XattrFlags::REPLACE,
                };
                Ok(done(rustix::fs::setxattr(path_to(&file), name.as_str(), value, flags)?))
            }
            Op::GetXattr(at, name) => {
                let file = self.reach(at)?;
                let mut value = vec![0; 70_000];
                let size = rustix::fs::getxattr(path_to(&file), name.as_str(), &mut value[..])?;
                value.truncate(size);
                Ok(Answer::Bytes(value))
            }
            Op::ListXattr(at) => {
                let file = self.reach(at)?;
                let mut names = vec![0; 70_000];
                let size = rustix::fs::listxattr(path_to(&file), &mut names[..])?;
                let names = names[..size].split(|b| *b == 0).filter(|name| !name.is_empty());
                let mut names: Vec<_> =
                    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                names.sort();
                Ok(Answer::Names(names))
            }
            Op::RemoveXattr(at, name) => {
                let file = self.reach(at)?;
                Ok(done(rustix::fs::removexattr(path_to(&file), name.as_str())?))
            }
            Op::Open { .. } | Op::Create { .. } => self.open(op),
            _ => self.with_open(op),
        }
    }

    fn open(&self, op: &Op) -> Result {
        let (at, slot, access, flags, mode) = match op {
            Op::Open { at, slot, access, truncate } => {
                let kind = self.kind(&self.reach(at)?)?;
                refuse_special(kind)?;
                if kind == FileKind::Symlink {
                    return Err(Errno::Loop);
                }
                let truncate = if *truncate { OFlags::TRUNC } else { OFlags::empty() };
                (at, *slot, *access, truncate, 0)
            }
            Op::Create { at, slot, access, mode, exclusive, truncate } => {
                let mut flags = OFlags::CREATE;
                flags.set(OFlags::EXCL, *exclusive);
                flags.set(OFlags::TRUNC, *truncate);
                // What the local kernel would wait for, the export refuses.
                if !exclusive && let Ok(file) = self.reach(at) {
                    refuse_special(self.kind(&file)?)?;
                }
                (at, *slot, *access, flags, *mode)
            }
            _ => return Err(Errno::NoSys),
        };
        let (parent, name) = self.parent(at)?;
        let access_mode = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let flags = flags | access_mode | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = if name == "." {
            rustix::fs::openat(&parent, name, flags.difference(OFlags::NOFOLLOW), bits(mode))?
        } else {
            rustix::fs::openat(&parent, name, flags, bits(mode))?
        };
        let facts = self.facts(&fd)?;
        self.opens.lock().expect("not poisoned").insert(slot, fd);
        Ok(Answer::Facts(facts))
    }

    fn with_open(&self, op: &Op) -> Result {
        let mut opens = self.opens.lock().expect("not poisoned");
        let slot = op.slot().ok_or(Errno::NoSys)?;
        if matches!(op, Op::Close(_)) {
            opens.remove(&slot);
            return Ok(Answer::Done);
        }
        let fd = opens.get(&slot).ok_or(Errno::BadF)?;
        match op {
            Op::Read(_, offset, size) => {
                let mut data = vec![0; *size as usize];
                let read = rustix::io::pread(fd, &mut data[..], *offset)?;
                data.truncate(read);
                Ok(Answer::Bytes(data))
            }
            Op::Write(_, offset, data) => {
                Ok(Answer::Number(rustix::io::pwrite(fd, data, *offset)? as u64))
            }
            Op::StatOpen(_) => Ok(Answer::Facts(self.facts(fd)?)),
            Op::SetModeOpen(_, mode) => {
                rustix::fs::fchmod(fd, bits(*mode))?;
                Ok(Answer::Facts(self.facts(fd)?))
            }
            Op::SetSizeOpen(_, size) => {
                rustix::fs::ftruncate(fd, *size)?;
                Ok(Answer::Facts(self.facts(fd)?))
            }
            Op::Fallocate(_, mode, offset, length) => {
                let mode = rustix::fs::FallocateFlags::from_bits_retain(kernel_bits(*mode));
                Ok(done(rustix::fs::fallocate(fd, mode, *offset, *length)?))
            }
            _ => Err(Errno::NoSys),
        }
    }

    fn list(&self, at: &At) -> Result {
        let (parent, name) = self.parent(at)?;
        self.reach(at)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(Answer::Names(names))
    }

    /// The directory of a path, walked name by name, and the last name (`.` for the root itself).
    fn parent<'a>(&self, at: &'a At) -> std::result::Result<(OwnedFd, &'a str), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = rustix::fs::open(&self.root, flags, Mode::empty())?;
        let Some((last, way)) = at.0.split_last() else { return Ok((directory, ".")) };
        for name in way {
            directory = rustix::fs::openat(&directory, *name, flags, Mode::empty())?;
        }
        if self.kind(&directory)? == FileKind::Directory {
            Ok((directory, last))
        } else {
            Err(Errno::NotDir)
        }
    }

    fn reach(&self, at: &At) -> std::result::Result<OwnedFd, Errno> {
        let (parent, name) = self.parent(at)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if name == "." {
            return Ok(parent);
        }
        Ok(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
    }

    fn facts_of(&self, at: &At) -> Result {
        Ok(Answer::Facts(self.facts(&self.reach(at)?)?))
    }

    fn kind(&self, fd: &OwnedFd) -> std::result::Result<FileKind, Errno> {
        let stat = rustix::fs::fstat(fd)?;
        FileKind::from_mode(stat.st_mode).ok_or(Errno::Io)
    }

    fn facts(&self, fd: &OwnedFd) -> std::result::Result<Facts, Errno> {
        let stat = rustix::fs::fstat(fd)?;
        Ok(Facts {
            kind: self.kind(fd)?,
            mode: (stat.st_mode & 0o7777) as u16,
            nlink: stat.st_nlink as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
        })
    }
}

fn refuse_special(kind: FileKind) -> std::result::Result<(), Errno> {
    match kind {
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            Err(Errno::NxIo)
        }
        FileKind::Regular | FileKind::Directory | FileKind::Symlink => Ok(()),
    }
}

/// The kernel's bits of fallocate(2).
fn kernel_bits(mode: mfs::types::FallocateMode) -> u32 {
    use mfs::types::FallocateMode as M;
    [
        (M::KEEP_SIZE, libc::FALLOC_FL_KEEP_SIZE),
        (M::PUNCH_HOLE, libc::FALLOC_FL_PUNCH_HOLE),
        (M::COLLAPSE_RANGE, libc::FALLOC_FL_COLLAPSE_RANGE),
        (M::ZERO_RANGE, libc::FALLOC_FL_ZERO_RANGE),
        (M::INSERT_RANGE, libc::FALLOC_FL_INSERT_RANGE),
        (M::UNSHARE_RANGE, libc::FALLOC_FL_UNSHARE_RANGE),
    ]
    .into_iter()
    .filter(|(ours, _)| mode.contains(*ours))
    .fold(0, |bits, (_, kernel)| bits | kernel as u32)
}

fn path_to(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn bits(mode: u16) -> Mode {
    Mode::from_raw_mode(u32::from(mode))
}

fn done((): ()) -> Answer {
    Answer::Done
}
