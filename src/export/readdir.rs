//! Listings: a stretch of a directory from a cookie on, without ever holding all of it.
//!
//! The cookies are the file system's own (`d_off`), so they stay good while the directory changes, and
//! in another open of it.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, RawDir, SeekFrom};

use super::hidden::Reached;
use super::impersonate::Impersonation;
use super::mounts::Mount;
use super::open_file::{Body, OpenFile};
use super::sys;
use super::tree::{Found, Tree};
use crate::types::op::{DirEntry, Listing, ReadDir};
use crate::types::{AccessMode, Caller, Errno, FileKind, FileName};

/// Most bytes asked of the kernel at once: some hundreds of entries.
const BUFFER: usize = 32 * 1024;

/// Longest entry of the kernel's form: a name of 255 bytes and what is around it.
const LONGEST_ENTRY: usize = 280;

/// Bytes after which a listing ends, so that it fits in a message (2 MiB) with the longest names too.
const LARGEST: usize = 1 << 20;

/// An entry as the directory has it.
struct RawEntry {
    name: FileName,
    kind: Option<FileKind>,
    cookie: u64,
}

impl OpenFile {
    /// Lists up to `limit` entries after the one with this cookie, or from the beginning for 0. With
    /// `attributes`, each entry is looked up, if the caller may search the directory.
    ///
    /// # Errors
    /// Those of getdents64(2); ENOTDIR; EINVAL for a cookie that cannot be.
    pub fn read_dir(
        &self,
        caller: &Caller,
        cookie: u64,
        limit: u32,
        attributes: bool,
    ) -> Result<Listing, Errno> {
        let (fd, mount) = match &self.0.body {
            Body::File(_) => return Err(Errno::NotDir),
            Body::Barred(_) => return Ok(Listing { entries: Vec::new(), end: true }),
            Body::Directory(fd, mount) => (fd, mount),
        };
        let limit = limit.clamp(1, ReadDir::MAX_ENTRIES) as usize;
        let directory = self.directory(fd, mount)?;
        let attributes = attributes && {
            let _as_caller = Impersonation::begin(caller)?;
            sys::check_access(fd.as_fd(), AccessMode::EXECUTE).is_ok()
        };
        let mut cookie = cookie;
        loop {
            let (raw, end) = {
                let _position = self.0.position.lock();
                read_entries(fd, cookie, limit)?
            };
            let last = raw.last().map(|entry| entry.cookie);
            let listing = self.complete_all(&directory, raw, end, attributes);
            match last {
                // All of them were hidden or vanished: without an entry there is no cookie to go on by.
                Some(last) if listing.entries.is_empty() && !end => cookie = last,
                _ => return Ok(listing),
            }
        }
    }

    fn complete_all(
        &self,
        directory: &Found,
        raw: Vec<RawEntry>,
        end: bool,
        attributes: bool,
    ) -> Listing {
        let tree = &self.0.tree;
        let mut entries = Vec::with_capacity(raw.len());
        let mut bytes = 0;
        for entry in raw {
            if bytes > LARGEST {
                return Listing { entries, end: false };
            }
            if tree.hides(directory, &entry.name) {
                continue;
            }
            if let Some(entry) = complete(tree, directory, entry, attributes) {
                bytes += size_of(&entry);
                entries.push(entry);
            }
        }
        Listing { entries, end }
    }

    fn directory(&self, fd: &OwnedFd, mount: &Arc<Mount>) -> Result<Found, Errno> {
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0)?;
        self.0.tree.admit(fd, mount, Reached::Id)
    }
}

/// Reads entries of the directory itself; also whether nothing follows them.
fn read_entries(fd: &OwnedFd, cookie: u64, limit: usize) -> Result<(Vec<RawEntry>, bool), Errno> {
    if i64::try_from(cookie).is_err() {
        return Err(Errno::Inval);
    }
    rustix::fs::seek(fd, SeekFrom::Start(cookie))?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    // Not much more than is wanted, with `.` and `..`: what is read beyond it is read again.
    let wanted = (limit + 3).saturating_mul(LONGEST_ENTRY).min(BUFFER);
    let mut listing = RawDir::new(fd, &mut buffer[..wanted]);
    let mut entries = Vec::with_capacity(limit.min(1024));
    while let Some(entry) = listing.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if entries.is_empty() => return Err(error.into()),
            Err(_) => return Ok((entries, false)), // it comes again with the next stretch
        };
        // `.` and `..` are no names, and so fall out here; so would what a damaged directory holds.
        let Ok(name) = FileName::parse(entry.file_name().to_bytes().to_vec()) else { continue };
        if entries.len() == limit {
            return Ok((entries, false));
        }
        let (kind, cookie) = (kind_of(entry.file_type()), entry.next_entry_cookie());
        entries.push(RawEntry { name, kind, cookie });
    }
    Ok((entries, true))
}

/// Adds what the directory itself does not hold; `None` if the entry vanished, or is hidden.
fn complete(tree: &Tree, directory: &Found, raw: RawEntry, attributes: bool) -> Option<DirEntry> {
    let RawEntry { name, kind, cookie } = raw;
    if !attributes && let Some(kind) = kind {
        let ino = tree.number_of_name(directory, &name)?;
        return Some(DirEntry { name, kind, ino, cookie, entry: None, unleased: false });
    }
    let node = tree.step_permitted(directory, &name).ok()?;
    let entry = tree.entry(&node).ok()?;
    let (kind, ino) = (entry.attr.kind, entry.attr.ino);
    let entry = attributes.then_some(entry);
    Some(DirEntry { name, kind, ino, cookie, entry, unleased: false })
}

/// About how long the entry is on the wire; its attributes take some 130 bytes.
fn size_of(entry: &DirEntry) -> usize {
    let attributes = entry.entry.as_ref().map_or(0, |found| found.file.as_bytes().len() + 150);
    entry.name.as_bytes().len() + 40 + attributes
}

/// The kind that the directory notes; some file systems note none.
fn kind_of(file_type: FileType) -> Option<FileKind> {
    Some(match file_type {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => return None,
    })
}
