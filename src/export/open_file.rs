//! `OpenFile`: an open file or directory, as a session owns it.
//!
//! Its operations are in `io`, `readdir`, `attr` and `lock`. What changes data is done with the
//! identity of who opened it, as the kernel does with a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use super::fd_budget::FdSlot;
use super::held::Flocked;
use super::impersonate::Impersonation;
use super::mounts::{Mount, reopen};
use super::programs::{Purpose, Using};
use super::proof::{self, Admission};
use super::sys;
use super::tenant::Tenant;
use super::tree::{Found, Node, Tree};
use crate::sync::Mutex;
use crate::telemetry::instruments::Held;
use crate::telemetry::metrics as m;
use crate::types::op;
use crate::types::{
    Access, AccessMode, Attr, Caller, Errno, FileId, FileKind, InodeNo, OpenFlags, OpenProof,
};

/// An open file or directory. Clones share it; it is closed when the last is dropped.
#[derive(Debug, Clone)]
pub struct OpenFile(pub(super) Arc<Opened>);

#[derive(Debug)]
pub(super) struct Opened {
    /// Tells this open from all others of the process.
    pub(super) serial: u64,
    pub(super) tree: Arc<Tree>,
    pub(super) tenant: Arc<Tenant>,
    pub(super) file: FileId,
    pub(super) number: InodeNo,
    pub(super) access: Access,
    pub(super) flags: OpenFlags,
    pub(super) opener: Caller,
    /// Held while a system call uses the description's own position: appends, seeks, listings.
    pub(super) position: Mutex<()>,
    /// The flock(2) lock on it.
    pub(super) flocked: Mutex<Option<Flocked>>,
    pub(super) body: Body,
    /// Its share in who runs the file and who writes it.
    _using: Option<Using>,
    _slot: FdSlot,
    _counted: Held,
}

/// How a file is to be opened: for whom, what for, and who owns the open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) tree: &'a Arc<Tree>,
    pub(super) tenant: &'a Arc<Tenant>,
    pub(super) caller: &'a Caller,
    pub(super) access: Access,
    pub(super) flags: OpenFlags,
    /// Shows that it was open before.
    pub(super) proof: Option<&'a OpenProof>,
}

/// The serial number of the next open.
static SERIALS: AtomicU64 = AtomicU64::new(1);

/// What is behind an open.
#[derive(Debug)]
pub(super) enum Body {
    File(Arc<OwnedFd>),
    Directory(Arc<OwnedFd>, Arc<Mount>),
    /// The empty directory in place of a mount that is not entered.
    Barred(Attr),
}

// === impl Opening ===

