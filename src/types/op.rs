//! The file operations as values: what a client asks and what a server answers.
//!
//! One type per operation, one enum over all ([`Operation`], [`Outcome`]), and [`Call`], which ties an
//! operation to the type of its answer. `wire` carries them, `client` sends them, `mfsd` and the direct
//! access of the mount execute them through `export`; so all sides speak of the same thing.
//!
//! Every operation says its concurrency class (what the server excludes while it runs) and whether it
//! may be repeated. One that may not is answered from the session's reply cache when it comes again.

use bytes::Bytes;

pub use super::lock::{HeldLock, LockFamily, LockHolder, LockKind, LockRange, TakenLock, Taking};
use super::{
    Access, AccessMode, Attr, DataVersion, FallocateMode, FileId, FileKind, FileName, InodeNo,
    LockOwner, OpenFlags, OpenId, OpenProof, RenameFlags, SeekWhence, SetAttr, SetXattrMode,
    StatFs, XattrName,
};

/// Most bytes of one read or write, a mebibyte and a page: large enough that the cost of a message does not
/// show (2.6 GB/s over one connection), small enough that small requests on the same link do not wait for
/// long. The page is for a write of a mebibyte that begins inside a page: only a kernel that may hand over
/// as much hands it over whole.
pub const MAX_IO: u32 = (1 << 20) + (4 << 10);

/// An operation whose success is an `Output`.
pub trait Call: Into<Operation> {
    /// What success brings.
    type Output: Send;

    /// Takes the answer out; `None` if it is the answer to something else (a malformed reply).
    fn answer(outcome: Outcome) -> Option<Self::Output>;
}

/// A name's file: its id and attributes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names the file to its home node.
    pub file: FileId,
    /// Its attributes.
    pub attr: Attr,
}

/// A file that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The file, at the moment when it was opened.
    pub entry: Entry,
    /// What opens it again after a restart of its server, whatever its permissions are then.
    pub proof: Option<OpenProof>,
}

/// One entry of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: FileName,
    /// Its kind, as the directory has it.
    pub kind: FileKind,
    /// Its number, where the entry's attributes could not be had.
    pub ino: InodeNo,
    /// Where to go on after this entry.
    pub cookie: u64,
    /// Id and attributes; `None` if not asked for, or the file vanished meanwhile.
    pub entry: Option<Entry>,
    /// A lease of attributes that goes with the listing does not concern this entry.
    pub unleased: bool,
}

/// A stretch of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// In the directory's own order; `.` and `..` are not listed.
    pub entries: Vec<DirEntry>,
    /// Nothing follows the last entry.
    pub end: bool,
}

/// Bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadData {
    /// Fewer than asked for only at the end of the file.
    pub data: Bytes,
    /// With a DATA_WRITE lease: what is stored under it is stored into this version, or a later one of the
    /// lease's holder.
    pub version: Option<DataVersion>,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes written.
    pub size: u32,
    /// Where they went: the offset asked for, or with `OpenFlags::APPEND` where the end was.
    pub offset: u64,
    /// The version that they made, where the file is known to have no data of others since the writer's lease.
    pub version: Option<DataVersion>,
    /// The file was not written, as others had changed it: the bytes are in this one, its conflict copy.
    pub apart: Option<Bytes>,
}

/// What a device node that is created stands for: (major, minor).
pub type DeviceNumber = (u32, u32);

/// Declares the operations: each becomes a struct, a variant of [`Operation`] and an impl of [`Call`].
macro_rules! operations {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident { $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)* } -> $variant:ident($output:ty);
    )+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name { $($(#[doc = $field_doc])+ pub $field: $type,)* }

            impl From<$name> for Operation {
                fn from(operation: $name) -> Self { Self::$name(operation) }
            }

            impl Call for $name {
                type Output = $output;

                fn answer(outcome: Outcome) -> Option<$output> {
                    match outcome { Outcome::$variant(output) => Some(output), _ => None }
                }
            }
        )+

        /// Any operation.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Operation { $($(#[doc = $doc])+ $name($name),)+ }

        impl Operation {
            /// The operation's name, for logs and metrics.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)+ }
            }

            /// The names of all operations, in the order of [`Self::index`].
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];
        }
    };
}

