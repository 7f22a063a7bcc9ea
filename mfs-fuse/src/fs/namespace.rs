//! Names: finding, making, removing and moving them.

use std::sync::Arc;

use bytes::Bytes;
use mfs::clock::since_boot;
use mfs::types::op::{self, Call, DeviceNumber, Entry};
use mfs::types::{Attr, Errno, FileKind, FileName, InodeNo, RenameFlags};

use super::cache::Changing;
use super::inode_map::Subject;
use super::{MountedFs, Place, Request};

// === impl MountedFs ===

impl MountedFs {
    /// Finds a name in a directory and counts a lookup of it.
    pub async fn lookup(
        &self,
        request: &Request,
        parent: InodeNo,
        name: FileName,
    ) -> Result<Attr, Errno> {
        let origin = request.origin();
        let place = match self.subject(parent)? {
            Subject::Top => return self.lookup_top(request.asker, &name),
            Subject::Magic => {
                let node = self.magic_node(request.asker, &name)?;
                self.node_root(&origin, node).await?
            }
            Subject::Link { .. } => return Err(Errno::NotDir),
            Subject::NodeRoot(_) | Subject::File { .. } => {
                self.place(&origin, parent, Errno::NotDir).await?
            }
        };
        let cache = self.cache.node(place.node);
        let stamp = cache.stamp();
        let keep = self.has_missed(request.asker);
        let lookup = op::Lookup { parent: place.file, name: name.clone(), keep };
        let answer = place.backing.call_leased(&origin, lookup).await;
        cache.note_lookup(since_boot(), stamp, place.home, &name, &answer);
        self.cache.trim();
        let entry = answer.result.map_err(gone)?;
        if place.is_root {
            self.note_point(place.node, &name, &entry);
        }
        Ok(self.admit_at(request.asker, (parent, &name), place.node, entry))
    }

    /// Makes a name, of the file `linked` at the node if it has one already.
    async fn make<C: Call<Output = Entry>>(
        self: &Arc<Self>,
        request: &Request,
        place: Place,
        name: FileName,
        make: C,
        linked: Option<InodeNo>,
    ) -> Result<Attr, Errno> {
        let change = match linked {
            Some(file) => Changing::begin_link(self.cache.node(place.node), place.home, file),
            None => self.change_name(&place, &name),
        };
        let answer = place.backing.call_leased(&request.origin(), make).await;
        change.end_made(since_boot(), place.home, &name, &answer);
        let entry = answer.result.map_err(gone)?;
        self.touch_root(request, &place);
        Ok(self.admit(place.node, entry))
    }

    async fn remove<C: Call<Output = ()>>(
        self: &Arc<Self>,
        request: &Request,
        place: &Place,
        name: &FileName,
        remove: C,
    ) -> Result<(), Errno> {
        let change = self.change_name(place, name);
        let answer = place.backing.call_leased(&request.origin(), remove).await;
        change.end_removed(since_boot(), place.home, name, &answer);
        answer.result.map_err(gone)?;
        self.touch_root(request, place);
        Ok(())
    }

    /// The directory in which a change is to be made. The top and `magic` are the mount's own: EPERM.
    async fn directory(&self, request: &Request, ino: InodeNo) -> Result<Place, Errno> {
        self.place(&request.origin(), ino, Errno::Perm).await
    }

