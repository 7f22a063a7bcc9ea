//! What a daemon asks of its tree to find out what the one before it did: names, attributes and ends of
//! files as they are, without a caller whose rights would count.

use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::OFlags;

use super::Export;
use super::execute::Opens;
use super::mounts::reopen;
use super::open_file::OpenFile;
use super::proof::Admission;
use super::tenant::Tenant;
use super::tree::{Found, Node};
use crate::types::op::{Create, Entry, Open, Opened};
use crate::types::{Attr, Caller, Errno, FileId, FileKind, FileName, OpenFlags};

// === impl Export ===

impl Export {
    /// The file that has a name, if there is one.
    ///
    /// # Errors
    /// ESTALE if the directory is gone; others that leave it open whether there is one.
    pub fn entry_of_name(&self, parent: &FileId, name: &FileName) -> Result<Option<Entry>, Errno> {
        let parent = self.tree.find_dir(parent)?;
        match self.tree.step_permitted(&parent, name) {
            Ok(node) => self.tree.entry(&node).map(Some),
            Err(Errno::NoEnt) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The attributes of a file.
    ///
    /// # Errors
    /// ESTALE if it is gone.
    pub fn attr_of(&self, file: &FileId) -> Result<Attr, Errno> {
        self.get_attr(file)
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// Those of readlink(2).
    pub fn target_of(&self, file: &FileId) -> Result<Bytes, Errno> {
        self.read_link(file)
    }

    /// The bytes of a regular file from `offset` on, `limit` at most.
    ///
    /// # Errors
    /// Those of open(2) and pread(2).
    pub fn bytes_of(&self, file: &FileId, offset: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        let fd = reopen(self.regular(file)?.as_fd(), OFlags::RDONLY | OFlags::CLOEXEC)?;
        let mut bytes = vec![0; limit];
        let mut done = 0;
        while done < limit {
            match rustix::io::pread(&fd, &mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(size) => done += size,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// Cuts a regular file off at `size`.
    ///
    /// # Errors
    /// Those of open(2) and ftruncate(2).
    pub fn cut_off(&self, file: &FileId, size: u64) -> Result<(), Errno> {
        let fd = reopen(self.regular(file)?.as_fd(), OFlags::WRONLY | OFlags::CLOEXEC)?;
        Ok(rustix::fs::ftruncate(fd, size)?)
    }

    /// Opens the file that a `Create` of this caller has made before a restart, whatever its permissions are.
    ///
    /// # Errors
    /// Those of open(2); ESTALE if it is gone.
    pub fn take_up(
        &self,
        caller: &Caller,
        create: &Create,
        file: &FileId,
        opens: &dyn Opens,
    ) -> Result<Opened, Errno> {
        let tenant: &Arc<Tenant> = opens.tenant();
        let Create { open, access, flags, .. } = *create;
        let flags = flags - OpenFlags::TRUNCATE - OpenFlags::EXCLUSIVE;
        let admission = Admission { file, access, flags, uid: caller.uid, holder: tenant.holder };
        let proof = admission.prove(&self.tree.seal);
        self.open_kept(caller, &Open { file: file.clone(), open, access, flags, proof }, opens)
    }

    fn regular(&self, file: &FileId) -> Result<Found, Errno> {
        match self.tree.find(file)? {
            Node::File(found) if found.kind()? == FileKind::Regular => Ok(found),
            Node::File(_) | Node::Barred(_) => Err(Errno::Inval),
        }
    }
}

impl OpenFile {
    /// Whether every write through it goes to the end of the file.
    pub fn appends(&self) -> bool {
        self.flags().contains(OpenFlags::APPEND)
    }
}