/// Any successful answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; there is nothing to say.
    Done(()),
    /// A file was found or made.
    Entry(Entry),
    /// A file was opened, or made and opened.
    Opened(Opened),
    /// Attributes.
    Attr(Attr),
    /// The target of a symbolic link.
    Target(Bytes),
    /// File data.
    Data(ReadData),
    /// A write's effect.
    Written(Written),
    /// A stretch of a directory.
    Listing(Listing),
    /// A file system's figures.
    StatFs(StatFs),
    /// The value of an extended attribute.
    Value(Bytes),
    /// The names of extended attributes.
    Names(Vec<XattrName>),
    /// An offset.
    Offset(u64),
    /// A count of bytes copied.
    Copied(u64),
    /// A lock in the way, or none.
    Lock(HeldLock),
}

operations! {
    /// Finds a name in a directory. Class: read on the directory. May be repeated.
    Lookup {
        /// The directory.
        parent: FileId,
        /// The name.
        name: FileName,
        /// Whether the home is to keep what it finds for a moment, even if it is removed meanwhile.
        keep: bool,
    } -> Entry(Entry);

    /// Attributes of a file. Class: none. May be repeated.
    GetAttr {
        /// The file.
        file: FileId,
        /// Through this open, if the file was unlinked meanwhile.
        open: Option<OpenId>,
    } -> Attr(Attr);

    /// Changes attributes. Class: write. May be repeated, but for times `Now`.
    SetAttributes {
        /// The file.
        file: FileId,
        /// Through this open (ftruncate needs only that it was opened for writing).
        open: Option<OpenId>,
        /// What to change.
        set: SetAttr,
    } -> Attr(Attr);

    /// Target of a symbolic link. Class: none. May be repeated.
    ReadLink {
        /// The link.
        file: FileId,
    } -> Target(Bytes);

    /// Makes a file that is not opened: regular, FIFO, socket or device node. Class: write on the
    /// directory. Not to be repeated.
    MakeNode {
        /// The directory.
        parent: FileId,
        /// The name.
        name: FileName,
        /// What to make; directories and links have operations of their own.
        kind: FileKind,
        /// Permission bits before the umask.
        mode: u16,
        /// For device nodes.
        device: DeviceNumber,
    } -> Entry(Entry);

    /// Makes a directory. Class: write on the directory. Not to be repeated.
    MakeDir {
        /// The directory.
        parent: FileId,
        /// The name.
        name: FileName,
        /// Permission bits before the umask.
        mode: u16,
    } -> Entry(Entry);

    /// Makes a symbolic link. Class: write on the directory. Not to be repeated.
    MakeSymlink {
        /// The directory.
        parent: FileId,
        /// The name.
        name: FileName,
        /// What the link says; 1 to 4095 bytes without NUL, otherwise free.
        target: Bytes,
    } -> Entry(Entry);

    /// Gives a file another name. Class: write on the directory and the file. Not to be repeated.
    Link {
        /// The file.
        file: FileId,
        /// The directory of the new name.
        parent: FileId,
        /// The new name.
        name: FileName,
    } -> Entry(Entry);

    /// Removes a name of something that is not a directory. Class: write on the directory. Not to be
    /// repeated.
    Unlink {
        /// The directory.
        parent: FileId,
        /// The name.
        name: FileName,
    } -> Done(());

    /// Removes an empty directory. Class: write on the directory. Not to be repeated.
    RemoveDir {
        /// The directory.
        parent: FileId,
        /// The name.
        name: FileName,
    } -> Done(());

    /// Renames as one step. Class: global among directories. Not to be repeated.
    Rename {
        /// The directory it is in.
        parent: FileId,
        /// Its name there.
        name: FileName,
        /// The directory it goes to.
        new_parent: FileId,
        /// Its name there.
        new_name: FileName,
        /// NOREPLACE, EXCHANGE, WHITEOUT.
        flags: RenameFlags,
    } -> Done(());

    /// Opens a file (not a FIFO, socket or device: those are local objects of each node) or a
    /// directory. Class: read; with TRUNCATE: write. May be repeated with the same `open`.
    Open {
        /// The file.
        file: FileId,
        /// The name the session gives it.
        open: OpenId,
        /// For reading, writing or both.
        access: Access,
        /// The rest of the flags.
        flags: OpenFlags,
        /// Shows that it was open before, in the same way and for the same caller: it is opened again
        /// whatever its permissions are now. One that shows something else is worth nothing.
        proof: Option<OpenProof>,
    } -> Opened(Opened);

    /// Makes (or finds, without EXCLUSIVE) a regular file and opens it, as one step. Class: write on
    /// the directory. Not to be repeated.
    Create {
        /// The directory.
        parent: FileId,
        /// The name.
        name: FileName,
        /// The name the session gives the open file.
        open: OpenId,
        /// Permission bits before the umask.
        mode: u16,
        /// For reading, writing or both.
        access: Access,
        /// The rest of the flags.
        flags: OpenFlags,
    } -> Opened(Opened);

    /// Reads. Class: none. May be repeated.
    Read {
        /// The open file.
        open: OpenId,
        /// First byte.
        offset: u64,
        /// Bytes wanted; the session's `max_io` at most.
        size: u32,
        /// The bytes stay in the page cache of the client's kernel, which wants a data lease on them.
        pages: bool,
    } -> Data(ReadData);

    /// Writes; an open with APPEND appends whatever the offset says. Class: none. May be repeated
    /// unless the open appends.
    Write {
        /// The open file.
        open: OpenId,
        /// First byte.
        offset: u64,
        /// The bytes; the session's `max_io` at most.
        data: Bytes,
        /// They were in the page cache of the client's kernel: stored through a mapping.
        pages: bool,
        /// They were stored under a DATA_WRITE lease, with this as the latest version that its holder knows.
        /// If others have changed the data since, they go into a conflict copy.
        known: Option<DataVersion>,
    } -> Written(Written);

    /// A descriptor of the open file was closed: reports errors of writes, releases the owner's range
    /// locks. Class: none. May be repeated.
    Flush {
        /// The open file.
        open: OpenId,
        /// Whose range locks end (close(2) releases all that the process holds on the file).
        owner: Option<LockOwner>,
    } -> Done(());

    /// The last descriptor was closed. Class: none. May be repeated.
    Release {
        /// The open file.
        open: OpenId,
    } -> Done(());

    /// What was written reaches the disk. Class: none. May be repeated.
    Sync {
        /// The open file or directory.
        open: OpenId,
        /// fdatasync(2).
        data_only: bool,
    } -> Done(());

    /// Lists a directory from a cookie on. Class: read. May be repeated.
    ReadDir {
        /// The open directory.
        open: OpenId,
        /// 0, or the cookie of the entry after which to go on.
        cookie: u64,
        /// Most entries wanted; 1 to [`ReadDir::MAX_ENTRIES`].
        limit: u32,
        /// Whether to look up each entry.
        attributes: bool,
    } -> Listing(Listing);

    /// Figures of the file system that holds the file. Class: none. May be repeated.
    StatFsOf {
        /// The file.
        file: FileId,
    } -> StatFs(StatFs);

    /// Whether the caller may; with the caller's own identity. Class: none. May be repeated.
    CheckAccess {
        /// The file.
        file: FileId,
        /// What for.
        mode: AccessMode,
    } -> Done(());

    /// Value of an extended attribute. Class: none. May be repeated.
    GetXattr {
        /// The file.
        file: FileId,
        /// The attribute.
        name: XattrName,
    } -> Value(Bytes);

    /// Sets an extended attribute. Class: write. Not to be repeated.
    SetXattr {
        /// The file.
        file: FileId,
        /// The attribute.
        name: XattrName,
        /// Its value; 64 KiB at most (XATTR_SIZE_MAX).
        value: Bytes,
        /// Whether it must exist.
        mode: SetXattrMode,
    } -> Done(());

    /// Names of the extended attributes. Class: none. May be repeated.
    ListXattr {
        /// The file.
        file: FileId,
    } -> Names(Vec<XattrName>);

    /// Removes an extended attribute. Class: write. Not to be repeated.
    RemoveXattr {
        /// The file.
        file: FileId,
        /// The attribute.
        name: XattrName,
    } -> Done(());

    /// Allocates or frees space. Class: write. Not to be repeated (collapse and insert move data).
    Fallocate {
        /// The open file.
        open: OpenId,
        /// What to do.
        mode: FallocateMode,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    } -> Done(());

    /// Finds data or a hole. Class: none. May be repeated.
    Seek {
        /// The open file.
        open: OpenId,
        /// Where to begin.
        offset: u64,
        /// What to look for.
        whence: SeekWhence,
    } -> Offset(u64);

    /// Copies within one node; no bytes cross the wire. Class: none. May be repeated.
    CopyRange {
        /// Where from.
        source: OpenId,
        /// First byte there.
        source_offset: u64,
        /// Where to.
        target: OpenId,
        /// First byte there.
        target_offset: u64,
        /// Bytes; the server may copy fewer.
        length: u64,
    } -> Copied(u64);

    /// Which lock would stand in the way. Class: none. May be repeated.
    GetLock {
        /// The open file.
        open: OpenId,
        /// Who asks.
        owner: LockOwner,
        /// What is wanted.
        kind: LockKind,
        /// Where.
        range: LockRange,
    } -> Lock(HeldLock);

    /// Takes, changes or releases a lock on the real file. Without `wait` EAGAIN if it is held. With it,
    /// the server answers when it is granted, or EAGAIN when the request's time is over: the client asks
    /// again while its caller wants it. Class: none. May be repeated.
    SetLock {
        /// The open file.
        open: OpenId,
        /// Who asks.
        owner: LockOwner,
        /// fcntl or flock.
        family: LockFamily,
        /// What is wanted.
        kind: LockKind,
        /// Where; flock ignores it.
        range: LockRange,
        /// Wait until it is free.
        wait: bool,
        /// Who takes it, and how.
        taking: Taking,
    } -> Done(());
}

