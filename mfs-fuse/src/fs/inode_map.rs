//! The kernel's inode numbers and what they stand for, with lookup counts.
//!
//! A number lives while the kernel's lookup count of it is above 0. Numbers of files come from their home
//! node and are the same on every node; a number that is taken by another living subject goes to the next
//! free one, so that two files never share one.
//!
//! Lock order: `InodeMap::inner` is a leaf; nothing is called while it is held.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mfs::sync::Mutex;
use mfs::telemetry::instruments::Held;
use mfs::telemetry::metrics::MOUNT_INODES;
use mfs::types::{Attr, FileId, FileKind, FileName, InodeNo, NodeId};

/// What an inode number of this mount stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The top of the mount.
    Top,
    /// The synthetic directory `magic`.
    Magic,
    /// A symbolic link of the top: number or per-process entry; one inode for each (name, target), since
    /// the kernel may cache a link's target by inode.
    Link {
        /// Its name at the top.
        name: String,
        /// Where it points.
        target: String,
    },
    /// The root of a node's tree, `/mfs/<name>`.
    NodeRoot(NodeId),
    /// A file of a node.
    File {
        /// Its home.
        node: NodeId,
        /// Its id there.
        file: FileId,
        /// Its number there; here it may have another one.
        home: InodeNo,
    },
}

/// The table. Any number of threads may use it.
#[derive(Debug)]
pub struct InodeMap {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_number: HashMap<InodeNo, Known>,
    by_subject: HashMap<Subject, InodeNo>,
    /// Where the kernel has directories.
    by_place: HashMap<(InodeNo, FileName), InodeNo>,
}

#[derive(Debug)]
struct Known {
    subject: Subject,
    /// How often the kernel was told of it and has not yet forgotten.
    lookups: u64,
    /// Of a directory: its attributes when they were last seen.
    directory: Option<Box<Attr>>,
    /// Of a directory: where the kernel has it.
    place: Option<(InodeNo, FileName)>,
    _counted: Held,
}

// === impl Subject ===

impl Subject {
    /// The number a synthetic subject would like: a hash, so that it is the same after every restart and,
    /// for node roots, on every node. Files bring their own number.
    pub fn number(&self) -> InodeNo {
        match self {
            Self::Top => InodeNo::ROOT,
            Self::Magic => hashed(&[b"magic"]),
            Self::Link { name, target } => hashed(&[b"link", name.as_bytes(), target.as_bytes()]),
            Self::NodeRoot(node) => hashed(&[b"node", node.as_bytes()]),
            Self::File { file, .. } => hashed(&[b"file", file.as_bytes()]),
        }
    }
}

// === impl InodeMap ===

impl InodeMap {
    /// An empty table; the top is always known and needs no entry.
    pub fn new() -> Self {
        Self { inner: Mutex::new(Inner::default()) }
    }

    /// Counts one lookup of `subject` and gives its number: the one it has, else `wanted` or the next free.
    pub fn admit(&self, subject: &Subject, wanted: InodeNo) -> InodeNo {
        let mut inner = self.inner.lock();
        if let Some(&number) = inner.by_subject.get(subject) {
            if let Some(known) = inner.by_number.get_mut(&number) {
                known.lookups += 1;
            }
            return number;
        }
        let number = inner.insert(subject, wanted);
        inner.by_subject.insert(subject.clone(), number);
        number
    }

    /// Counts a lookup of `subject` under a number that it has beside its own, for this time only.
    pub fn admit_beside(&self, subject: &Subject, wanted: InodeNo) -> InodeNo {
        self.inner.lock().insert(subject, wanted)
    }

    /// Whether the kernel has this directory in another one.
    pub fn is_moved(&self, subject: &Subject, parent: InodeNo) -> bool {
        let inner = self.inner.lock();
        let known = inner.by_subject.get(subject).and_then(|number| inner.by_number.get(number));
        known.and_then(|known| known.place.as_ref()).is_some_and(|(place, _)| *place != parent)
    }

    /// Notes where the kernel has a directory.
    pub fn place(&self, number: InodeNo, parent: InodeNo, name: &FileName) {
        self.inner.lock().place(number, (parent, name.clone()));
    }

