//! Directories that were removed while a program stood in them.
//!
//! On one machine such a directory lives on, empty, as long as it is somebody's working directory. Its home
//! knows of no such use and says ESTALE, upon which the kernel asks once more. Who comes to it again comes by
//! a working directory or a descriptor, not by a name, and is answered here from what was last seen of it.
//!
//! Not what is open at its home: that is answered there.

use std::sync::OnceLock;

use mfs::types::{Access, Attr, Errno, InodeNo, SetAttr, SetTime, Timestamp};

use super::handle_map::{Fh, Handle, OpenFile, OpenedHere, Opener};
use super::inode_map::Subject;
use super::{MountedFs, Request};

// === impl MountedFs ===

impl MountedFs {
    /// The answer about a file, or `instead` if it is a removed directory that the thread comes to again.
    pub(super) fn or_removed<T>(
        &self,
        request: &Request,
        ino: InodeNo,
        answer: Result<T, Errno>,
        instead: impl FnOnce(Attr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match answer {
            Err(Errno::Stale) if self.has_missed(request.asker) => {
                self.inodes.removed(ino).map_or(Err(Errno::Stale), instead)
            }
            answer => answer,
        }
    }

    /// Changes what is known of a removed directory; the kernel has checked that the caller may.
    pub(super) fn change_removed(&self, ino: InodeNo, attr: Attr, set: &SetAttr) -> Attr {
        let now = Self::now();
        let time = |set: Option<SetTime>, before: Timestamp| match set {
            None => before,
            Some(SetTime::Now) => now,
            Some(SetTime::To(time)) => time,
        };
        let attr = Attr {
            mode: set.mode.unwrap_or(attr.mode),
            uid: set.uid.unwrap_or(attr.uid),
            gid: set.gid.unwrap_or(attr.gid),
            atime: time(set.atime, attr.atime),
            mtime: time(set.mtime, attr.mtime),
            ctime: now,
            ..attr
        };
        self.inodes.saw(ino, &attr);
        attr
    }

    /// Opens a removed directory, to be listed: that says ENOENT, as on one machine.
    pub(super) fn open_removed(
        &self,
        request: &Request,
        ino: InodeNo,
        attr: Attr,
    ) -> Result<Fh, Errno> {
        let Subject::File { node, file, home } = self.subject(ino)? else {
            return Err(Errno::Stale);
        };
        let backing = self.nodes.backing_of(node, &file)?;
        Ok(self.handles.insert(Handle::Open(Box::new(OpenFile {
            ino,
            home,
            node,
            backing,
            access: Access::Read,
            opener: Opener::Here(Box::new(OpenedHere::new(file, request.asker, Some(attr)))),
            listing: tokio::sync::Mutex::default(),
            kept: OnceLock::new(),
            following: None,
        }))))
    }
}
