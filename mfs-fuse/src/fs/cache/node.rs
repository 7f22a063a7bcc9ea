//! `NodeCache`: what is remembered of one node's files under leases, and what of it may be used now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use mfs::client::{Answered, SessionLeases};
use mfs::lease::{Holder, OwnChange, Stamp, Touch};
use mfs::sync::Mutex;
use mfs::types::op::{DirEntry, Entry, Listing, Opened};
use mfs::types::{Attr, Errno, FileId, FileName, InodeNo, Leases, OpenFlags, XattrName};

use super::memory::{Memory, Name, bare};
use super::proofs::Proven;

/// Most own changes of which nobody knows whether they were made, before nothing is remembered any more
/// in a session.
const MOST_UNKNOWN: usize = 256;

/// One node's files.
#[derive(Debug, Default)]
pub struct NodeCache {
    pub(super) inner: Mutex<Inner>,
    /// Whether a session grants leases: else nothing is known, and nothing need be asked of `inner`.
    granting: AtomicBool,
    pub(super) used: AtomicBool,
    pub(super) bytes: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) holder: Holder,
    pub(super) memory: Memory,
    trusts_root: bool,
    root: Option<(FileId, InodeNo)>,
    /// Changes that nobody waits for any more, and that may yet be made.
    unknown: Vec<OwnChange>,
    /// There were too many of those.
    off: bool,
}

/// A listing that is being fetched in stretches.
#[derive(Debug, Default)]
pub struct Collecting {
    version: u64,
    entries: Vec<DirEntry>,
}

// === impl NodeCache: its leases ===

impl NodeCache {
    pub(super) fn began(&self, session: &SessionLeases) {
        self.with(|inner| {
            inner.holder.begin(session.term);
            inner.memory.clear();
            inner.trusts_root = session.trusts_root;
            inner.root = Some((session.root.file.clone(), session.root.attr.ino));
            if !session.is_resumed {
                inner.off = false;
                inner.end_unknown();
            }
        });
        self.granting.store(true, Relaxed);
    }

    /// Whether everything was lost.
    pub(super) fn extended(&self, now: Duration, sent: Duration) -> bool {
        self.with(|inner| {
            let lapsed = inner.holder.extend(now, sent);
            if lapsed {
                inner.memory.clear();
            }
            lapsed
        })
    }

    /// Whether what is held may be used at this moment.
    pub(super) fn is_valid(&self, now: Duration) -> bool {
        self.inner.lock().holder.is_valid(now)
    }

    pub(super) fn recall(&self, files: &[Touch]) {
        self.with(|inner| {
            for (ino, leases) in files {
                inner.holder.recall(*ino, *leases);
                inner.memory.drop_under(*ino, *leases);
            }
        });
    }

    pub(super) fn lost(&self) {
        self.granting.store(false, Relaxed);
        self.with(|inner| {
            inner.holder.forget();
            inner.memory.clear();
        });
    }

    pub(super) fn is_holding(&self) -> bool {
        self.inner.lock().holder.is_holding()
    }

    /// Whether the node grants leases at the moment.
    pub fn is_granting(&self) -> bool {
        self.granting.load(Relaxed)
    }

    /// Forgets what was used longest ago; `false` if nothing is left.
    pub(super) fn evict(&self) -> bool {
        self.with(|inner| match inner.memory.evict() {
            Some(ino) => {
                let all = Leases::ATTRIBUTES | Leases::DIRECTORY | Leases::HANDLE;
                inner.holder.release(ino, all);
                true
            }
            None => false,
        })
    }

    /// To be taken before a request is sent whose answer is to be remembered.
    pub fn stamp(&self) -> Stamp {
        self.inner.lock().holder.stamp()
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let result = work(&mut inner);
        self.bytes.store(inner.memory.bytes(), Relaxed);
        result
    }
}

// === impl NodeCache: what is known ===