    /// The kernel has renamed something; perhaps it was a directory.
    pub fn renamed(&self, from: (InodeNo, &FileName), to: (InodeNo, &FileName), exchange: bool) {
        let (from, to) = ((from.0, from.1.clone()), (to.0, to.1.clone()));
        let mut inner = self.inner.lock();
        let (moved, other) = (inner.leave(&from), inner.leave(&to));
        if let Some(number) = moved {
            inner.place(number, to);
        }
        if let Some(number) = other.filter(|_| exchange) {
            inner.place(number, from);
        }
    }

    /// The number that the subject has, if the kernel knows it.
    pub fn number_of(&self, subject: &Subject) -> Option<InodeNo> {
        self.inner.lock().by_subject.get(subject).copied()
    }

    /// What the number stands for; `None` if the kernel was told to forget it or never knew it.
    pub fn find(&self, number: InodeNo) -> Option<Subject> {
        if number == InodeNo::ROOT {
            return Some(Subject::Top);
        }
        self.inner.lock().by_number.get(&number).map(|known| known.subject.clone())
    }

    /// Notes the attributes of a directory: it may be removed, and be the working directory of somebody.
    pub fn saw(&self, number: InodeNo, attr: &Attr) {
        if attr.kind != FileKind::Directory {
            return;
        }
        if let Some(known) = self.inner.lock().by_number.get_mut(&number) {
            match &mut known.directory {
                Some(seen) => seen.as_mut().clone_from(attr),
                none => *none = Some(Box::new(attr.clone())),
            }
        }
    }

    /// The attributes of a directory that was removed.
    pub fn removed(&self, number: InodeNo) -> Option<Attr> {
        let inner = self.inner.lock();
        let seen = inner.by_number.get(&number)?.directory.as_deref()?;
        Some(Attr { ino: number, nlink: 0, ..seen.clone() })
    }

    /// Takes back `lookups` of the count. What the number stood for, if it stands for nothing any more.
    pub fn forget(&self, number: InodeNo, lookups: u64) -> Option<Subject> {
        let mut inner = self.inner.lock();
        let Entry::Occupied(mut entry) = inner.by_number.entry(number) else { return None };
        let known = entry.get_mut();
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups > 0 {
            return None;
        }
        let known = entry.remove();
        // It may have been the second number of something.
        if inner.by_subject.get(&known.subject) == Some(&number) {
            inner.by_subject.remove(&known.subject);
        }
        if let Some(place) = known.place
            && inner.by_place.get(&place) == Some(&number)
        {
            inner.by_place.remove(&place);
        }
        Some(known.subject)
    }
}

// === impl Inner ===

impl Inner {
    /// Takes in a subject under the wanted number, or the next that is free.
    fn insert(&mut self, subject: &Subject, wanted: InodeNo) -> InodeNo {
        let mut number = if wanted == InodeNo::ROOT { wanted.next() } else { wanted };
        loop {
            match self.by_number.entry(number) {
                Entry::Vacant(free) => {
                    free.insert(Known {
                        subject: subject.clone(),
                        lookups: 1,
                        directory: None,
                        place: None,
                        _counted: MOUNT_INODES.hold(),
                    });
                    return number;
                }
                Entry::Occupied(_) => number = following(number),
            }
        }
    }

    fn place(&mut self, number: InodeNo, place: (InodeNo, FileName)) {
        let Some(known) = self.by_number.get_mut(&number) else { return };
        if known.place.as_ref() == Some(&place) {
            return;
        }
        let before = known.place.replace(place.clone());
        if let Some(before) = before
            && self.by_place.get(&before) == Some(&number)
        {
            self.by_place.remove(&before);
        }
        self.by_place.insert(place, number);
    }

    /// Takes a place from the directory that has it.
    fn leave(&mut self, place: &(InodeNo, FileName)) -> Option<InodeNo> {
        let number = self.by_place.remove(place)?;
        let known = self.by_number.get_mut(&number)?;
        known.place.take_if(|own| own == place)?;
        Some(number)
    }
}

impl Default for InodeMap {
    fn default() -> Self {
        Self::new()
    }
}

