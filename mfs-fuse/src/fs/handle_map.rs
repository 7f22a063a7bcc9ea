//! What the kernel holds open: `fh` and the open file or directory behind it.
//!
//! A directory whose names are all remembered is opened here alone, as is a file that may be; its home is told
//! when something is wanted of the open that only the home can do (`told`).
//!
//! Lock order: `HandleMap::inner` is a leaf; `OpenFile::listing` is held across the one request that fills
//! it, since a directory is read by one reader at a time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use mfs::sync::Mutex;
use mfs::telemetry::instruments::Held;
use mfs::telemetry::metrics::MOUNT_OPENS;
use mfs::types::op::{self, DirEntry};
use mfs::types::{
    Access, Attr, Caller, Errno, FileId, FileKind, InodeNo, LockOwner, NodeId, OpenFlags, OpenId,
};

use super::backing::{Backing, Origin};
use super::cache::{Collecting, Proven};
use super::growing::Following;
use super::pages::Kept;
use super::process::Asker;
use super::told::Told;

/// Most opens of one file that its home does not know: who wants to write it waits until all are told to it.
const MOST_HERE: usize = 256;

/// Most such opens of one node: after a restart it is told of all of them, and what it may hold open is bounded.
const MOST_HERE_OF_NODE: usize = 4_096;

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
    /// Its number at its home.
    pub home: InodeNo,
    /// Its home.
    pub node: NodeId,
    /// The way it was opened; it stays that way until it is released.
    pub backing: Backing,
    /// What it may be used for.
    pub access: Access,
    /// Who opened it.
    pub opener: Opener,
    /// Of a directory: what was fetched and not yet given to the kernel.
    pub listing: tokio::sync::Mutex<Listed>,
    /// Of a file: that it was read to be kept.
    pub kept: OnceLock<Kept>,
    /// Of a file: that the kernel sees when it becomes longer.
    pub following: Option<Following>,
}

/// Who opened a file, and whether its home knows.
#[derive(Debug)]
pub enum Opener {
    /// The home does, by this number.
    AtHome(Caller, OpenId),
    /// Not yet: a directory that was opened because all of its names are remembered, or a file because its home
    /// lets this mount open it.
    Here(Box<OpenedHere>),
}

/// A file or directory that is open here alone, for now.
#[derive(Debug)]
pub struct OpenedHere {
    /// Its id at its home.
    pub file: FileId,
    /// Who opened it.
    pub asker: Asker,
    /// Its attributes at that time, if they were known.
    pub attr: Option<Attr>,
    /// Of a file: that its opener was let open it before.
    proven: Option<Proven>,
    caller: OnceLock<Caller>,
    told: Told,
}

/// How far a directory is read.
#[derive(Debug, Default)]
pub struct Listed {
    /// What came last.
    pub fetched: Option<Fetched>,
    /// All that came since the beginning, to be remembered.
    pub collecting: Option<Collecting>,
}

