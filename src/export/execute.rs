//! One whole operation: from the value that came in to the value that goes out.
//!
//! The only way into an export besides its root and the files that are open already, so that what is
//! decided here (read-only, who owns an open) holds for all.

use std::collections::HashMap;
use std::sync::Arc;

use super::fd_budget::FdBudget;
use super::open_file::OpenFile;
use super::tenant::Tenant;
use super::{Export, read_only};
use crate::sync::Mutex;
use crate::types::op::{Call, Create, Open, Opened, Operation, Outcome};
use crate::types::{Caller, Errno, OpenId};

/// What is open in one session. Its owner decides what an unknown id means to the other side; here it
/// is EBADF.
pub trait Opens: Send + Sync {
    /// The open file with this id.
    fn find(&self, open: OpenId) -> Option<OpenFile>;

    /// Keeps a file that has just been opened, in place of one that has the id already.
    ///
    /// # Errors
    /// The owner's own: too many, or the session has ended. The file is then closed.
    fn keep(&self, open: OpenId, file: OpenFile) -> Result<(), Errno>;

    /// Forgets an open file; an unknown one is forgotten already.
    fn forget(&self, open: OpenId);

    /// Whose descriptors and locks they are.
    fn tenant(&self) -> &Arc<Tenant>;
}

/// A plain table of opens.
#[derive(Debug)]
pub struct OpenMap {
    tenant: Arc<Tenant>,
    opens: Mutex<HashMap<OpenId, OpenFile>>,
}

// === impl OpenMap ===