impl NodeCache {
    /// The root of the tree, while there is a session.
    pub fn root(&self) -> Option<(FileId, InodeNo)> {
        if !self.is_granting() {
            return None;
        }
        self.inner.lock().root.clone()
    }

    /// Attributes of a file.
    pub fn attr(&self, now: Duration, uid: u32, ino: InodeNo) -> Option<Attr> {
        self.known(now, uid, (ino, Leases::ATTRIBUTES), |memory| memory.attr(ino))
    }

    /// Attributes of a file, whoever may use them.
    pub fn attr_if_held(&self, now: Duration, ino: InodeNo) -> Option<Attr> {
        let mut inner = self.inner.lock();
        let held = inner.holder.holds(now, ino, Leases::ATTRIBUTES);
        held.then(|| inner.memory.attr(ino)).flatten()
    }

    /// What a symbolic link says.
    pub fn target(&self, now: Duration, uid: u32, ino: InodeNo) -> Option<Bytes> {
        self.known(now, uid, (ino, Leases::ATTRIBUTES), |memory| memory.target(ino))
    }

    /// An extended attribute, or ENODATA.
    pub fn xattr(
        &self,
        now: Duration,
        uid: u32,
        ino: InodeNo,
        name: &XattrName,
    ) -> Option<Result<Bytes, Errno>> {
        let value = |memory: &mut Memory| memory.xattr(ino, name);
        let value = self.known(now, uid, (ino, Leases::ATTRIBUTES), value)?;
        Some(value.ok_or(Errno::NoData))
    }

    /// The names of the extended attributes, each ended by a NUL.
    pub fn xattr_names(&self, now: Duration, uid: u32, ino: InodeNo) -> Option<Bytes> {
        self.known(now, uid, (ino, Leases::ATTRIBUTES), |memory| memory.xattr_names(ino))
    }

    /// The file behind a name with its attributes, or ENOENT.
    pub fn entry(
        &self,
        now: Duration,
        uid: u32,
        parent: InodeNo,
        name: &FileName,
    ) -> Option<Result<Entry, Errno>> {
        let (file, ino) = match self.name(now, uid, parent, name)? {
            Name::Absent => return Some(Err(Errno::NoEnt)),
            Name::Unknown => return None,
            Name::File(file, ino) => (file, ino),
        };
        let attr = self.attr(now, uid, ino)?;
        Some(Ok(Entry { file, attr }))
    }

    /// The number of the file behind a name, if it is remembered; used or not.
    pub fn number_of(&self, parent: InodeNo, name: &FileName) -> Option<InodeNo> {
        match self.inner.lock().memory.name(parent, name) {
            Some(Name::File(_, ino)) => Some(ino),
            Some(Name::Absent | Name::Unknown) | None => None,
        }
    }

    /// Attributes of a file that the user may open for reading without asking its home, having been let open it
    /// before, and how.
    pub fn openable(&self, now: Duration, uid: u32, ino: InodeNo) -> Option<(Attr, Proven)> {
        let leases = Leases::ATTRIBUTES | Leases::HANDLE;
        let look = |memory: &mut Memory| Some((memory.attr(ino)?, memory.proof(ino, uid)?));
        self.known(now, uid, (ino, leases), look)
    }

    /// So many bytes of a file from `offset` on, or up to its end.
    pub fn data(
        &self,
        now: Duration,
        uid: u32,
        ino: InodeNo,
        offset: u64,
        size: usize,
    ) -> Option<Bytes> {
        self.known(now, uid, (ino, Leases::HANDLE), |memory| memory.read(ino, offset, size))
    }

    /// To be taken before a file is read that is remembered, if what comes is to be remembered, too: it is,
    /// if it is under the same lease then.
    pub fn reading(&self, now: Duration, ino: InodeNo) -> Option<Stamp> {
        if !self.is_granting() {
            return None;
        }
        let inner = self.inner.lock();
        inner.holder.holds(now, ino, Leases::HANDLE).then(|| inner.holder.stamp())
    }

