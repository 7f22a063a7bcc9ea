//! `Memory`: what is remembered of one node's files, by their numbers there. It knows no leases: who holds
//! it drops what is not covered any more. Nothing is shared with the messages that values came in, since a
//! name of a few bytes would keep a message of a megabyte.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mfs::types::op::{DirEntry, Entry};
use mfs::types::{Attr, FileId, FileName, InodeNo, Leases, XattrName};

use super::contents::Contents;
use super::proofs::{Proofs, Proven};

/// Longest value of an extended attribute that is remembered: access control lists and capabilities are
/// shorter.
const LONGEST_XATTR: usize = 1_024;

/// Most extended attributes remembered of a file, those included that it does not have.
const MOST_XATTRS: usize = 16;

/// About what a file, a name and an entry of a listing take beside their bytes.
const FILE_BYTES: usize = 320;
const NAME_BYTES: usize = 112;
const ENTRY_BYTES: usize = 72;

/// Everything remembered of a node.
#[derive(Debug, Default)]
pub(super) struct Memory {
    files: HashMap<InodeNo, Remembered>,
    /// The files in the order in which they came; some may be gone.
    order: VecDeque<InodeNo>,
    bytes: usize,
    last_version: u64,
}

#[derive(Debug, Default)]
struct Remembered {
    attr: Option<Attr>,
    target: Option<Bytes>,
    /// Values by name; `None`: there is none.
    xattrs: Vec<(XattrName, Option<Bytes>)>,
    xattr_names: Option<Bytes>,
    directory: Option<Directory>,
    contents: Option<Contents>,
    /// Who may open it again.
    proofs: Proofs,
    bytes: usize,
    /// Used since it was last looked at for eviction.
    used: bool,
}

/// The names of a directory, as far as they are known.
#[derive(Debug, Default)]
struct Directory {
    /// Another one after each change.
    version: u64,
    names: HashMap<FileName, Name>,
    /// Names that are not known are not there.
    is_complete: bool,
    listing: Option<Arc<Vec<DirEntry>>>,
}

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// Nothing.
    Absent,
    /// This file.
    File(FileId, InodeNo),
    /// Something that was not looked at.
    Unknown,
}

// === impl Memory ===