    /// Target of a symbolic link.
    pub async fn readlink(&self, request: &Request, ino: InodeNo) -> Result<Bytes, Errno> {
        if let Subject::Link { target, .. } = self.subject(ino)? {
            return Ok(target.into_bytes().into());
        }
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::Inval).await?;
        let cache = self.cache.node(place.node);
        let stamp = cache.stamp();
        let answer = place.backing.call_leased(&origin, op::ReadLink { file: place.file }).await;
        cache.note_target(since_boot(), stamp, place.home, &answer);
        answer.result
    }

    /// Makes a regular file, FIFO, socket or device node.
    pub async fn mknod(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
        kind: FileKind,
        mode: u16,
        device: DeviceNumber,
    ) -> Result<Attr, Errno> {
        let place = self.directory(request, parent).await?;
        let make =
            op::MakeNode { parent: place.file.clone(), name: name.clone(), kind, mode, device };
        self.make(request, place, name, make, None).await
    }

    /// Makes a directory.
    pub async fn mkdir(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
        mode: u16,
    ) -> Result<Attr, Errno> {
        let place = self.directory(request, parent).await?;
        let make = op::MakeDir { parent: place.file.clone(), name: name.clone(), mode };
        let attr = self.make(request, place, name.clone(), make, None).await?;
        self.inodes.place(attr.ino, parent, &name);
        Ok(attr)
    }

    /// Makes a symbolic link.
    pub async fn symlink(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
        target: Bytes,
    ) -> Result<Attr, Errno> {
        let place = self.directory(request, parent).await?;
        let make = op::MakeSymlink { parent: place.file.clone(), name: name.clone(), target };
        self.make(request, place, name, make, None).await
    }

    /// Gives a file another name; EXDEV between nodes, as between file systems.
    pub async fn link(
        self: &Arc<Self>,
        request: &Request,
        ino: InodeNo,
        parent: InodeNo,
        name: FileName,
    ) -> Result<Attr, Errno> {
        let origin = request.origin();
        let file = self.place(&origin, ino, Errno::Perm).await?;
        let place = self.directory(request, parent).await?;
        if file.node != place.node {
            return Err(Errno::XDev);
        }
        let link = op::Link { file: file.file, parent: place.file.clone(), name: name.clone() };
        self.make(request, place, name, link, Some(file.home)).await
    }

    /// Removes a name of something that is not a directory.
    pub async fn unlink(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
    ) -> Result<(), Errno> {
        let origin = request.origin();
        let place = match self.subject(parent)? {
            Subject::Magic => {
                let node = self.magic_node(request.asker, &name)?;
                self.node_root(&origin, node).await?
            }
            _ => self.directory(request, parent).await?,
        };
        let unlink = op::Unlink { parent: place.file.clone(), name: name.clone() };
        self.remove(request, &place, &name, unlink).await
    }

    /// Removes an empty directory.
    pub async fn rmdir(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
    ) -> Result<(), Errno> {
        let place = self.directory(request, parent).await?;
        let remove = op::RemoveDir { parent: place.file.clone(), name: name.clone() };
        self.remove(request, &place, &name, remove).await
    }

    /// Renames as one step; EXDEV between nodes.
    pub async fn rename(
        self: &Arc<Self>,
        request: &Request,
        from: (InodeNo, FileName),
        to: (InodeNo, FileName),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let source = self.directory(request, from.0).await?;
        let target = self.directory(request, to.0).await?;
        if source.node != target.node {
            return Err(Errno::XDev);
        }
        let rename = op::Rename {
            parent: source.file.clone(),
            name: from.1.clone(),
            new_parent: target.file.clone(),
            new_name: to.1.clone(),
            flags,
        };
        let kernels = ((from.0, &from.1), (to.0, &to.1));
        let (from, to) = ((source.home, &from.1), (target.home, &to.1));
        let change = Changing::begin_rename(self.cache.node(source.node), from, to);
        let answer = source.backing.call_leased(&request.origin(), rename).await;
        self.has_renamed(request.asker);
        change.end_renamed(since_boot(), from, to, flags, &answer);
        answer.result.map_err(gone)?;
        self.inodes.renamed(kernels.0, kernels.1, flags.contains(RenameFlags::EXCHANGE));
        self.touch_root(request, &source);
        self.touch_root(request, &target);
        Ok(())
    }
}

/// A directory that was removed has no names and takes none: that is ENOENT, as on one machine. The kernel
/// has come to it by a working directory or a descriptor, or was there before it went; asking once more, as
/// it does after ESTALE, would lead it nowhere else.
pub(super) const fn gone(errno: Errno) -> Errno {
    match errno {
        Errno::Stale => Errno::NoEnt,
        other => other,
    }
}