/// The next number that a file may have: 63 bits, not the root's.
fn following(number: InodeNo) -> InodeNo {
    let next = (number.get() + 1) & (u64::MAX >> 1);
    InodeNo::new(next.max(InodeNo::ROOT.get() + 1)).unwrap_or(InodeNo::ROOT.next())
}

/// FNV-1a over the parts, each ended by a byte that no name holds, in 63 bits.
fn hashed(parts: &[&[u8]]) -> InodeNo {
    let hash = parts.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, part| {
        part.iter()
            .chain(&[0])
            .fold(hash, |h, byte| (h ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    });
    InodeNo::new((hash >> 1).max(InodeNo::ROOT.get() + 1)).unwrap_or(InodeNo::ROOT.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &'static [u8]) -> Subject {
        Subject::File {
            node: NodeId::from_digest([7; 32]),
            file: FileId::from_bytes(bytes.into()).unwrap(),
            home: number(50),
        }
    }

    fn number(number: u64) -> InodeNo {
        InodeNo::new(number).unwrap()
    }

    #[test]
    fn a_number_lives_as_long_as_its_lookup_count() {
        let map = InodeMap::new();
        assert_eq!(map.admit(&file(b"a"), number(50)), number(50));
        assert_eq!(map.admit(&file(b"a"), number(50)), number(50));
        map.forget(number(50), 1);
        assert_eq!(map.find(number(50)), Some(file(b"a")));
        map.forget(number(50), 1);
        assert_eq!(map.find(number(50)), None);
        assert_eq!(map.number_of(&file(b"a")), None);
    }

    #[test]
    fn a_collision_takes_the_next_free_number() {
        let map = InodeMap::new();
        assert_eq!(map.admit(&file(b"a"), number(50)), number(50));
        assert_eq!(map.admit(&file(b"b"), number(50)), number(51));
        assert_eq!(map.admit(&file(b"c"), number(50)), number(52));
        assert_eq!(map.admit(&file(b"b"), number(50)), number(51), "it keeps the number it has");
        map.forget(number(51), 9);
        assert_eq!(map.find(number(51)), None);
        assert_eq!(map.find(number(52)), Some(file(b"c")));
    }

    #[test]
    fn a_directory_is_where_it_was_found_or_moved_to_last() {
        let map = InodeMap::new();
        let name = |name: &'static str| FileName::parse(name.as_bytes()).unwrap();
        let (a, b) = (file(b"a"), file(b"b"));
        let [one, two] = [&a, &b].map(|subject| map.admit(subject, number(50)));
        assert!(!map.is_moved(&a, number(2)), "it is nowhere yet");
        map.place(one, number(2), &name("x"));
        map.place(two, number(3), &name("y"));
        assert!(!map.is_moved(&a, number(2)) && map.is_moved(&a, number(3)));
        map.renamed((number(2), &name("x")), (number(3), &name("y")), true);
        assert!(map.is_moved(&a, number(2)) && map.is_moved(&b, number(3)));
        map.renamed((number(3), &name("y")), (number(2), &name("y")), false);
        assert!(!map.is_moved(&a, number(2)), "back");
        let beside = map.admit_beside(&a, one);
        assert_eq!(map.find(beside), Some(a.clone()));
        map.forget(beside, 1);
        assert_eq!(map.number_of(&a), Some(one));
    }

    #[test]
    fn the_root_is_never_given_away_and_never_forgotten() {
        let map = InodeMap::new();
        assert_eq!(map.admit(&file(b"a"), InodeNo::ROOT), number(2));
        let last = number(u64::MAX >> 1);
        assert_eq!(map.admit(&file(b"b"), last), last);
        assert_eq!(map.admit(&file(b"c"), last), number(3), "wraps past the root");
        map.forget(InodeNo::ROOT, 5);
        assert_eq!(map.find(InodeNo::ROOT), Some(Subject::Top));
    }

    #[test]
    fn links_have_one_inode_for_each_target() {
        let link =
            |target: &str| Subject::Link { name: "here".to_owned(), target: target.to_owned() };
        assert_ne!(link("n1").number(), link("n2").number());
        assert_eq!(link("n1").number(), link("n1").number());
        assert!(link("n1").number().get() <= u64::MAX >> 1);
    }
}