impl Memory {
    /// About how many bytes it takes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// Drops what lies under these leases.
    pub(super) fn drop_under(&mut self, ino: InodeNo, leases: Leases) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        if leases.contains(Leases::ATTRIBUTES) {
            file.attr = None;
            file.target = None;
            file.xattrs = Vec::new();
            file.xattr_names = None;
        }
        if leases.contains(Leases::DIRECTORY) {
            file.directory = None;
        }
        if leases.contains(Leases::HANDLE) {
            file.contents = None;
            file.proofs = Proofs::default();
        }
        if file.is_empty() {
            self.forget(ino);
        } else {
            self.weigh(ino);
        }
    }

    /// Forgets the file that was used longest ago, roughly; says which.
    pub(super) fn evict(&mut self) -> Option<InodeNo> {
        while let Some(ino) = self.order.pop_front() {
            let Some(file) = self.files.get_mut(&ino) else { continue };
            if std::mem::take(&mut file.used) {
                self.order.push_back(ino);
            } else {
                self.forget(ino);
                return Some(ino);
            }
        }
        None
    }

    pub(super) fn attr(&mut self, ino: InodeNo) -> Option<Attr> {
        self.get(ino)?.attr.clone()
    }

    /// So many bytes of a file, or up to its end.
    pub(super) fn read(&mut self, ino: InodeNo, offset: u64, size: usize) -> Option<Bytes> {
        self.get(ino)?.contents.as_ref()?.read(offset, size)
    }

    pub(super) fn target(&mut self, ino: InodeNo) -> Option<Bytes> {
        self.get(ino)?.target.clone()
    }

    /// The value of an extended attribute; inside, `None` if there is none.
    pub(super) fn xattr(&mut self, ino: InodeNo, name: &XattrName) -> Option<Option<Bytes>> {
        let known = &self.get(ino)?.xattrs;
        known.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    pub(super) fn xattr_names(&mut self, ino: InodeNo) -> Option<Bytes> {
        self.get(ino)?.xattr_names.clone()
    }

    /// What stands behind a name, if that is known.
    pub(super) fn name(&mut self, directory: InodeNo, name: &FileName) -> Option<Name> {
        let directory = self.get(directory)?.directory.as_ref()?;
        match directory.names.get(name) {
            Some(found) => Some(found.clone()),
            None if directory.is_complete => Some(Name::Absent),
            None => None,
        }
    }

    /// The whole of a directory.
    pub(super) fn listing(&mut self, directory: InodeNo) -> Option<Arc<Vec<DirEntry>>> {
        self.get(directory)?.directory.as_ref()?.listing.clone()
    }

    pub(super) fn set_attr(&mut self, attr: &Attr) {
        self.make(attr.ino).attr = Some(attr.clone());
        self.weigh(attr.ino);
    }

    /// A file may be read from memory from now on, as far as it is known; it is so long.
    pub(super) fn begin_contents(&mut self, ino: InodeNo, length: u64) {
        let file = self.make(ino);
        file.contents.get_or_insert_with(|| Contents::new(length));
        self.weigh(ino);
    }

    /// Notes that a user was let open such a file.
    pub(super) fn add_proof(&mut self, ino: InodeNo, uid: u32, proven: Proven) {
        self.make(ino).proofs.add(uid, proven);
        self.weigh(ino);
    }

    /// How a user was let open a file.
    pub(super) fn proof(&mut self, ino: InodeNo, uid: u32) -> Option<Proven> {
        self.get(ino)?.proofs.of(uid).cloned()
    }

    /// Notes what was read of such a file.
    pub(super) fn add_contents(&mut self, ino: InodeNo, offset: u64, data: &[u8]) {
        if let Some(contents) = self.files.get_mut(&ino).and_then(|file| file.contents.as_mut()) {
            contents.add(offset, data);
            self.weigh(ino);
        }
    }

    pub(super) fn set_target(&mut self, ino: InodeNo, target: &[u8]) {
        self.make(ino).target = Some(Bytes::copy_from_slice(target));
        self.weigh(ino);
    }

    pub(super) fn set_xattr(&mut self, ino: InodeNo, name: &XattrName, value: Option<&[u8]>) {
        let file = self.make(ino);
        file.xattrs.retain(|(known, _)| known != name);
        let fits = value.is_none_or(|value| value.len() <= LONGEST_XATTR);
        if fits && file.xattrs.len() < MOST_XATTRS {
            file.xattrs.push((name.clone(), value.map(Bytes::copy_from_slice)));
        }
        self.weigh(ino);
    }

    pub(super) fn set_xattr_names(&mut self, ino: InodeNo, names: &[u8]) {
        if names.len() <= LONGEST_XATTR {
            self.make(ino).xattr_names = Some(Bytes::copy_from_slice(names));
            self.weigh(ino);
        }
    }

    /// Notes what an answer said of a name.
    pub(super) fn set_name(&mut self, directory: InodeNo, name: &FileName, found: Option<&Entry>) {
        let name = own_name(name);
        let found = found.map_or(Name::Absent, own_entry);
        self.make(directory).directory.get_or_insert_default().names.insert(name, found);
        self.weigh(directory);
    }

    /// Corrects a name after a change of one's own: what was fetched of the listing is old.
    pub(super) fn change_name(&mut self, directory: InodeNo, name: &FileName, found: Name) {
        self.last_version += 1;
        let version = self.last_version;
        let Some(file) = self.files.get_mut(&directory) else { return };
        let Some(known) = &mut file.directory else { return };
        known.version = version;
        known.listing = None;
        if found == Name::Absent && known.is_complete {
            known.names.remove(name);
        } else {
            known.names.insert(own_name(name), found);
        }
        self.weigh(directory);
    }

    /// Notes a stretch of a directory. The first one (`version` 0) begins a listing; says its version, to
    /// be given with the next one.
    pub(super) fn add_stretch(
        &mut self,
        directory: InodeNo,
        version: u64,
        entries: &[DirEntry],
    ) -> u64 {
        self.last_version += 1;
        let new = self.last_version;
        let known = self.make(directory).directory.get_or_insert_default();
        if version == 0 && known.version == 0 {
            known.version = new;
        }
        let version = if version == 0 { known.version } else { version };
        for entry in entries {
            let found = entry.entry.as_ref().map_or(Name::Unknown, own_entry);
            if found != Name::Unknown || !known.names.contains_key(&entry.name) {
                known.names.insert(own_name(&entry.name), found);
            }
        }
        self.weigh(directory);
        version
    }

    /// All of a directory was fetched, beginning with this version of it: unless it is another one now, its
    /// names are known.
    pub(super) fn complete(
        &mut self,
        directory: InodeNo,
        version: u64,
        listing: Arc<Vec<DirEntry>>,
    ) {
        let Some(file) = self.files.get_mut(&directory) else { return };
        let Some(known) = file.directory.as_mut().filter(|known| known.version == version) else {
            return;
        };
        known.is_complete = true;
        known.names.retain(|_, name| *name != Name::Absent);
        known.listing = Some(listing);
        self.weigh(directory);
    }

    fn get(&mut self, ino: InodeNo) -> Option<&Remembered> {
        let file = self.files.get_mut(&ino)?;
        file.used = true;
        Some(file)
    }

    fn make(&mut self, ino: InodeNo) -> &mut Remembered {
        if !self.files.contains_key(&ino) {
            self.order.push_back(ino);
            // What was forgotten leaves its place behind.
            if self.order.len() > 2 * self.files.len() + 64 {
                let files = &self.files;
                let mut seen = std::collections::HashSet::new();
                self.order.retain(|known| {
                    (files.contains_key(known) || *known == ino) && seen.insert(*known)
                });
            }
        }
        self.files.entry(ino).or_default()
    }

    fn forget(&mut self, ino: InodeNo) {
        if let Some(file) = self.files.remove(&ino) {
            self.bytes -= file.bytes;
        }
    }

    /// Counts anew what a file takes.
    fn weigh(&mut self, ino: InodeNo) {
        if let Some(file) = self.files.get_mut(&ino) {
            let weight = file.weight();
            self.bytes = self.bytes - file.bytes + weight;
            file.bytes = weight;
        }
    }
}