    /// All entries of a directory.
    pub fn listing(&self, now: Duration, uid: u32, ino: InodeNo) -> Option<Arc<Vec<DirEntry>>> {
        self.known(now, uid, (ino, Leases::DIRECTORY), |memory| memory.listing(ino))
    }

    fn name(&self, now: Duration, uid: u32, parent: InodeNo, name: &FileName) -> Option<Name> {
        self.known(now, uid, (parent, Leases::DIRECTORY), |memory| memory.name(parent, name))
    }

    fn known<T>(
        &self,
        now: Duration,
        uid: u32,
        (ino, leases): Touch,
        look: impl FnOnce(&mut Memory) -> Option<T>,
    ) -> Option<T> {
        if !self.is_granting() {
            return None;
        }
        let mut inner = self.inner.lock();
        // Where this node's root is not root, others were told more than it may know.
        if (uid == 0 && !inner.trusts_root) || !inner.holder.holds(now, ino, leases) {
            return None;
        }
        let found = look(&mut inner.memory)?;
        drop(inner);
        self.used.store(true, Relaxed);
        Some(found)
    }
}

// === impl NodeCache: what answers say ===

impl NodeCache {
    /// Attributes came, by `GetAttr` or `Open`.
    pub fn note_attr(&self, now: Duration, stamp: Stamp, answer: &Answered<Attr>) {
        let Ok(attr) = &answer.result else { return };
        self.note(now, stamp, attr.ino, answer.leases & Leases::ATTRIBUTES, |memory| {
            memory.set_attr(attr);
        });
    }

    /// A user opened a file for reading.
    pub fn note_open(
        &self,
        now: Duration,
        stamp: Stamp,
        (uid, flags): (u32, OpenFlags),
        answer: &Answered<Opened>,
    ) {
        let Ok(Opened { entry: Entry { attr, .. }, proof }) = &answer.result else { return };
        self.note(now, stamp, attr.ino, answer.leases & Leases::ATTRIBUTES, |memory| {
            memory.set_attr(attr);
        });
        self.note(now, stamp, attr.ino, answer.leases & Leases::HANDLE, |memory| {
            memory.begin_contents(attr.ino, attr.size);
            if let Some(proof) = proof {
                memory.add_proof(attr.ino, uid, Proven { flags, proof: proof.clone() });
            }
        });
    }

    /// A file was read; `stamp` is what [`Self::reading`] gave.
    pub fn note_data(&self, now: Duration, stamp: Stamp, ino: InodeNo, offset: u64, data: &[u8]) {
        self.with(|inner| {
            if !inner.off && inner.holder.has_kept(now, stamp, ino, Leases::HANDLE) {
                inner.memory.add_contents(ino, offset, data);
            }
        });
    }

    /// A name was looked up.
    pub fn note_lookup(
        &self,
        now: Duration,
        stamp: Stamp,
        parent: InodeNo,
        name: &FileName,
        answer: &Answered<Entry>,
    ) {
        let found = match &answer.result {
            Ok(entry) => Some(entry),
            Err(Errno::NoEnt) => None,
            Err(_) => return,
        };
        self.note(now, stamp, parent, answer.leases & Leases::DIRECTORY, |memory| {
            memory.set_name(parent, name, found);
        });
        if let Some(entry) = found {
            let leases = answer.leases & Leases::ATTRIBUTES;
            self.note(now, stamp, entry.attr.ino, leases, |memory| memory.set_attr(&entry.attr));
        }
    }

    /// A symbolic link was read.
    pub fn note_target(&self, now: Duration, stamp: Stamp, ino: InodeNo, answer: &Answered<Bytes>) {
        let Ok(target) = &answer.result else { return };
        self.note(now, stamp, ino, answer.leases & Leases::ATTRIBUTES, |memory| {
            memory.set_target(ino, target);
        });
    }

