//! What the kernel holds open: `fh` and the open file or directory behind it.
//!
//! Lock order: `HandleMap::inner` is a leaf; `OpenFile::listing` is held across the one request that fills
//! it, since a directory is read by one reader at a time.

use std::collections::HashMap;
use std::sync::Arc;

use mfs::sync::Mutex;
use mfs::telemetry::instruments::Held;
use mfs::telemetry::metrics::MOUNT_OPENS;
use mfs::types::op::DirEntry;
use mfs::types::{Access, Caller, FileKind, InodeNo, NodeId, OpenId};

use super::backing::Backing;

/// The kernel's number of an open; counts up from 1, never reused in one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fh(pub u64);

/// An open file or directory.
#[derive(Debug)]
pub enum Handle {
    /// Of a node.
    Open(Box<OpenFile>),
    /// A synthetic directory as it was when it was opened.
    Synthetic(Vec<SyntheticEntry>),
}

/// An open file or directory of a node.
///
/// Reads, writes and what else the kernel may ask after the opening process is gone carry the opener's
/// identity, kept here.
#[derive(Debug)]
pub struct OpenFile {
    /// Its number in this mount.
    pub ino: InodeNo,
    /// Its home.
    pub node: NodeId,
    /// The way it was opened; it stays that way until it is released.
    pub backing: Backing,
    /// Its name at the backing.
    pub open: OpenId,
    /// What it may be used for.
    pub access: Access,
    /// Who opened it.
    pub opener: Caller,
    /// Of a directory: what was fetched and not yet given to the kernel.
    pub listing: tokio::sync::Mutex<Option<Fetched>>,
}

/// A stretch of a directory that begins after `after`.
#[derive(Debug)]
pub struct Fetched {
    /// The cookie it was asked with.
    pub after: u64,
    /// What came.
    pub entries: Vec<DirEntry>,
    /// Nothing follows.
    pub end: bool,
}

/// An entry of a synthetic directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Its number.
    pub ino: InodeNo,
    /// Its kind.
    pub kind: FileKind,
}

/// The table. Any number of threads may use it.
#[derive(Debug, Default)]
pub struct HandleMap {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    handles: HashMap<Fh, (Arc<Handle>, Held)>,
    /// The opens of a file, so that an unlinked one can still be asked for its attributes.
    by_ino: HashMap<InodeNo, Vec<Fh>>,
    /// How many opens of a file are on their way out.
    leaving: HashMap<InodeNo, usize>,
}

/// An open that the kernel has released and that its home may not know of yet. Until this is dropped, its
/// locks count as about to go.
#[derive(Debug)]
pub struct Leaving {
    map: Arc<HandleMap>,
    handle: Arc<Handle>,
}

// === impl HandleMap ===

impl HandleMap {
    /// Takes in an open and numbers it.
    pub fn insert(&self, handle: Handle) -> Fh {
        let mut inner = self.inner.lock();
        inner.last += 1;
        let fh = Fh(inner.last);
        if let Handle::Open(open) = &handle {
            inner.by_ino.entry(open.ino).or_default().push(fh);
        }
        inner.handles.insert(fh, (Arc::new(handle), MOUNT_OPENS.hold()));
        fh
    }

    /// The open with this number.
    pub fn find(&self, fh: Fh) -> Option<Arc<Handle>> {
        self.inner.lock().handles.get(&fh).map(|(handle, _)| handle.clone())
    }

    /// Takes the open out; the kernel has released it.
    pub fn remove(self: &Arc<Self>, fh: Fh) -> Option<Leaving> {
        let mut inner = self.inner.lock();
        let (handle, _) = inner.handles.remove(&fh)?;
        if let Handle::Open(open) = &*handle
            && let Some(opens) = inner.by_ino.get_mut(&open.ino)
        {
            opens.retain(|other| *other != fh);
            if opens.is_empty() {
                inner.by_ino.remove(&open.ino);
            }
            *inner.leaving.entry(open.ino).or_default() += 1;
        }
        Some(Leaving { map: self.clone(), handle })
    }

    /// Whether opens of the file are on their way out.
    pub fn is_any_leaving(&self, ino: InodeNo) -> bool {
        self.inner.lock().leaving.contains_key(&ino)
    }

    /// Any open of the file, for writing if `writing`.
    pub fn any_of(&self, ino: InodeNo, writing: bool) -> Option<Arc<Handle>> {
        let inner = self.inner.lock();
        inner.by_ino.get(&ino)?.iter().find_map(|fh| {
            let (handle, _) = inner.handles.get(fh)?;
            let fits = matches!(&**handle, Handle::Open(o) if !writing || o.access.writes());
            fits.then(|| handle.clone())
        })
    }

    /// Whether this open of the file is still here.
    pub fn holds(&self, ino: InodeNo, handle: &Arc<Handle>) -> bool {
        let inner = self.inner.lock();
        let mut opens = inner.by_ino.get(&ino).into_iter().flatten();
        opens.any(|fh| inner.handles.get(fh).is_some_and(|(other, _)| Arc::ptr_eq(other, handle)))
    }

    /// All numbers in use, for the end of a mount.
    pub fn all(&self) -> Vec<Fh> {
        self.inner.lock().handles.keys().copied().collect()
    }
}

// === impl Leaving ===

impl Leaving {
    /// The open file of a node, unless it is a synthetic directory.
    pub fn as_open(&self) -> Option<&OpenFile> {
        self.handle.as_open()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(open) = self.handle.as_open() else { return };
        let mut inner = self.map.inner.lock();
        if let Some(count) = inner.leaving.get_mut(&open.ino) {
            *count -= 1;
            if *count == 0 {
                inner.leaving.remove(&open.ino);
            }
        }
    }
}

// === impl Handle ===

impl Handle {
    /// The open file of a node, unless it is a synthetic directory.
    pub fn as_open(&self) -> Option<&OpenFile> {
        match self {
            Self::Open(open) => Some(open),
            Self::Synthetic(_) => None,
        }
    }
}