// === impl Remembered ===

impl Remembered {
    fn is_empty(&self) -> bool {
        self.attr.is_none()
            && self.target.is_none()
            && self.xattrs.is_empty()
            && self.xattr_names.is_none()
            && self.directory.is_none()
            && self.contents.is_none()
            && self.proofs.weight() == 0
    }

    fn weight(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let xattrs: usize = self.xattrs.iter().map(|(_, value)| 128 + length(value)).sum();
        let directory = self.directory.as_ref().map_or(0, |directory| {
            let listed = directory.listing.as_ref().map_or(0, |listing| listing.len());
            directory.names.len() * (NAME_BYTES + 64) + listed * ENTRY_BYTES
        });
        let contents = self.contents.as_ref().map_or(0, Contents::weight);
        FILE_BYTES
            + length(&self.target)
            + length(&self.xattr_names)
            + xattrs
            + directory
            + contents
            + self.proofs.weight()
    }
}

fn own_name(name: &FileName) -> FileName {
    FileName::parse(Bytes::copy_from_slice(name.as_bytes())).unwrap_or_else(|_| name.clone())
}

fn own_entry(entry: &Entry) -> Name {
    let bytes = Bytes::copy_from_slice(entry.file.as_bytes());
    FileId::from_bytes(bytes).map_or(Name::Unknown, |file| Name::File(file, entry.attr.ino))
}

/// Entries of a listing as they are remembered: without ids and attributes, which have their own place.
pub(super) fn bare(entries: &[DirEntry]) -> impl Iterator<Item = DirEntry> {
    entries.iter().map(|entry| DirEntry {
        name: own_name(&entry.name),
        entry: None,
        ..entry.clone()
    })
}
