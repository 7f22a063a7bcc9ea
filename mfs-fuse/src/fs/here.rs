//! Files and directories that are opened here alone, without a message, while their home has promised to say
//! before anything happens that such an open would have to be known for.
//!
//! When the home wants that promise back, each of these opens is told to it first. So a file that is removed
//! then stays there as long as it is open, and one whose mode changes is open as it was.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mfs::client::Returns;
use mfs::clock::since_boot;
use mfs::types::op;
use mfs::types::{Access, Attr, Caller, Errno, FileKind, InodeNo, Leases, NodeId, OpenFlags};
use tokio::task::JoinSet;

use super::MountedFs;
use super::cache::{NodeCache, Openings};
use super::growing::Following;
use super::handle_map::{Fh, Handle, HandleMap, Leaving, OpenFile, OpenedHere, Opener};
use super::inode_map::Subject;
use super::io::Opened;
use super::known::{Ask, counted};
use super::process::Asker;

/// Flags that change nothing where nothing is written.
const HARMLESS: OpenFlags = OpenFlags::NONBLOCK.union(OpenFlags::SYNC).union(OpenFlags::DSYNC);

/// Of how many opens a home is told at a time.
const AT_A_TIME: usize = 64;

// === impl MountedFs ===

impl MountedFs {
    /// [`Self::open`] of a file that may be opened for reading without asking its home; what it has given up again
    /// if that was asked back just then.
    pub fn known_open(
        &self,
        asker: Asker,
        ino: InodeNo,
        access: Access,
        flags: OpenFlags,
    ) -> Option<Result<Opened, Leaving>> {
        if access != Access::Read || !HARMLESS.contains(flags) {
            return None;
        }
        let Subject::File { node, file, home } = self.inodes.find(ino)? else { return None };
        if !self.handles.has_room(node, home) {
            return None;
        }
        let cache = self.cache.node(node);
        let look = |cache: &NodeCache, now| cache.openable(now, asker.uid, home);
        let (attr, proven) = counted(Ask::Open, &cache, look)?;
        if attr.kind != FileKind::Regular || !is_readable(&attr, asker) {
            return None;
        }
        let here = OpenedHere::new(file, asker, Some(attr)).with_proof(plain_caller(asker), proven);
        let fh = self.open_here((node, home), ino, here)?;
        // What is asked back from now on concerns this open, too; what was before, it came too late for.
        if cache.openable(since_boot(), asker.uid, home).is_none() {
            return self.let_go(fh).map(Err);
        }
        Some(Ok(Opened { fh, ino, file: None, keeps: self.cache.pages.is_leased((node, home)) }))
    }

    /// [`Self::read`] of what is remembered.
    pub fn known_read(
        &self,
        asker: Asker,
        fh: Fh,
        (offset, size): (u64, u32),
        pages: bool,
    ) -> Option<Bytes> {
        if pages {
            self.known_pages(asker, fh, offset, size)
        } else {
            self.known_data(asker, fh, offset, size)
        }
    }

    fn known_data(&self, asker: Asker, fh: Fh, offset: u64, size: u32) -> Option<Bytes> {
        let handle = self.handles.find(fh)?;
        let open = handle.as_open()?;
        if open.access.writes() {
            return None;
        }
        let size = usize::try_from(size).ok()?;
        counted(Ask::Read, &self.cache.node(open.node), |cache, now| {
            cache.data(now, asker.uid, open.home, offset, size)
        })
    }

    /// What the kernel keeps: it may, as it keeps others of the file's pages already.
    fn known_pages(&self, asker: Asker, fh: Fh, offset: u64, size: u32) -> Option<Bytes> {
        let handle = self.handles.find(fh)?;
        let open = handle.as_open()?;
        let (pages, key) = (&self.cache.pages, (open.node, open.home));
        if open.access.writes() || !pages.is_leased(key) {
            return None;
        }
        open.kept.get_or_init(|| pages.keep(key));
        let filling = pages.begin_leased(key, open.ino, offset, size)?;
        let data = self.known_data(asker, fh, offset, size)?;
        let read = op::ReadData { data, version: None };
        filling.end(Leases::empty(), Some(&read)).ok()?;
        Some(read.data)
    }

