//! `Evidence`: what is noted before an operation is executed, so that later it can be seen whether it was.
//!
//! The one table of which operations leave a trace by which they are known. What other processes do between
//! the kill and the look can be mistaken for the operation itself; so the look is taken before anybody is
//! served again.

use std::collections::HashSet;

use bytes::Bytes;
use mfs::types::op::{Entry, Opened, Operation, Outcome, Written};
use mfs::types::{
    Caller, Errno, FallocateMode, FileId, FileKind, FileName, OpenFlags, RenameFlags, SetTime,
    SetXattrMode,
};
use serde::{Deserialize, Serialize};

use super::super::tree::{Opens, Tree};
use super::sample::{Match, Sample};

/// What tells later whether an operation was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Evidence {
    /// Nothing does.
    Silent,
    /// That it is done once more does no harm.
    Harmless,
    /// A name that was to be removed.
    Removed { place: Place, was: Option<u64> },
    /// A file that was to have another name.
    Moved { from: Place, moved: Option<u64>, to: Place, replaced: Option<u64>, exchange: bool },
    /// A name under which something was to be made.
    Made { place: Place, was: Option<u64>, what: Making, owner: u32 },
    /// A name that a file was to get, too.
    Linked { place: Place, was: Option<u64>, number: u64 },
    /// A file to whose end something was to be written.
    Appended {
        #[serde(with = "as_bytes")]
        file: FileId,
        size: u64,
        data: Sample,
    },
    /// A file that was to have another size, and nothing else.
    Resized {
        #[serde(with = "as_bytes")]
        file: FileId,
        was: u64,
        wanted: u64,
    },
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Place {
    #[serde(with = "as_bytes")]
    parent: FileId,
    #[serde(with = "as_bytes")]
    name: FileName,
}

/// What was to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Making {
    Directory,
    /// A regular file, which was to be opened, too.
    Opened,
    Regular,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    /// A link that says this.
    Symlink(Vec<u8>),
}

/// What the look brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was executed, with this outcome.
    Done(Outcome),
    /// It was not executed; or it was, and changed nothing.
    NotDone,
    Unknown,
}

/// The bytes that may be looked through for one write: its own, and those that others have appended.
const MOST_APPENDED: u64 = 8 << 20;

// === impl Evidence ===

impl Evidence {
    /// What to note of an operation; `None` if it may be executed again anyway.
    pub(in super::super) fn of<T: Tree>(
        tree: &T,
        caller: &Caller,
        operation: &Operation,
        opens: &dyn Opens<T>,
    ) -> Option<Self> {
        let number = |parent: &FileId, name: &FileName| {
            tree.number_of_name(parent, name).map(mfs::types::InodeNo::get)
        };
        let made = |parent: &FileId, name: &FileName, what| Self::Made {
            place: Place::new(parent, name),
            was: number(parent, name),
            what,
            owner: caller.uid,
        };
        Some(match operation {
            Operation::MakeNode(op) => match Making::of(op.kind) {
                Some(what) => made(&op.parent, &op.name, what),
                None => Self::Silent,
            },
            Operation::MakeDir(op) => made(&op.parent, &op.name, Making::Directory),
            Operation::MakeSymlink(op) => {
                made(&op.parent, &op.name, Making::Symlink(op.target.to_vec()))
            }
            Operation::Create(op) => made(&op.parent, &op.name, Making::Opened),
            Operation::Link(op) => Self::Linked {
                place: Place::new(&op.parent, &op.name),
                was: number(&op.parent, &op.name),
                number: tree.number_of(&op.file)?.get(),
            },
            Operation::Unlink(op) => Self::Removed {
                place: Place::new(&op.parent, &op.name),
                was: number(&op.parent, &op.name),
            },
            Operation::RemoveDir(op) => Self::Removed {
                place: Place::new(&op.parent, &op.name),
                was: number(&op.parent, &op.name),
            },
            Operation::Rename(op) => Self::Moved {
                from: Place::new(&op.parent, &op.name),
                moved: number(&op.parent, &op.name),
                to: Place::new(&op.new_parent, &op.new_name),
                replaced: number(&op.new_parent, &op.new_name),
                exchange: op.flags.contains(RenameFlags::EXCHANGE),
            },
            Operation::Write(op) => {
                let open = opens.find(op.open).filter(T::appends)?;
                let Ok(size) = T::size_of(&open) else { return Some(Self::Silent) };
                Self::appended(T::file_of(&open).0.clone(), size, &op.data)
            }
            Operation::CopyRange(op) => {
                opens.find(op.target).filter(T::appends)?;
                Self::Silent
            }
            Operation::SetAttributes(op) => {
                let now = [op.set.atime, op.set.mtime].contains(&Some(SetTime::Now));
                let Some(wanted) = op.set.size else { return now.then_some(Self::Harmless) };
                let alone = op.set.mode.is_none() && op.set.uid.is_none() && op.set.gid.is_none();
                let file = match op.open {
                    Some(open) => T::file_of(&opens.find(open)?).0.clone(),
                    None => op.file.clone(),
                };
                match tree.attr_of(&file) {
                    Ok(attr) if alone => Self::Resized { file, was: attr.size, wanted },
                    _ => Self::Silent,
                }
            }
            Operation::SetXattr(op) if op.mode == SetXattrMode::Any => return None,
            Operation::Fallocate(op) if FallocateMode::KEEP_SIZE.contains(op.mode) => return None,
            Operation::SetXattr(_) | Operation::RemoveXattr(_) | Operation::Fallocate(_) => {
                Self::Silent
            }
            _ => return None,
        })
    }