impl OpenMap {
    /// An empty table of the node itself, whose opens take at most `descriptors` of the budget.
    pub fn new(budget: &FdBudget, descriptors: usize) -> Self {
        Self { tenant: Tenant::new(budget, descriptors, None), opens: Mutex::default() }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.opens.lock().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Opens for OpenMap {
    fn find(&self, open: OpenId) -> Option<OpenFile> {
        self.opens.lock().get(&open).cloned()
    }

    fn keep(&self, open: OpenId, file: OpenFile) -> Result<(), Errno> {
        let replaced = self.opens.lock().insert(open, file);
        drop(replaced); // closed without the lock
        Ok(())
    }

    fn forget(&self, open: OpenId) {
        let forgotten = self.opens.lock().remove(&open);
        drop(forgotten); // closed without the lock
    }

    fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }
}

// === impl Export ===

impl Export {
    /// Executes an operation for a caller, whom [`Export::vouch`] has passed.
    ///
    /// `SetLock` with `wait` does not wait here: EAGAIN, and the session tries again.
    ///
    /// # Errors
    /// What the local file system said; EBADF for an unknown open; ESTALE for a file that is gone.
    pub fn execute(
        &self,
        caller: &Caller,
        operation: Operation,
        opens: &dyn Opens,
    ) -> Result<Outcome, Errno> {
        if self.read_only {
            read_only::admit(&operation)?;
        }
        let find = |open| opens.find(open).ok_or(Errno::BadF);
        Ok(match operation {
            Operation::Lookup(op) => Outcome::Entry(self.lookup(caller, &op)?),
            Operation::GetAttr(op) => Outcome::Attr(match op.open {
                Some(open) => find(open)?.attr()?,
                None => self.get_attr(&op.file)?,
            }),
            Operation::SetAttributes(op) => Outcome::Attr(match op.open {
                Some(open) => find(open)?.set_attr(caller, &op.set)?,
                None => self.set_attr(caller, &op.file, &op.set)?,
            }),
            Operation::ReadLink(op) => Outcome::Target(self.read_link(&op.file)?),
            Operation::MakeNode(op) => Outcome::Entry(self.make_node(caller, &op)?),
            Operation::MakeDir(op) => {
                Outcome::Entry(self.make_dir(caller, &op.parent, &op.name, op.mode)?)
            }
            Operation::MakeSymlink(op) => {
                Outcome::Entry(self.make_symlink(caller, &op.parent, &op.name, &op.target)?)
            }
            Operation::Link(op) => {
                Outcome::Entry(self.link(caller, &op.file, &op.parent, &op.name)?)
            }
            Operation::Unlink(op) => {
                Outcome::Done(self.remove(caller, &op.parent, &op.name, false)?)
            }
            Operation::RemoveDir(op) => {
                Outcome::Done(self.remove(caller, &op.parent, &op.name, true)?)
            }
            Operation::Rename(op) => Outcome::Done(self.rename(caller, &op)?),
            Operation::Open(op) => Outcome::Opened(self.open_kept(caller, &op, opens)?),
            Operation::Create(op) => Outcome::Opened(self.create_kept(caller, &op, opens)?),
            Operation::Read(op) => Outcome::Data(find(op.open)?.read(op.offset, op.size)?),
            Operation::Write(op) => Outcome::Written(find(op.open)?.write(op.offset, &op.data)?),
            Operation::Flush(op) => {
                let file = find(op.open)?;
                if let Some(owner) = op.owner {
                    file.release_owner(owner)?;
                }
                Outcome::Done(file.flush()?)
            }
            Operation::Release(op) => {
                opens.forget(op.open);
                Outcome::Done(())
            }
            Operation::Sync(op) => Outcome::Done(find(op.open)?.sync(op.data_only)?),
            Operation::ReadDir(op) => Outcome::Listing(find(op.open)?.read_dir(
                caller,
                op.cookie,
                op.limit,
                op.attributes,
            )?),
            Operation::StatFsOf(op) => Outcome::StatFs(self.stat_fs(&op.file)?),
            Operation::CheckAccess(op) => {
                Outcome::Done(self.check_access(caller, &op.file, op.mode)?)
            }
            Operation::GetXattr(op) => Outcome::Value(self.get_xattr(caller, &op.file, &op.name)?),
            Operation::SetXattr(op) => {
                Outcome::Done(self.set_xattr(caller, &op.file, &op.name, &op.value, op.mode)?)
            }
            Operation::ListXattr(op) => Outcome::Names(self.list_xattr(caller, &op.file)?),
            Operation::RemoveXattr(op) => {
                Outcome::Done(self.remove_xattr(caller, &op.file, &op.name)?)
            }
            Operation::Fallocate(op) => {
                Outcome::Done(find(op.open)?.fallocate(op.mode, op.offset, op.length)?)
            }
            Operation::Seek(op) => Outcome::Offset(find(op.open)?.seek(op.offset, op.whence)?),
            Operation::CopyRange(op) => {
                let (source, target) = (find(op.source)?, find(op.target)?);
                let (from, to) = (op.source_offset, op.target_offset);
                Outcome::Copied(source.copy_range_to(from, &target, to, op.length)?)
            }
            Operation::GetLock(op) => {
                Outcome::Lock(find(op.open)?.get_lock(op.owner, op.kind, op.range)?)
            }
            Operation::SetLock(op) => {
                let file = find(op.open)?;
                Outcome::Done(file.set_lock(&op, caller.pid)?)
            }
        })
    }

    /// As [`Self::execute`], with the answer taken out.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn call<C: Call>(
        &self,
        caller: &Caller,
        call: C,
        opens: &dyn Opens,
    ) -> Result<C::Output, Errno> {
        C::answer(self.execute(caller, call.into(), opens)?).ok_or(Errno::Proto)
    }

    /// Opens under the session's id; a repeated request takes the place of the first.
    pub(super) fn open_kept(
        &self,
        caller: &Caller,
        open: &Open,
        opens: &dyn Opens,
    ) -> Result<Opened, Errno> {
        let file = self.open_file(caller, open, opens.tenant())?;
        let opened = file.opened()?;
        opens.keep(open.open, file)?;
        Ok(opened)
    }

    fn create_kept(
        &self,
        caller: &Caller,
        create: &Create,
        opens: &dyn Opens,
    ) -> Result<Opened, Errno> {
        let (file, entry) = self.create(caller, create, opens.tenant())?;
        let opened = Opened { entry, proof: file.proof() };
        opens.keep(create.open, file)?;
        Ok(opened)
    }
}