impl Opening<'_> {
    /// Opens what an O_PATH descriptor has found, with the caller's rights, or with those that it has
    /// proven to have had.
    ///
    /// # Errors
    /// Those of open(2); ENXIO for a FIFO, socket or device: those are local objects of each node; ETXTBSY
    /// for a program that runs and is to be written, or the other way round.
    pub(super) fn open(&self, node: &Node) -> Result<OpenFile, Errno> {
        let slot = self.tenant.budget.take()?;
        let (body, using) = match node {
            Node::Barred(_) if self.access.writes() => return Err(Errno::IsDir),
            Node::Barred(_) => (Body::Barred(self.tree.attr(node)?), None),
            Node::File(found) => {
                let proven = self.is_proven(&self.tree.file_id(node)?);
                let using = self.begin_using(node, found, proven)?;
                let fd = open_found(self.caller, found, self.access, self.flags, proven)?;
                if let Some(using) = using.as_ref().filter(|_| !proven) {
                    using.refuse_if_written_beside(fd.as_fd())?;
                }
                // Who only empties a file and reads on has written it by now.
                let lasts = self.access.writes() || is_execution(self.access, self.flags);
                (Body::of(found, Arc::new(fd))?, using.filter(|_| lasts))
            }
        };
        self.finish(node, body, using, slot)
    }

    /// Takes over a file that was just created.
    pub(super) fn take(&self, node: &Node, fd: OwnedFd, slot: FdSlot) -> Result<OpenFile, Errno> {
        let using = self.purpose().and_then(|purpose| self.again(node, purpose));
        self.finish(node, Body::File(Arc::new(fd)), using, slot)
    }

    /// What the open does that others must not, or must have done before it.
    fn purpose(&self) -> Option<Purpose> {
        let writes = self.access.writes() || self.flags.contains(OpenFlags::TRUNCATE);
        match () {
            () if writes => Some(Purpose::Write),
            () if is_execution(self.access, self.flags) => Some(Purpose::Run),
            () => None,
        }
    }

    /// From before the file is opened, so that nothing is truncated that runs. What was open before is taken
    /// up again whatever others have begun meanwhile.
    fn begin_using(
        &self,
        node: &Node,
        found: &Found,
        proven: bool,
    ) -> Result<Option<Using>, Errno> {
        let Some(purpose) = self.purpose().filter(|_| found.kind() == Ok(FileKind::Regular)) else {
            return Ok(None);
        };
        if proven {
            return Ok(self.again(node, purpose));
        }
        self.tree.programs.begin(self.tree.number(node), purpose).map(Some)
    }

    fn again(&self, node: &Node, purpose: Purpose) -> Option<Using> {
        self.tree.programs.again(self.tree.number(node), purpose)
    }

    fn is_proven(&self, file: &FileId) -> bool {
        let Self { access, flags, .. } = *self;
        let admission =
            Admission { file, access, flags, uid: self.caller.uid, holder: self.tenant.holder };
        self.proof.is_some_and(|proof| admission.is_proven_by(proof, &self.tree.seal))
    }

    fn finish(
        &self,
        node: &Node,
        body: Body,
        using: Option<Using>,
        slot: FdSlot,
    ) -> Result<OpenFile, Errno> {
        let file = self.tree.file_id(node)?;
        if let Body::File(fd) | Body::Directory(fd, _) = &body {
            self.tree.opens.note(&file, fd);
        }
        Ok(OpenFile(Arc::new(Opened {
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            tree: Arc::clone(self.tree),
            tenant: Arc::clone(self.tenant),
            file,
            number: self.tree.number(node),
            access: self.access,
            flags: self.flags,
            opener: self.caller.clone(),
            position: Mutex::new(()),
            flocked: Mutex::new(None),
            body,
            _using: using,
            _slot: slot,
            _counted: m::SERVER_OPENS.hold(),
        })))
    }
}

// === impl OpenFile ===

impl OpenFile {
    /// The file's id.
    pub fn file(&self) -> &FileId {
        &self.0.file
    }

    /// The file's number.
    pub fn number(&self) -> InodeNo {
        self.0.number
    }

    /// What an open is answered with that finds the file open already.
    ///
    /// # Errors
    /// Those of looking at it.
    pub fn opened(&self) -> Result<op::Opened, Errno> {
        let entry = op::Entry { file: self.0.file.clone(), attr: self.attr()? };
        Ok(op::Opened { entry, proof: self.proof() })
    }

    /// What opens it again after a restart.
    pub(super) fn proof(&self) -> Option<OpenProof> {
        let Opened { file, access, flags, opener, tenant, tree, .. } = &*self.0;
        let (access, flags) = (*access, *flags);
        let admission = Admission { file, access, flags, uid: opener.uid, holder: tenant.holder };
        admission.prove(&tree.seal)
    }

    /// How long the file is; `None` of what has no length.
    pub fn length(&self) -> Option<u64> {
        self.attr().ok().filter(|attr| attr.kind == FileKind::Regular).map(|attr| attr.size)
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.0.access
    }

    /// The flags it was opened with.
    pub fn flags(&self) -> OpenFlags {
        self.0.flags
    }