    /// An extended attribute was read.
    pub fn note_xattr(
        &self,
        now: Duration,
        stamp: Stamp,
        ino: InodeNo,
        name: &XattrName,
        answer: &Answered<Bytes>,
    ) {
        let value = match &answer.result {
            // Of these the kernel does not know who may see them.
            _ if name.as_bytes().starts_with(b"trusted.") => return,
            Ok(value) => Some(&value[..]),
            Err(Errno::NoData) => None,
            Err(_) => return,
        };
        self.note(now, stamp, ino, answer.leases & Leases::ATTRIBUTES, |memory| {
            memory.set_xattr(ino, name, value);
        });
    }

    /// The names of extended attributes were read; `names` as listxattr(2) gives them.
    pub fn note_xattr_names(
        &self,
        now: Duration,
        stamp: Stamp,
        ino: InodeNo,
        names: &[u8],
        leases: Leases,
    ) {
        self.note(now, stamp, ino, leases & Leases::ATTRIBUTES, |memory| {
            memory.set_xattr_names(ino, names);
        });
    }

    /// A stretch of a directory was read. `collecting` is what came before it, as far as it belongs
    /// together; `None` if that is not known.
    pub fn note_listing(
        &self,
        now: Duration,
        stamp: Stamp,
        ino: InodeNo,
        listing: &Listing,
        leases: Leases,
        collecting: &mut Option<Collecting>,
    ) {
        self.with(|inner| {
            if leases.contains(Leases::ATTRIBUTES) {
                let leased = listing.entries.iter().filter(|listed| !listed.unleased);
                for entry in leased.filter_map(|listed| listed.entry.as_ref()) {
                    inner.note(now, stamp, entry.attr.ino, Leases::ATTRIBUTES, |memory| {
                        memory.set_attr(&entry.attr);
                    });
                }
            }
            let Some(mut collected) = collecting.take() else { return };
            let mut granted = false;
            inner.note(now, stamp, ino, leases & Leases::DIRECTORY, |memory| {
                collected.version = memory.add_stretch(ino, collected.version, &listing.entries);
                granted = true;
            });
            if !granted {
                return;
            }
            collected.entries.extend(bare(&listing.entries));
            if listing.end {
                inner.memory.complete(ino, collected.version, Arc::new(collected.entries));
            } else {
                *collecting = Some(collected);
            }
        });
    }

    /// Attributes of a file may have changed by a reading of this mount's own: its time of access.
    pub fn drop_attr(&self, ino: InodeNo) {
        self.with(|inner| {
            inner.holder.release(ino, Leases::ATTRIBUTES);
            inner.memory.drop_under(ino, Leases::ATTRIBUTES);
        });
    }

    fn note(
        &self,
        now: Duration,
        stamp: Stamp,
        ino: InodeNo,
        leases: Leases,
        store: impl FnOnce(&mut Memory),
    ) {
        if !leases.is_empty() {
            self.with(|inner| inner.note(now, stamp, ino, leases, store));
        }
    }
}

// === impl Inner ===

impl Inner {
    fn note(
        &mut self,
        now: Duration,
        stamp: Stamp,
        ino: InodeNo,
        leases: Leases,
        store: impl FnOnce(&mut Memory),
    ) {
        if !self.off
            && !leases.is_empty()
            && self.holder.grant(now, stamp, ino, leases).contains(leases)
        {
            store(&mut self.memory);
        }
    }

    /// Whether nothing is remembered in this session any more.
    pub(super) const fn is_off(&self) -> bool {
        self.off
    }

    /// Nobody knows whether this change is made, or will be.
    pub(super) fn leave_unknown(&mut self, own: OwnChange) {
        self.unknown.push(own);
        if self.unknown.len() > MOST_UNKNOWN {
            self.off = true;
            self.end_unknown();
            self.memory.clear();
        }
    }

    fn end_unknown(&mut self) {
        for own in std::mem::take(&mut self.unknown) {
            let _ended = self.holder.end_change(Duration::ZERO, own, Leases::empty(), &[]);
        }
    }
}