    pub(super) fn appended(file: FileId, size: u64, data: &[u8]) -> Self {
        Self::Appended { file, size, data: Sample::of(data) }
    }

    /// Looks whether it was executed. A file that one request has made no other one can have made: `made`
    /// are those that are known.
    pub(super) fn judge<T: Tree>(&self, tree: &T, made: &mut HashSet<FileId>) -> Verdict {
        self.look(tree, made).unwrap_or(Verdict::Unknown)
    }

    fn look<T: Tree>(&self, tree: &T, made: &mut HashSet<FileId>) -> Result<Verdict, Errno> {
        let find = |place: &Place| tree.entry_of_name(&place.parent, &place.name);
        let number = |entry: Option<&Entry>| entry.map(|entry| entry.attr.ino.get());
        Ok(match self {
            Self::Silent => Verdict::Unknown,
            Self::Harmless => Verdict::NotDone,
            Self::Removed { place, was } => {
                let is = number(find(place)?.as_ref());
                if is == *was || was.is_none() {
                    Verdict::NotDone
                } else {
                    Verdict::Done(Outcome::Done(()))
                }
            }
            Self::Moved { from, moved, to, replaced, exchange } => {
                let (source, target) = (find(from)?, find(to)?);
                let (source, target) = (number(source.as_ref()), number(target.as_ref()));
                let arrived = target == *moved
                    && if *exchange { source == *replaced } else { source != *moved };
                match moved {
                    // Two names of one file: then rename(2) does nothing.
                    Some(_) if moved == replaced => Verdict::NotDone,
                    Some(_) if arrived => Verdict::Done(Outcome::Done(())),
                    Some(_) if source == *moved => Verdict::NotDone,
                    None => Verdict::NotDone,
                    Some(_) => Verdict::Unknown,
                }
            }
            Self::Made { place, was, what, owner } => {
                let Some(entry) = find(place)? else { return Ok(Verdict::NotDone) };
                if number(Some(&entry)) == *was || made.contains(&entry.file) {
                    return Ok(Verdict::NotDone);
                }
                let fits = entry.attr.kind == what.kind()
                    && entry.attr.uid == *owner
                    && match what {
                        Making::Symlink(target) => tree.target_of(&entry.file)?[..] == target[..],
                        _ => true,
                    };
                if was.is_some() || !fits {
                    return Ok(Verdict::Unknown);
                }
                made.insert(entry.file.clone());
                Verdict::Done(match what {
                    Making::Opened => Outcome::Opened(Opened { entry, proof: None }),
                    _ => Outcome::Entry(entry),
                })
            }
            Self::Linked { place, was, number: wanted } => match find(place)? {
                Some(entry) if was.is_none() && entry.attr.ino.get() == *wanted => {
                    Verdict::Done(Outcome::Entry(entry))
                }
                Some(entry) if was.is_none() || number(Some(&entry)) != *was => Verdict::Unknown,
                Some(_) | None => Verdict::NotDone,
            },
            Self::Appended { file, size, data } => {
                let end = tree.attr_of(file)?.size;
                match end.checked_sub(*size) {
                    Some(0) => return Ok(Verdict::NotDone),
                    Some(1..=MOST_APPENDED) => {}
                    Some(_) | None => return Ok(Verdict::Unknown),
                }
                let appended = tree.bytes_of(file, *size, (end - size) as usize)?;
                match data.find(&appended) {
                    Match::Whole(at) => {
                        let written = Written {
                            size: data.length(),
                            offset: size + at as u64,
                            ..Written::default()
                        };
                        Verdict::Done(Outcome::Written(written))
                    }
                    // The kill has cut the system call short. As it stands in nobody's answer, it goes.
                    Match::Begun(0) => {
                        tree.cut_off(file, *size)?;
                        Verdict::NotDone
                    }
                    Match::Begun(_) => Verdict::Unknown,
                    Match::Nowhere => Verdict::NotDone,
                }
            }
            Self::Resized { file, was, wanted } => match tree.attr_of(file)? {
                attr if was == wanted || attr.size == *was => Verdict::NotDone,
                attr if attr.size == *wanted => Verdict::Done(Outcome::Attr(attr)),
                _ => Verdict::Unknown,
            },
        })
    }
}

