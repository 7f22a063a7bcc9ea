//! Names: finding, making, linking, renaming and removing them, and opening by them.
//!
//! Each change is one system call with the caller's identity, so that it is atomic among nodes and
//! local processes, and its error is the kernel's own.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags as KernelRename, makedev};

use super::Export;
use super::hidden::Reached;
use super::impersonate::Impersonation;
use super::mounts::{proc_path, reopen};
use super::open_file::{OpenFile, Opening, kernel_flags};
use super::tenant::Tenant;
use super::tree::{CONFINED, Found, Node};
use crate::types::op::{Create, DeviceNumber, Entry, Lookup, MakeNode, Open, Rename};
use crate::types::{Caller, Errno, FileId, FileKind, FileName, OpenFlags, RenameFlags};

/// How often a creation is tried again that found a file which was gone when it was to be opened.
const CREATE_TRIES: usize = 16;

impl Export {
    pub(super) fn lookup(&self, caller: &Caller, lookup: &Lookup) -> Result<Entry, Errno> {
        let parent = match self.tree.find(&lookup.parent)? {
            Node::Barred(_) => return Err(Errno::NoEnt),
            Node::File(found) if found.kind()? != FileKind::Directory => return Err(Errno::NotDir),
            Node::File(found) => found,
        };
        let node = self.tree.step(caller, &parent, &lookup.name)?;
        let entry = self.tree.entry(&node)?;
        if lookup.keep
            && let Node::File(found) = &node
        {
            self.tree.awaited.keep(&entry.file, found);
        }
        Ok(entry)
    }

    pub(super) fn read_link(&self, file: &FileId) -> Result<Bytes, Errno> {
        match self.tree.find(file)? {
            Node::File(found) if found.kind()? == FileKind::Symlink => {
                Ok(rustix::fs::readlinkat(&found.fd, "", Vec::new())?.into_bytes().into())
            }
            Node::File(_) | Node::Barred(_) => Err(Errno::Inval),
        }
    }

    pub(super) fn make_node(&self, caller: &Caller, make: &MakeNode) -> Result<Entry, Errno> {
        let kind = match make.kind {
            FileKind::Regular => FileType::RegularFile,
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            FileKind::CharDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            FileKind::Directory | FileKind::Symlink => return Err(Errno::Inval),
        };
        let (major, minor): DeviceNumber = make.device;
        self.make(caller, &make.parent, &make.name, |parent, name| {
            let device = makedev(major, minor);
            Ok(rustix::fs::mknodat(&parent.fd, name.as_os(), kind, mode(make.mode), device)?)
        })
    }

    pub(super) fn make_dir(
        &self,
        caller: &Caller,
        parent: &FileId,
        name: &FileName,
        bits: u16,
    ) -> Result<Entry, Errno> {
        self.make(caller, parent, name, |parent, name| {
            Ok(rustix::fs::mkdirat(&parent.fd, name.as_os(), mode(bits))?)
        })
    }

    pub(super) fn make_symlink(
        &self,
        caller: &Caller,
        parent: &FileId,
        name: &FileName,
        target: &[u8],
    ) -> Result<Entry, Errno> {
        if target.is_empty() {
            return Err(Errno::NoEnt);
        }
        if target.contains(&0) {
            return Err(Errno::Inval);
        }
        self.make(caller, parent, name, |parent, name| {
            Ok(rustix::fs::symlinkat(target, &parent.fd, name.as_os())?)
        })
    }

    pub(super) fn link(
        &self,
        caller: &Caller,
        file: &FileId,
        parent: &FileId,
        name: &FileName,
    ) -> Result<Entry, Errno> {
        let file = self.tree.find(file)?;
        let parent = self.tree.find_dir(parent)?;
        self.refuse_to_make_hidden(&parent, name)?;
        let Node::File(mut file) = file else { return Err(Errno::Perm) };
        {
            let _as_caller = Impersonation::begin(caller)?;
            // By a path to the descriptor, which is followed to the file and not further if that is a
            // link itself. AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH, which the caller has not.
            let path = proc_path(file.as_fd());
            let flags = AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(rustix::fs::CWD, path, &parent.fd, name.as_os(), flags)?;
        }
        file.look_again()?;
        self.tree.entry(&Node::File(file))
    }

    pub(super) fn remove(
        &self,
        caller: &Caller,
        parent: &FileId,
        name: &FileName,
        directory: bool,
    ) -> Result<(), Errno> {
        let parent = self.tree.find_dir(parent)?;
        self.refuse_hidden(&parent, name)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let _as_caller = Impersonation::begin(caller)?;
        Ok(rustix::fs::unlinkat(&parent.fd, name.as_os(), flags)?)
    }

    pub(super) fn rename(&self, caller: &Caller, rename: &Rename) -> Result<(), Errno> {
        let parent = self.tree.find_dir(&rename.parent)?;
        let new_parent = self.tree.find_dir(&rename.new_parent)?;
        self.refuse_hidden(&parent, &rename.name)?;
        self.refuse_to_make_hidden(&new_parent, &rename.new_name)?;
        let flags = [
            (RenameFlags::NOREPLACE, KernelRename::NOREPLACE),
            (RenameFlags::EXCHANGE, KernelRename::EXCHANGE),
            (RenameFlags::WHITEOUT, KernelRename::WHITEOUT),
        ]
        .into_iter()
        .filter(|(ours, _)| rename.flags.contains(*ours))
        .fold(KernelRename::empty(), |set, (_, kernel)| set | kernel);
        let _as_caller = Impersonation::begin(caller)?;
        Ok(rustix::fs::renameat_with(
            &parent.fd,
            rename.name.as_os(),
            &new_parent.fd,
            rename.new_name.as_os(),
            flags,
        )?)
    }