// === impl Operation ===

impl Operation {
    /// Position of the operation in [`Self::NAMES`]; for counters.
    pub fn index(&self) -> usize {
        Self::NAMES.iter().position(|name| *name == self.name()).unwrap_or_default()
    }

    /// Whether a second execution could do harm or give another answer, so that the server must
    /// remember the reply (the session's reply cache).
    pub const fn is_once_only(&self) -> bool {
        match self {
            Self::MakeNode(_)
            | Self::MakeDir(_)
            | Self::MakeSymlink(_)
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::RemoveDir(_)
            | Self::Rename(_)
            | Self::Create(_)
            | Self::SetAttributes(_)
            | Self::Write(_)
            | Self::SetXattr(_)
            | Self::RemoveXattr(_)
            | Self::Fallocate(_)
            | Self::CopyRange(_)
            | Self::SetLock(_) => true,
            Self::Lookup(_)
            | Self::GetAttr(_)
            | Self::ReadLink(_)
            | Self::Open(_)
            | Self::Read(_)
            | Self::Flush(_)
            | Self::Release(_)
            | Self::Sync(_)
            | Self::ReadDir(_)
            | Self::StatFsOf(_)
            | Self::CheckAccess(_)
            | Self::GetXattr(_)
            | Self::ListXattr(_)
            | Self::Seek(_)
            | Self::GetLock(_) => false,
        }
    }

    /// Whether it carries file data, and so goes over a connection where no small request waits for it.
    pub const fn is_bulk(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Write(_) | Self::CopyRange(_))
    }
}

impl ReadDir {
    /// Most entries of one listing.
    pub const MAX_ENTRIES: u32 = 4_096;
}