// === impl Place ===

impl Place {
    fn new(parent: &FileId, name: &FileName) -> Self {
        Self { parent: parent.clone(), name: name.clone() }
    }
}

// === impl Making ===

impl Making {
    const fn of(kind: FileKind) -> Option<Self> {
        Some(match kind {
            FileKind::Regular => Self::Regular,
            FileKind::Fifo => Self::Fifo,
            FileKind::Socket => Self::Socket,
            FileKind::CharDevice => Self::CharDevice,
            FileKind::BlockDevice => Self::BlockDevice,
            FileKind::Directory | FileKind::Symlink => return None,
        })
    }

    const fn kind(&self) -> FileKind {
        match self {
            Self::Directory => FileKind::Directory,
            Self::Opened | Self::Regular => FileKind::Regular,
            Self::Fifo => FileKind::Fifo,
            Self::Socket => FileKind::Socket,
            Self::CharDevice => FileKind::CharDevice,
            Self::BlockDevice => FileKind::BlockDevice,
            Self::Symlink(_) => FileKind::Symlink,
        }
    }
}

/// Whether an operation that may have been executed may be executed again all the same: it finds what its
/// first execution has made.
pub(in super::super) fn finds_its_own(operation: &Operation) -> bool {
    matches!(operation, Operation::Create(op) if !op.flags.contains(OpenFlags::EXCLUSIVE))
}

/// What is a string of bytes, as one.
mod as_bytes {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Bytes, FileId, FileName};

    pub(super) trait Opaque: Sized {
        fn bytes(&self) -> &[u8];

        fn of(bytes: Bytes) -> Option<Self>;
    }

    impl Opaque for FileId {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }

        fn of(bytes: Bytes) -> Option<Self> {
            Self::from_bytes(bytes)
        }
    }

    impl Opaque for FileName {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }

        fn of(bytes: Bytes) -> Option<Self> {
            Self::parse(bytes).ok()
        }
    }

    pub(super) fn serialize<O: Opaque, S: Serializer>(
        value: &O,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(value.bytes())
    }

    pub(super) fn deserialize<'de, O: Opaque, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<O, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        O::of(Bytes::copy_from_slice(bytes)).ok_or_else(|| D::Error::custom("not of this kind"))
    }
}
