//! What files say of themselves: attributes, extended attributes, access, figures of file systems.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mfs::clock::since_boot;
use mfs::types::op;
use mfs::types::{AccessMode, Attr, Errno, InodeNo, SetAttr, SetXattrMode, StatFs, XattrName};

use super::handle_map::{Fh, OpenFile};
use super::inode_map::Subject;
use super::selection::SELECT_XATTR;
use super::{MountedFs, Request};

/// Longest that `df` of a path inside a node waits for that node, before it shows nothing of it.
const STATFS_PATIENCE: Duration = Duration::from_secs(2);

// === impl MountedFs ===

impl MountedFs {
    /// Attributes of a file. Those of the top and of node roots never wait for a node.
    pub async fn getattr(
        self: &Arc<Self>,
        request: &Request,
        ino: InodeNo,
        fh: Option<Fh>,
    ) -> Result<Attr, Errno> {
        let subject = self.subject(ino)?;
        let (node, file) = match subject {
            Subject::File { node, file, .. } => (node, file),
            Subject::NodeRoot(node) => {
                if self.nodes.is_root_due(node) {
                    self.refresh_root(request.clone(), node);
                }
                return Ok(self.synthetic_attr(&subject));
            }
            Subject::Top | Subject::Magic | Subject::Link { .. } => {
                return Ok(self.synthetic_attr(&subject));
            }
        };
        // fstat(2) comes without the open it was called on, but an unlinked file is reached only through
        // one; any does, since attributes need no permission on the file itself.
        let cache = self.cache.node(node);
        loop {
            let given = fh.and_then(|fh| self.handles.find(fh)).filter(|given| given.is_at_home());
            let handle = given.or_else(|| self.handles.any_of(ino, false));
            let (backing, open) = match handle.as_deref().and_then(|h| h.as_open()) {
                Some(open) => (open.backing.clone(), open.number()),
                None => (self.nodes.backing_of(node, &file)?, None),
            };
            let file = file.clone();
            let stamp = cache.stamp();
            let answer = backing.call_leased(&request.origin(), op::GetAttr { file, open }).await;
            cache.note_attr(since_boot(), stamp, &answer);
            match answer.result {
                // Its owner closed it meanwhile, and before the close was sent it left the table: what is
                // found there now is another one, or none.
                Err(Errno::BadF)
                    if open.is_some() && !handle.is_some_and(|h| self.handles.holds(ino, &h)) => {}
                // A directory that was listed without being opened at its home, and is gone by now.
                Err(Errno::Stale) if let Some(attr) = self.handles.listed(ino) => {
                    return Ok(Attr { ino, nlink: 0, ..attr });
                }
                Err(Errno::Stale) if let Some(attr) = self.inodes.removed(ino) => return Ok(attr),
                answer => {
                    let attr = answer?;
                    self.inodes.saw(ino, &attr);
                    return Ok(Attr { ino, ..attr });
                }
            }
        }
    }

