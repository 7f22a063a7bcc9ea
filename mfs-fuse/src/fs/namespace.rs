//! Names: finding, making, removing and moving them.

use std::sync::Arc;

use bytes::Bytes;
use mfs::types::op::{self, DeviceNumber};
use mfs::types::{Attr, Errno, FileKind, FileName, InodeNo, RenameFlags};

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
        let entry = place.backing.call(&origin, op::Lookup { parent: place.file, name }).await?;
        Ok(self.admit(place.node, entry))
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
        place.backing.call(&origin, op::ReadLink { file: place.file }).await
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
        let make = op::MakeNode { parent: place.file.clone(), name, kind, mode, device };
        let entry = place.backing.call(&request.origin(), make).await?;
        self.touch_root(request, &place);
        Ok(self.admit(place.node, entry))
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
        let make = op::MakeDir { parent: place.file.clone(), name, mode };
        let entry = place.backing.call(&request.origin(), make).await?;
        self.touch_root(request, &place);
        Ok(self.admit(place.node, entry))
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
        let make = op::MakeSymlink { parent: place.file.clone(), name, target };
        let entry = place.backing.call(&request.origin(), make).await?;
        self.touch_root(request, &place);
        Ok(self.admit(place.node, entry))
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
        let link = op::Link { file: file.file, parent: place.file.clone(), name };
        let entry = place.backing.call(&origin, link).await?;
        self.touch_root(request, &place);
        Ok(self.admit(place.node, entry))
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
        place.backing.call(&origin, op::Unlink { parent: place.file.clone(), name }).await?;
        self.touch_root(request, &place);
        Ok(())
    }

    /// Removes an empty directory.
    pub async fn rmdir(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
    ) -> Result<(), Errno> {
        let place = self.directory(request, parent).await?;
        let remove = op::RemoveDir { parent: place.file.clone(), name };
        place.backing.call(&request.origin(), remove).await?;
        self.touch_root(request, &place);
        Ok(())
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
            name: from.1,
            new_parent: target.file.clone(),
            new_name: to.1,
            flags,
        };
        source.backing.call(&request.origin(), rename).await?;
        self.touch_root(request, &source);
        self.touch_root(request, &target);
        Ok(())
    }
}