/// A stretch of a directory that begins after `after`.
#[derive(Debug)]
pub struct Fetched {
    /// The cookie it was asked with.
    pub after: u64,
    /// What came.
    pub entries: Arc<Vec<DirEntry>>,
    /// Nothing follows.
    pub end: bool,
    /// Nothing of it was given to the kernel.
    pub is_fresh: bool,
    /// Where the kernel is likely to go on.
    pub next: usize,
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
    /// The opens that began here alone, by home and number there.
    here: HashMap<(NodeId, InodeNo), Vec<Fh>>,
    /// How many those are of each node.
    here_of_node: HashMap<NodeId, usize>,
    /// Who may hold byte-range locks on a file: nobody else's close concerns its home.
    lockers: HashMap<InodeNo, HashSet<LockOwner>>,
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
            if matches!(open.opener, Opener::Here(_)) {
                inner.here.entry((open.node, open.home)).or_default().push(fh);
                *inner.here_of_node.entry(open.node).or_default() += 1;
            }
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
                inner.lockers.remove(&open.ino);
            }
            *inner.leaving.entry(open.ino).or_default() += 1;
        }
        if let Handle::Open(open) = &*handle
            && let Opener::Here(_) = &open.opener
            && let Some(here) = inner.here.get_mut(&(open.node, open.home))
        {
            here.retain(|other| *other != fh);
            if here.is_empty() {
                inner.here.remove(&(open.node, open.home));
            }
            if let Some(count) = inner.here_of_node.get_mut(&open.node) {
                *count -= 1;
            }
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
            let fits = |open: &OpenFile| open.is_at_home() && (!writing || open.access.writes());
            let fits = handle.as_open().is_some_and(fits);
            fits.then(|| handle.clone())
        })
    }

    /// The opens of a node's file for writing.
    pub fn writers_of(&self, node: NodeId, home: InodeNo) -> Vec<Fh> {
        let writes = |handle: &Handle| {
            let open = handle.as_open();
            open.is_some_and(|o| (o.node, o.home) == (node, home) && o.access.writes())
        };
        let inner = self.inner.lock();
        let all = inner.handles.iter();
        all.filter(|(_, (handle, _))| writes(handle)).map(|(fh, _)| *fh).collect()
    }

    /// Attributes of a directory that is open here alone, from when it was opened.
    pub fn listed(&self, ino: InodeNo) -> Option<Attr> {
        let inner = self.inner.lock();
        inner.by_ino.get(&ino)?.iter().find_map(|fh| {
            match &inner.handles.get(fh)?.0.as_open()?.opener {
                Opener::Here(here) => here.attr.clone(),
                Opener::AtHome(..) => None,
            }
        })
    }

    /// The opens of a file, or of all of a node, that the home does not know.
    pub fn here(&self, node: NodeId, file: Option<InodeNo>) -> Vec<Arc<Handle>> {
        let inner = self.inner.lock();
        let numbers: Vec<Fh> = match file {
            Some(home) => inner.here.get(&(node, home)).cloned().unwrap_or_default(),
            None => {
                let of_node = inner.here.iter().filter(|((home, _), _)| *home == node);
                of_node.flat_map(|(_, opens)| opens.iter().copied()).collect()
            }
        };
        let open = |fh: &Fh| inner.handles.get(fh).map(|(handle, _)| Arc::clone(handle));
        numbers.iter().filter_map(open).filter(|handle| !handle.is_at_home()).collect()
    }

    /// Whether a file may be opened once more without its home.
    pub fn has_room(&self, node: NodeId, home: InodeNo) -> bool {
        let inner = self.inner.lock();
        inner.here.get(&(node, home)).is_none_or(|opens| opens.len() < MOST_HERE)
            && inner.here_of_node.get(&node).is_none_or(|count| *count < MOST_HERE_OF_NODE)
    }

    /// Somebody may hold a byte-range lock on the file from now on.
    pub fn locks(&self, ino: InodeNo, owner: LockOwner) {
        self.inner.lock().lockers.entry(ino).or_default().insert(owner);
    }

    /// Whether somebody may hold a byte-range lock on the file.
    pub fn may_lock(&self, ino: InodeNo, owner: LockOwner) -> bool {
        self.inner.lock().lockers.get(&ino).is_some_and(|owners| owners.contains(&owner))
    }

    /// Somebody closes a descriptor of the file, whereby its locks go. Whether it may hold some.
    pub fn unlocks(&self, ino: InodeNo, owner: LockOwner) -> bool {
        self.inner.lock().lockers.get_mut(&ino).is_some_and(|owners| owners.remove(&owner))
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
    /// Nobody uses it any more. Whether its home is to be told: it knows it, or may.
    #[must_use = "the home may have to be told"]
    pub fn end(&self) -> bool {
        match self.as_open().map(|open| &open.opener) {
            Some(Opener::AtHome(..)) => true,
            Some(Opener::Here(here)) => here.told.end(),
            None => false,
        }
    }

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

// === impl OpenedHere ===

impl OpenedHere {
    /// Opened just now.
    pub fn new(file: FileId, asker: Asker, attr: Option<Attr>) -> Self {
        let (caller, told) = (OnceLock::new(), Told::default());
        Self { file, asker, attr, proven: None, caller, told }
    }

    /// The same for this caller, who need not be asked for and was let open it before.
    #[must_use]
    pub fn with_proof(self, caller: Caller, proven: Proven) -> Self {
        Self { caller: OnceLock::from(caller), proven: Some(proven), ..self }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.attr.as_ref().is_none_or(|attr| attr.kind == FileKind::Directory)
    }

    /// How its home is asked to open it. A file, in any case: while the lease is held that it was opened under,
    /// and when it is lost, since then it can be shown that its opener was let open it.
    fn telling(&self, open: OpenId) -> op::Open {
        let plain = OpenFlags::empty();
        let flags = if self.is_directory() { plain } else { plain | OpenFlags::LEASED };
        let (flags, proof) = match &self.proven {
            Some(Proven { flags: first, proof }) => (flags | *first, Some(proof.clone())),
            None => (flags, None),
        };
        op::Open { file: self.file.clone(), open, access: Access::Read, flags, proof }
    }
}

// === impl OpenFile ===

impl OpenFile {
    /// Whether its home knows of the open.
    pub fn is_at_home(&self) -> bool {
        match &self.opener {
            Opener::AtHome(..) => true,
            Opener::Here(here) => here.told.number().is_some(),
        }
    }

    /// By which number its home knows it, if it does.
    pub fn number(&self) -> Option<OpenId> {
        match &self.opener {
            Opener::AtHome(_, number) => Some(*number),
            Opener::Here(here) => here.told.number(),
        }
    }

    /// Makes sure that its home knows of the open, and says by which number.
    ///
    /// # Errors
    /// Those of opening; ENOENT for a directory that was removed, as reading it says on one machine.
    pub async fn bring_home(&self, asker: Asker) -> Result<OpenId, Errno> {
        let here = match &self.opener {
            Opener::AtHome(_, number) => return Ok(*number),
            Opener::Here(here) => here,
        };
        let telling = here.told.tell(async || {
            let number = self.backing.new_open();
            self.backing.call(&self.origin(asker), here.telling(number)).await?;
            Ok(number)
        });
        match telling.await {
            Err(Errno::Stale) if here.is_directory() => Err(Errno::NoEnt),
            told => told,
        }
    }

    /// By which number its home knows it, now that it was released. Waits if it is just being told.
    pub async fn number_at_end(&self) -> Option<OpenId> {
        match &self.opener {
            Opener::AtHome(_, number) => Some(*number),
            Opener::Here(here) => here.told.known().await,
        }
    }

    /// The opener's identity, and the signals of who waits now.
    pub fn origin(&self, asker: Asker) -> Origin<'_> {
        Origin::of(asker, self.caller())
    }

    /// Who opened it.
    pub fn caller(&self) -> &Caller {
        match &self.opener {
            Opener::AtHome(caller, _) => caller,
            Opener::Here(here) => here.caller.get_or_init(|| here.asker.caller()),
        }
    }
}

// === impl Handle ===

impl Handle {
    /// Whether its home knows of it; a synthetic directory has none.
    pub fn is_at_home(&self) -> bool {
        self.as_open().is_some_and(OpenFile::is_at_home)
    }

    /// The open file of a node, unless it is a synthetic directory.
    pub fn as_open(&self) -> Option<&OpenFile> {
        match self {
            Self::Open(open) => Some(open),
            Self::Synthetic(_) => None,
        }
    }
}