    pub(super) fn open_file(
        &self,
        caller: &Caller,
        open: &Open,
        tenant: &Arc<Tenant>,
    ) -> Result<OpenFile, Errno> {
        let (tree, proof) = (&self.tree, open.proof.as_ref());
        let Open { access, flags, .. } = *open;
        let opening = Opening { tree, tenant, caller, access, flags, proof };
        opening.open(&tree.find(&open.file)?)
    }

    /// Makes a file and opens it in one step; without `EXCLUSIVE` an existing one is opened. That is
    /// not left to the kernel, which would open whatever it finds under the name: a FIFO, a device.
    pub(super) fn create(
        &self,
        caller: &Caller,
        create: &Create,
        tenant: &Arc<Tenant>,
    ) -> Result<(OpenFile, Entry), Errno> {
        let parent = self.tree.find_dir(&create.parent)?;
        self.refuse_to_make_hidden(&parent, &create.name)?;
        let (access, flags) = (create.access, create.flags);
        let opening = Opening { tree: &self.tree, tenant, caller, access, flags, proof: None };
        for _ in 0..CREATE_TRIES {
            let slot = tenant.budget.take()?;
            match self.create_new(caller, &parent, create) {
                Ok(fd) => {
                    // O_PATH, as all that is found: a file without a handle is pinned by it, and a descriptor
                    // for writing would keep it from being run for ever.
                    let same = reopen(fd.as_fd(), OFlags::PATH)?;
                    let found = self.tree.admit(same, &parent.mount, Reached::Name)?;
                    let node = Node::File(found);
                    let open = opening.take(&node, fd, slot)?;
                    return Ok((open, self.tree.entry(&node)?));
                }
                Err(Errno::Exist) if !flags.contains(OpenFlags::EXCLUSIVE) => drop(slot),
                Err(errno) => return Err(errno),
            }
            match self.open_existing(&opening, &parent, &create.name) {
                Err(Errno::NoEnt) => {} // removed in between: it can be made now
                result => return result,
            }
        }
        // Made and removed by others each time, or a link to something hidden: there, but not to be seen.
        Err(Errno::NoEnt)
    }

    fn create_new(
        &self,
        caller: &Caller,
        parent: &Found,
        create: &Create,
    ) -> Result<OwnedFd, Errno> {
        let flags = kernel_flags(create.access, create.flags) | OFlags::CREATE | OFlags::EXCL;
        let flags = flags.difference(OFlags::TRUNC);
        let _as_caller = Impersonation::begin(caller)?;
        let name = create.name.as_os();
        Ok(if self.tree.abilities.openat2 {
            rustix::fs::openat2(&parent.fd, name, flags, mode(create.mode), CONFINED)?
        } else {
            rustix::fs::openat(&parent.fd, name, flags | OFlags::NOFOLLOW, mode(create.mode))?
        })
    }

    fn open_existing(
        &self,
        opening: &Opening<'_>,
        parent: &Found,
        name: &FileName,
    ) -> Result<(OpenFile, Entry), Errno> {
        let mut node = self.tree.step(opening.caller, parent, name)?;
        if self.tree.attr(&node)?.kind == FileKind::Directory {
            return Err(Errno::IsDir);
        }
        let open = opening.open(&node)?;
        if let Node::File(found) = &mut node {
            found.look_again()?; // it may have been truncated
        }
        Ok((open, self.tree.entry(&node)?))
    }

    /// Makes something, and answers what is now under the name.
    fn make(
        &self,
        caller: &Caller,
        parent: &FileId,
        name: &FileName,
        make: impl FnOnce(&Found, &FileName) -> Result<(), Errno>,
    ) -> Result<Entry, Errno> {
        let parent = self.tree.find_dir(parent)?;
        self.refuse_to_make_hidden(&parent, name)?;
        {
            let _as_caller = Impersonation::begin(caller)?;
            make(&parent, name)?;
        }
        // With the right to search established by having made it.
        self.tree.entry(&self.tree.step_permitted(&parent, name)?)
    }

    /// Refuses to change a name that is hidden, or leads to something hidden.
    fn refuse_hidden(&self, parent: &Found, name: &FileName) -> Result<(), Errno> {
        if self.tree.protects(parent, name) { Err(Errno::NoEnt) } else { Ok(()) }
    }

    /// Refuses to make something under a name that is hidden, whether there is something or not.
    fn refuse_to_make_hidden(&self, parent: &Found, name: &FileName) -> Result<(), Errno> {
        if self.tree.protects(parent, name) { Err(Errno::Access) } else { Ok(()) }
    }
}

fn mode(bits: u16) -> Mode {
    Mode::from_raw_mode(u32::from(bits & 0o7777))
}