    /// The descriptor, for the kernel's passthrough; `None` for the directory in place of a mount that
    /// is not entered.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0.body {
            Body::File(fd) | Body::Directory(fd, _) => Some(fd.as_fd()),
            Body::Barred(_) => None,
        }
    }

    /// The descriptor. What its kind and mode do not permit, the kernel refuses, with its own error.
    ///
    /// # Errors
    /// EISDIR where there is none, as of a directory.
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.as_fd().ok_or(Errno::IsDir)
    }
}

// === impl Opened ===

impl Drop for Opened {
    fn drop(&mut self) {
        self.tenant.release_through(self.serial);
        if let Body::File(fd) | Body::Directory(fd, _) = &self.body {
            self.tree.opens.forget(&self.file, fd);
        }
    }
}

// === impl Body ===

impl Body {
    fn of(found: &Found, fd: Arc<OwnedFd>) -> Result<Self, Errno> {
        Ok(match found.kind()? {
            FileKind::Directory => Self::Directory(fd, Arc::clone(&found.mount)),
            _ => Self::File(fd),
        })
    }
}

/// Opens a found file's data. Its kind is decided on the O_PATH descriptor, so nobody can put a FIFO in
/// its place in between.
fn open_found(
    caller: &Caller,
    found: &Found,
    access: Access,
    flags: OpenFlags,
    proven: bool,
) -> Result<OwnedFd, Errno> {
    let kind = found.kind()?;
    match kind {
        FileKind::Regular => {}
        FileKind::Directory if access.writes() || flags.contains(OpenFlags::TRUNCATE) => {
            return Err(Errno::IsDir);
        }
        FileKind::Directory => {}
        FileKind::Symlink => return Err(Errno::Loop),
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            return Err(Errno::NxIo);
        }
    }
    if proven {
        // What may not be done to the file at all is refused still: it is immutable, or runs as a program.
        let _as_before = Impersonation::begin(&proof::admitted(caller))?;
        return reopen(found.as_fd(), kernel_flags(access, flags));
    }
    if kind == FileKind::Regular && is_execution(access, flags) {
        // To execute, a program needs x and not r; here its text must be read. So x is checked for the
        // caller, and the file is opened with the server's own rights (as NFS servers do): for reading a
        // regular file, and with no flag that asks for more.
        {
            let _as_caller = Impersonation::begin(caller)?;
            sys::check_access(&found.fd, AccessMode::EXECUTE)?;
        }
        let harmless = flags & (OpenFlags::DIRECT | OpenFlags::NONBLOCK);
        return reopen(found.as_fd(), kernel_flags(Access::Read, harmless));
    }
    let _as_caller = Impersonation::begin(caller)?;
    reopen(found.as_fd(), kernel_flags(access, flags))
}

/// Whether it is opened as execve(2) does. Whoever asks for more shows the rights for it.
fn is_execution(access: Access, flags: OpenFlags) -> bool {
    access == Access::Read
        && flags.contains(OpenFlags::EXECUTE)
        && !flags.contains(OpenFlags::TRUNCATE)
}

/// The kernel's flags for opening data, without those for creation.
pub(super) fn kernel_flags(access: Access, flags: OpenFlags) -> OFlags {
    let mode = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    [
        (OpenFlags::APPEND, OFlags::APPEND),
        (OpenFlags::TRUNCATE, OFlags::TRUNC),
        (OpenFlags::DIRECT, OFlags::DIRECT),
        (OpenFlags::SYNC, OFlags::SYNC),
        (OpenFlags::DSYNC, OFlags::DSYNC),
        (OpenFlags::NOATIME, OFlags::NOATIME),
        (OpenFlags::NONBLOCK, OFlags::NONBLOCK),
    ]
    .into_iter()
    .filter(|(ours, _)| flags.contains(*ours))
    .fold(mode | OFlags::CLOEXEC | OFlags::NOCTTY, |set, (_, kernel)| set | kernel)
}