    /// Changes attributes.
    pub async fn setattr(
        self: &Arc<Self>,
        request: &Request,
        ino: InodeNo,
        fh: Option<Fh>,
        set: SetAttr,
    ) -> Result<Attr, Errno> {
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::Perm).await?;
        let handle = fh.and_then(|fh| self.handles.find(fh));
        let given = handle.as_deref().and_then(|h| h.as_open()).filter(|o| o.access.writes());
        let change =
            op::SetAttributes { file: place.file, open: given.and_then(OpenFile::number), set };
        let backing = given.map_or(&place.backing, |o| &o.backing);
        self.bring_home(place.node, place.home).await;
        let own = self.change(place.node, place.home);
        let mut answer = backing.call_leased(&origin, change.clone()).await;
        if answer.result == Err(Errno::Stale) && given.is_none() {
            // Unlinked but open: fchmod(2) and its like come without the open; the kernel has checked that
            // the caller may.
            if let Some(open) = self.open_of(ino, change.set.size.is_some()) {
                answer = backing
                    .call_leased(&origin, op::SetAttributes { open: Some(open), ..change.clone() })
                    .await;
            }
        }
        own.end_attr(since_boot(), &answer);
        let instead = |attr| Ok(self.change_removed(ino, attr, &change.set));
        let attr = self.or_removed(request, ino, answer.result, instead)?;
        if place.is_root {
            self.nodes.saw_root(place.node, attr.clone());
        }
        Ok(Attr { ino, ..attr })
    }

    /// Whether the caller may.
    pub async fn access(
        &self,
        request: &Request,
        ino: InodeNo,
        mode: AccessMode,
    ) -> Result<(), Errno> {
        if !matches!(self.subject(ino)?, Subject::File { .. } | Subject::NodeRoot(_)) {
            let refused = mode.contains(AccessMode::WRITE) && request.caller.uid != 0;
            return if refused { Err(Errno::Access) } else { Ok(()) };
        }
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::Access).await?;
        place.backing.call(&origin, op::CheckAccess { file: place.file, mode }).await
    }

    /// Figures of the file system that holds a file; of the top at once.
    pub async fn statfs(&self, request: &Request, ino: InodeNo) -> Result<StatFs, Errno> {
        let origin = request.origin();
        if matches!(self.subject(ino)?, Subject::Top | Subject::Magic | Subject::Link { .. }) {
            return Ok(Self::statfs_top());
        }
        let answer = tokio::time::timeout(STATFS_PATIENCE, async {
            let place = self.place(&origin, ino, Errno::Io).await?;
            place.backing.call(&origin, op::StatFsOf { file: place.file }).await
        });
        match answer.await.unwrap_or(Err(Errno::TimedOut)) {
            // Of a directory that was removed while somebody stood in it: those of its node.
            Err(Errno::Stale) if let Subject::File { node, .. } = self.subject(ino)? => {
                let root = self.node_root(&origin, node).await?;
                root.backing.call(&origin, op::StatFsOf { file: root.file }).await
            }
            answer => answer,
        }
    }

    /// Value of an extended attribute.
    pub async fn getxattr(
        &self,
        request: &Request,
        ino: InodeNo,
        name: XattrName,
    ) -> Result<Bytes, Errno> {
        match self.subject(ino)? {
            Subject::Top => return Self::getxattr_top(name.as_bytes()).map(Bytes::from),
            Subject::Magic | Subject::Link { .. } => return Err(Errno::NoData),
            Subject::NodeRoot(_) | Subject::File { .. } => {}
        }
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::NoData).await?;
        let cache = self.cache.node(place.node);
        let stamp = cache.stamp();
        let get = op::GetXattr { file: place.file, name: name.clone() };
        let answer = place.backing.call_leased(&origin, get).await;
        cache.note_xattr(since_boot(), stamp, place.home, &name, &answer);
        self.or_removed(request, ino, answer.result, |_| Err(Errno::NoData))
    }

    /// Sets an extended attribute.
    pub async fn setxattr(
        self: &Arc<Self>,
        request: &Request,
        ino: InodeNo,
        name: XattrName,
        value: Bytes,
        mode: SetXattrMode,
    ) -> Result<(), Errno> {
        if ino == InodeNo::ROOT && &name.as_bytes()[..] == SELECT_XATTR {
            return self.select(request.asker, &value);
        }
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::Perm).await?;
        self.bring_home(place.node, place.home).await;
        let set = op::SetXattr { file: place.file.clone(), name, value, mode };
        let own = self.change(place.node, place.home);
        let answer = place.backing.call_leased(&origin, set).await;
        own.end(since_boot(), &answer);
        answer.result?;
        self.touch_root(request, &place);
        Ok(())
    }

    /// Names of the extended attributes, each ended by a NUL (listxattr(2)).
    pub async fn listxattr(&self, request: &Request, ino: InodeNo) -> Result<Bytes, Errno> {
        if !matches!(self.subject(ino)?, Subject::File { .. } | Subject::NodeRoot(_)) {
            return Ok(Bytes::new());
        }
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::Perm).await?;
        let cache = self.cache.node(place.node);
        let stamp = cache.stamp();
        let answer = place.backing.call_leased(&origin, op::ListXattr { file: place.file }).await;
        let leases = answer.leases;
        let names = self.or_removed(request, ino, answer.result, |_| Ok(Vec::new()))?;
        let list: Vec<u8> =
            names.iter().flat_map(|name| name.as_bytes().iter().copied().chain([0])).collect();
        // Of these the kernel does not know who may see them.
        if !names.iter().any(|name| name.as_bytes().starts_with(b"trusted.")) {
            cache.note_xattr_names(since_boot(), stamp, place.home, &list, leases);
        }
        Ok(list.into())
    }

    /// Removes an extended attribute.
    pub async fn removexattr(
        self: &Arc<Self>,
        request: &Request,
        ino: InodeNo,
        name: XattrName,
    ) -> Result<(), Errno> {
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::Perm).await?;
        self.bring_home(place.node, place.home).await;
        let remove = op::RemoveXattr { file: place.file.clone(), name };
        let own = self.change(place.node, place.home);
        let answer = place.backing.call_leased(&origin, remove).await;
        own.end(since_boot(), &answer);
        answer.result?;
        self.touch_root(request, &place);
        Ok(())
    }
}
