//! What each operation changes, and what its answer may be remembered of: the one table of it.
//!
//! Not here: whose leases are in the way (`mfs::lease`), and what a client makes of an answer.

use mfs::types::op::{Entry, Operation, Outcome};
use mfs::types::{
    Access, Errno, FileId, FileKind, FileName, Leases, OpenFlags, OpenId, RenameFlags, XattrName,
};
use mfs::wire::Failure;
use smallvec::{SmallVec, smallvec};

use super::run::Answer;

/// A file as an operation names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// By its id.
    File(&'a FileId),
    /// By an open of the session.
    Open(OpenId),
}

/// A file that only its name tells: it is to be found out when nobody changes the directory any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Victim<'a> {
    pub(super) parent: &'a FileId,
    pub(super) name: &'a FileName,
    pub(super) leases: Leases,
}

/// What an operation changes and tells.
#[derive(Debug, Default)]
pub(super) struct Effects<'a> {
    /// What it changes.
    pub(super) changes: SmallVec<[(Subject<'a>, Leases); 3]>,
    /// What else it changes.
    pub(super) victims: SmallVec<[Victim<'a>; 2]>,
    /// The directories whose names the answer tells.
    pub(super) directories: SmallVec<[Subject<'a>; 2]>,
    /// The file whose attributes (or those of what it lists) the answer tells.
    pub(super) attributes: Option<Told<'a>>,
    /// The error that tells something, too: that a name is not there.
    pub(super) telling_error: Option<Errno>,
    /// The open that it makes, if that is for reading and nothing else: the like of it the client may do itself.
    pub(super) opens_to_read: Option<OpenId>,
    /// The open file whose data it reads, and whether to keep it.
    pub(super) looks: Option<(OpenId, Keeping)>,
    /// The open through which data may be written past this daemon from now on, until it is released.
    pub(super) writes_past: Option<OpenId>,
    /// The file that it may make longer.
    pub(super) lengthens: Option<Subject<'a>>,
    /// The file that it cuts off. That nobody may have opened unasked, nor its session: the kernel lets it
    /// wait, and with it the thread that it is done on, until all have returned that.
    pub(super) cuts_off: Option<&'a FileId>,
}

/// What becomes of data that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// It is given to the program that asked.
    Once,
    /// It stays in the page cache of the client's kernel.
    Pages,
}

/// Whose attributes an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// Of the file that the request names.
    Of(Subject<'a>),
    /// Of the file that the answer names.
    Answered,
    /// Of all entries that have attributes.
    Listed,
}

const NAMES: Leases = Leases::DIRECTORY;
const ATTRIBUTES: Leases = Leases::ATTRIBUTES;
/// What is written changes the size and times, too, and who reads it unasked must not go on.
const CONTENTS: Leases = Leases::ATTRIBUTES.union(Leases::DATA).union(Leases::HANDLE);
/// Who has opened the file without a message tells its home before it may be opened no more.
const PERMISSIONS: Leases = Leases::ATTRIBUTES.union(Leases::HANDLE);
/// Who reads it unasked, or from what its kernel keeps, must not go on.
const WRITING: Leases = Leases::HANDLE.union(Leases::DATA_READ);
/// A name made or removed also changes the directory's size and times.
const BOTH: Leases = Leases::DIRECTORY.union(Leases::ATTRIBUTES);

/// Flags that change nothing where nothing is written.
pub(super) const HARMLESS: OpenFlags =
    OpenFlags::NONBLOCK.union(OpenFlags::SYNC).union(OpenFlags::DSYNC);

// === impl Effects ===

impl<'a> Effects<'a> {
    /// Those of an operation that a mount of this node (`local`) or another asks for.
    pub(super) fn of(operation: &'a Operation, local: bool) -> Self {
        match operation {
            Operation::Lookup(op) => Self {
                attributes: Some(Told::Answered),
                telling_error: Some(Errno::NoEnt),
                ..Self::telling(&[&op.parent])
            },
            Operation::GetAttr(op) => Self::of_file(subject(&op.file, op.open)),
            Operation::SetAttributes(op) => {
                let file = subject(&op.file, op.open);
                let admits = op.set.mode.is_some() || op.set.uid.is_some() || op.set.gid.is_some();
                let changed = match () {
                    () if op.set.size.is_some() => CONTENTS,
                    () if admits => PERMISSIONS,
                    () => ATTRIBUTES,
                };
                let lengthens = op.set.size.map(|_| file);
                // What is open for writing nobody has opened so.
                let cuts_off = op.set.size.filter(|_| op.open.is_none()).map(|_| &op.file);
                let changes = smallvec![(file, changed)];
                Self { changes, lengthens, cuts_off, ..Self::of_file(file) }
            }
            Operation::ReadLink(op) => Self::of_file(Subject::File(&op.file)),
            Operation::MakeNode(op) => Self::making(&op.parent),
            Operation::MakeDir(op) => Self::making(&op.parent),
            Operation::MakeSymlink(op) => Self::making(&op.parent),
            Operation::Link(op) => {
                let mut effects = Self::making(&op.parent);
                effects.changes.push((Subject::File(&op.file), ATTRIBUTES));
                effects
            }
            // As long as it is open it is there, if its home knows that it is.
            Operation::Unlink(op) => Self::removing(&op.parent, &op.name, PERMISSIONS),
            Operation::RemoveDir(op) => Self::removing(&op.parent, &op.name, BOTH),
            Operation::Rename(op) => {
                let exchanges = op.flags.contains(RenameFlags::EXCHANGE);
                let replaced = if exchanges { ATTRIBUTES } else { BOTH | Leases::HANDLE };
                let moved = Victim { parent: &op.parent, name: &op.name, leases: ATTRIBUTES };
                let replaced =
                    Victim { parent: &op.new_parent, name: &op.new_name, leases: replaced };
                let parents: &[_] = match op.parent == op.new_parent {
                    true => &[&op.parent],
                    false => &[&op.parent, &op.new_parent],
                };
                Self { victims: smallvec![moved, replaced], ..Self::changing(parents) }
            }
            Operation::Open(op) => {
                let past = writes_past(local, op.access);
                let mut effects = Self::of_file(Subject::File(&op.file));
                if past || op.flags.contains(OpenFlags::TRUNCATE) {
                    effects.changes.push((Subject::File(&op.file), CONTENTS));
                }
                effects.cuts_off = op.flags.contains(OpenFlags::TRUNCATE).then_some(&op.file);
                let plain = op.access == Access::Read && HARMLESS.contains(op.flags);
                effects.opens_to_read = plain.then_some(op.open);
                effects.writing_past(past.then_some(op.open))
            }
            Operation::Create(op) => {
                let past = writes_past(local, op.access);
                let mut effects = Self::making(&op.parent);
                let (parent, name) = (&op.parent, &op.name);
                if past || op.flags.contains(OpenFlags::TRUNCATE) {
                    effects.victims.push(Victim { parent, name, leases: CONTENTS });
                } else if op.access.writes() && !op.flags.contains(OpenFlags::EXCLUSIVE) {
                    effects.victims.push(Victim { parent, name, leases: WRITING });
                }
                effects.writing_past(past.then_some(op.open))
            }
            Operation::Write(op) => Self::of_data(op.open),
            Operation::Fallocate(op) => Self::of_data(op.open),
            Operation::CopyRange(op) => {
                Self { looks: Some((op.source, Keeping::Once)), ..Self::of_data(op.target) }
            }
            Operation::GetXattr(op) => Self {
                telling_error: Some(Errno::NoData),
                ..Self::of_file(Subject::File(&op.file))
            },
            Operation::SetXattr(op) => Self::of_xattr(&op.file, &op.name),
            Operation::ListXattr(op) => Self::of_file(Subject::File(&op.file)),
            Operation::RemoveXattr(op) => Self::of_xattr(&op.file, &op.name),
            Operation::ReadDir(op) => Self {
                directories: smallvec![Subject::Open(op.open)],
                attributes: op.attributes.then_some(Told::Listed),
                ..Self::default()
            },
            // The time of the last access is not kept coherent: a read would be a change.
            Operation::Read(op) => {
                let keeping = if op.pages { Keeping::Pages } else { Keeping::Once };
                Self { looks: Some((op.open, keeping)), ..Self::default() }
            }
            Operation::Seek(op) => {
                Self { looks: Some((op.open, Keeping::Once)), ..Self::default() }
            }
            Operation::Flush(_)
            | Operation::Release(_)
            | Operation::Sync(_)
            | Operation::StatFsOf(_)
            | Operation::CheckAccess(_)
            | Operation::GetLock(_)
            | Operation::SetLock(_) => Self::default(),
        }
    }

    /// Whether the answer tells something that may be remembered.
    pub(super) fn tells(&self, answer: &Answer) -> bool {
        match answer {
            Ok(_) => true,
            Err(Failure::File(errno)) => Some(*errno) == self.telling_error,
            Err(Failure::Protocol(_)) => false,
        }
    }

    /// The files that the request names and the answer tells of, with their kinds as far as they are known.
    pub(super) fn told(&self) -> impl Iterator<Item = (Subject<'a>, Option<FileKind>)> {
        let attributes = match self.attributes {
            Some(Told::Of(subject)) => Some(subject),
            Some(Told::Answered | Told::Listed) | None => None,
        };
        let directories = self.directories.iter().map(|file| (*file, Some(FileKind::Directory)));
        directories.chain(attributes.map(|file| (file, None)))
    }

    /// The files whose attributes the answer tells and that only it names.
    pub(super) fn found<'o>(&self, outcome: &'o mut Outcome) -> Vec<&'o mut Entry> {
        match (self.attributes, outcome) {
            (Some(Told::Answered), Outcome::Entry(entry)) => vec![entry],
            (Some(Told::Answered), Outcome::Opened(opened)) => vec![&mut opened.entry],
            (Some(Told::Listed), Outcome::Listing(listing)) => {
                listing.entries.iter_mut().filter_map(|entry| entry.entry.as_mut()).collect()
            }
            _ => vec![],
        }
    }

    /// Attributes that change unseen from now on are told for this moment alone.
    fn writing_past(self, open: Option<OpenId>) -> Self {
        let attributes = self.attributes.filter(|_| open.is_none());
        Self { writes_past: open, attributes, ..self }
    }

    fn telling(directories: &[&'a FileId]) -> Self {
        let directories = directories.iter().copied().map(Subject::File).collect();
        Self { directories, ..Self::default() }
    }

    fn of_file(file: Subject<'a>) -> Self {
        Self { attributes: Some(Told::Of(file)), ..Self::default() }
    }

    fn of_xattr(file: &'a FileId, name: &XattrName) -> Self {
        let admits = name.as_bytes().starts_with(b"system.posix_acl");
        let changed = if admits { PERMISSIONS } else { ATTRIBUTES };
        Self { changes: smallvec![(Subject::File(file), changed)], ..Self::default() }
    }

    fn of_data(open: OpenId) -> Self {
        let file = Subject::Open(open);
        Self { changes: smallvec![(file, CONTENTS)], lengthens: Some(file), ..Self::default() }
    }

    fn changing(directories: &[&'a FileId]) -> Self {
        let changes = directories.iter().copied().map(|file| (Subject::File(file), BOTH)).collect();
        Self { changes, ..Self::telling(directories) }
    }

    fn making(parent: &'a FileId) -> Self {
        Self { attributes: Some(Told::Answered), ..Self::changing(&[parent]) }
    }

    fn removing(parent: &'a FileId, name: &'a FileName, leases: Leases) -> Self {
        let victims = smallvec![Victim { parent, name, leases }];
        Self { victims, ..Self::changing(&[parent]) }
    }
}

/// The bits that a lease of names and one of attributes have in a reply.
pub(super) const fn bits(names: bool, attributes: bool) -> Leases {
    match (names, attributes) {
        (true, true) => BOTH,
        (true, false) => NAMES,
        (false, true) => ATTRIBUTES,
        (false, false) => Leases::empty(),
    }
}

/// A mount of this node may write the data of what it opens itself, without a message (passthrough).
fn writes_past(local: bool, access: Access) -> bool {
    local && access.writes()
}

/// What changes through an open changes the file that is open, whatever id came with it.
fn subject(file: &FileId, open: Option<OpenId>) -> Subject<'_> {
    open.map_or(Subject::File(file), Subject::Open)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mfs::types::op::{Create, GetAttr, Open, Rename, Unlink, Write};

    use super::*;

    fn file(name: &'static [u8]) -> FileId {
        FileId::from_bytes(Bytes::from_static(name)).expect("an id")
    }

    fn name(name: &str) -> FileName {
        FileName::parse(name.as_bytes().to_vec()).expect("a name")
    }

    #[test]
    fn a_rename_changes_both_directories_the_moved_and_the_replaced() {
        let rename = |flags| {
            Operation::from(Rename {
                parent: file(b"a"),
                name: name("x"),
                new_parent: file(b"b"),
                new_name: name("y"),
                flags,
            })
        };
        let operation = rename(RenameFlags::empty());
        let effects = Effects::of(&operation, false);
        let (a, b) = (file(b"a"), file(b"b"));
        let parents = [(Subject::File(&a), BOTH), (Subject::File(&b), BOTH)];
        assert_eq!(effects.changes[..], parents);
        let leases: Vec<_> = effects.victims.iter().map(|victim| victim.leases).collect();
        let replaced = BOTH | Leases::HANDLE;
        assert_eq!(
            leases,
            [ATTRIBUTES, replaced],
            "an empty directory may be replaced, or an open file"
        );
        let operation = rename(RenameFlags::EXCHANGE);
        let effects = Effects::of(&operation, false);
        let leases: Vec<_> = effects.victims.iter().map(|victim| victim.leases).collect();
        assert_eq!(leases, [ATTRIBUTES, ATTRIBUTES]);
    }

    #[test]
    fn an_open_changes_if_it_truncates_or_lets_data_be_written_unseen() {
        let open = |access, flags| {
            Operation::from(Open {
                file: file(b"a"),
                open: OpenId::FIRST,
                access,
                flags,
                proof: None,
            })
        };
        let truncating = OpenFlags::TRUNCATE;
        for (operation, local, changes, past) in [
            (open(Access::ReadWrite, OpenFlags::empty()), false, 0, false),
            (open(Access::ReadWrite, truncating), false, 1, false),
            (open(Access::Read, OpenFlags::empty()), true, 0, false),
            (open(Access::Write, OpenFlags::empty()), true, 1, true),
        ] {
            let effects = Effects::of(&operation, local);
            assert_eq!(effects.changes.len(), changes);
            assert_eq!(effects.writes_past.is_some(), past);
        }
    }

    #[test]
    fn only_what_may_exist_already_is_looked_for_by_name() {
        let create = |flags| {
            Operation::from(Create {
                parent: file(b"a"),
                name: name("x"),
                open: OpenId::FIRST,
                mode: 0,
                access: Access::Write,
                flags,
            })
        };
        let found = |flags, local| {
            let operation = create(flags);
            let effects = Effects::of(&operation, local);
            effects.victims.iter().map(|victim| victim.leases).collect::<Vec<_>>()
        };
        assert_eq!(found(OpenFlags::EXCLUSIVE, false), []);
        assert_eq!(found(OpenFlags::empty(), false), [WRITING]);
        assert_eq!(found(OpenFlags::TRUNCATE, false), [CONTENTS]);
        assert_eq!(found(OpenFlags::empty(), true), [CONTENTS]);
        let unlink = Operation::from(Unlink { parent: file(b"a"), name: name("x") });
        assert_eq!(Effects::of(&unlink, false).victims[0].leases, PERMISSIONS);
    }

    #[test]
    fn what_is_done_through_an_open_concerns_the_open_file() {
        let get = Operation::from(GetAttr { file: file(b"a"), open: Some(OpenId::FIRST) });
        let told = Effects::of(&get, false).attributes;
        assert_eq!(told, Some(Told::Of(Subject::Open(OpenId::FIRST))));
        let write =
            Write { open: OpenId::FIRST, offset: 0, data: Bytes::new(), pages: false, known: None };
        let write = Operation::from(write);
        let changes = Effects::of(&write, false).changes;
        assert_eq!(changes[..], [(Subject::Open(OpenId::FIRST), CONTENTS)]);
    }
}