    /// Numbers an open that its home is not told of.
    pub(super) fn open_here(
        &self,
        (node, home): (NodeId, InodeNo),
        ino: InodeNo,
        here: OpenedHere,
    ) -> Option<Fh> {
        let backing = self.nodes.backing_of(node, &here.file).ok()?;
        // Its attributes are known, which is looked at again when it is numbered; so nobody need look at how
        // long it is now, and this thread, one that reads requests, could not have it done.
        let follow = || Following::begin(&self.cache, (node, home), ino);
        let following = (!here.is_directory()).then(follow);
        Some(self.handles.insert(Handle::Open(Box::new(OpenFile {
            ino,
            home,
            node,
            backing,
            access: Access::Read,
            opener: Opener::Here(Box::new(here)),
            listing: tokio::sync::Mutex::default(),
            kept: OnceLock::new(),
            following,
        }))))
    }

    /// Reads what the kernel does not keep; it is remembered if the home has promised to say when it changes.
    pub(super) async fn read_once(
        &self,
        open: &OpenFile,
        asker: Asker,
        read: op::Read,
    ) -> Result<op::ReadData, Errno> {
        let cache = self.cache.node(open.node);
        let stamp =
            if open.access.writes() { None } else { cache.reading(since_boot(), open.home) };
        let offset = read.offset;
        let result = open.backing.call(&open.origin(asker), read).await;
        if let (Some(stamp), Ok(read)) = (stamp, &result) {
            cache.note_data(since_boot(), stamp, open.home, offset, &read.data);
            self.cache.trim();
        }
        result
    }

    /// What the reading of a file or directory has changed of its attributes, the time of access, is looked at
    /// anew, for who asks next.
    pub(super) async fn refresh(&self, open: &OpenFile, asker: Asker) {
        let cache = self.cache.node(open.node);
        if !open.is_at_home()
            || !cache.is_granting()
            || cache.attr_if_held(since_boot(), open.home).is_some()
        {
            return;
        }
        // That of a node's root is looked at often enough.
        let Some(Subject::File { file, .. }) = self.inodes.find(open.ino) else { return };
        let stamp = cache.stamp();
        let get = op::GetAttr { file, open: open.number() };
        let answer = open.backing.call_leased(&open.origin(asker), get).await;
        cache.note_attr(since_boot(), stamp, &answer);
    }

    /// The home learns of all opens of a file that it does not know, before this mount changes who may open it.
    pub(super) async fn bring_home(&self, node: NodeId, home: InodeNo) {
        bring_all(self.handles.here(node, Some(home))).await;
    }
}

// === impl HandleMap ===

impl Openings for Arc<HandleMap> {
    fn give_back(&self, node: NodeId, home: InodeNo, recall: u64, returns: &Returns) -> bool {
        let here = self.here(node, Some(home));
        if here.is_empty() {
            return true;
        }
        let returns = returns.clone();
        tokio::spawn(async move {
            bring_all(here).await;
            returns.give_back(recall, vec![(home, Leases::HANDLE)]);
        });
        false
    }

    fn bring_home(&self, node: NodeId) {
        let here = self.here(node, None);
        if !here.is_empty() {
            tokio::spawn(bring_all(here));
        }
    }
}

/// Tells a home of opens, of many at a time: who waits for it does so for a round trip, not for each of them.
async fn bring_all(handles: Vec<Arc<Handle>>) {
    let mut handles = handles.into_iter();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < AT_A_TIME
            && let Some(handle) = handles.next()
        {
            under_way.spawn(async move { bring(&handle).await });
        }
        if under_way.join_next().await.is_none() {
            return;
        }
    }
}

/// Tells a home of an open. If it does not want it any more, who uses it is told so.
async fn bring(handle: &Handle) {
    let Some(open) = handle.as_open() else { return };
    let nobody = Asker { uid: open.caller().uid, gid: open.caller().gid, tid: 0 };
    if let Err(error) = open.bring_home(nobody).await {
        tracing::debug!(%error, node = %open.node.short(), "an open is not known at its home");
    }
}

/// Whether the asker may read a file for what its mode says alone: without its groups, which would have to be
/// looked up, and without privileges. What else is in the way the kernel has found out before it asks.
fn is_readable(attr: &Attr, asker: Asker) -> bool {
    attr.mode & 0o444 == 0o444 || (asker.uid == attr.uid && attr.mode & 0o400 != 0)
}

/// The opener of a file that [`is_readable`] for it.
fn plain_caller(asker: Asker) -> Caller {
    Caller { pid: asker.tid, ..Caller::user(asker.uid, asker.gid, &[]) }
}
