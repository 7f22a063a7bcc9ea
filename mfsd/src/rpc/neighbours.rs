//! `Neighbours`: which files that other nodes keep pages of are also open in processes of this machine, which
//! ask nobody.
//!
//! Neither what such a process stores through a mapping nor what it loads is told to anybody. So as long as one
//! has the file open for writing no node keeps anything of its data, and while one reads it none keeps what it
//! has changed: what is loaded is dropped, and what is stored written back, right after. It is looked when the
//! first page is read, and from then on opens are noticed.
//!
//! What cannot be told (`LocalUse::Unknown`) is taken for unused until somebody opens the file, and for used from
//! then on; but who runs a program or reads a library keeps nobody from reading it (`LocalUse::Unwritten`).
//!
//! Lock order: `Neighbours::looking`, which is held while the kernel is asked; `Neighbours::files`; then those of
//! `Coherence`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mfs::export::{Interest, LocalUse, Used};
use mfs::sync::Mutex;
use mfs::types::{FileId, InodeNo, Leases};

use super::coherence::{ChangeHold, Coherence};
use super::dispatch::Dispatch;
use super::tree::Tree;

/// How often it is looked before somebody is believed to use a file.
const LOOKS: usize = 4;

/// The files that were looked at.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Held from looking until it is known, so that nothing newer is overwritten.
    looking: Mutex<()>,
    files: Mutex<HashMap<InodeNo, Neighbour>>,
}

/// One file.
#[derive(Debug)]
struct Neighbour {
    file: FileId,
    /// What local processes use, and what nobody may keep on account of that.
    used: Leases,
    hold: Option<ChangeHold>,
    /// Processes that were seen to open it and not to close it, while it could not be told.
    openers: HashSet<i32>,
}

// === impl Neighbours ===

impl Neighbours {
    fn file(&self, ino: InodeNo) -> Option<FileId> {
        self.files.lock().get(&ino).map(|neighbour| neighbour.file.clone())
    }

    fn set(&self, coherence: &Arc<Coherence>, ino: InodeNo, used: Leases) {
        let mut files = self.files.lock();
        let Some(neighbour) = files.get_mut(&ino).filter(|neighbour| neighbour.used != used) else {
            return;
        };
        neighbour.used = used;
        let hold = (!used.is_empty()).then(|| coherence.change_for_long(None, vec![(ino, used)]));
        // The new one before the old one ends.
        drop(std::mem::replace(&mut neighbour.hold, hold));
    }

    /// Takes note of who opened and closed a file of which it cannot be told; what is used now.
    fn count(&self, used: Used) -> Leases {
        let mut files = self.files.lock();
        let Some(neighbour) = files.get_mut(&used.ino) else { return Leases::empty() };
        if used.opened {
            neighbour.openers.insert(used.pid);
        }
        if used.closed {
            neighbour.openers.remove(&used.pid);
        }
        if neighbour.openers.is_empty() { Leases::empty() } else { Leases::DATA }
    }
}

// === impl Neighbour ===

impl Neighbour {
    fn unused(file: &FileId) -> Self {
        let file = file.clone();
        Self { file, used: Leases::empty(), hold: None, openers: HashSet::new() }
    }
}

// === impl Dispatch ===

impl<T: Tree> Dispatch<T> {
    /// Looks who uses a file beside this daemon, if that is not known. To be called when its opens are noticed;
    /// may block.
    pub(super) fn look_beside(&self, ino: InodeNo, file: &FileId) {
        let known = || self.neighbours.files.lock().get(&ino).map(|neighbour| neighbour.used);
        if known().is_some_and(|used| used.is_empty()) {
            return;
        }
        let _looking = self.neighbours.looking.lock();
        let used = match known() {
            // It may be over.
            Some(used) => in_the_way(self.tree.local_use(file, 1), used),
            None => in_the_way(self.tree.local_use(file, LOOKS), Leases::empty()),
        };
        let new = || Neighbour::unused(file);
        self.neighbours.files.lock().entry(ino).or_insert_with(new);
        self.neighbours.set(&self.coherence, ino, used);
    }

    /// Looks who uses a file beside this daemon that was in use by nobody, and cannot be guarded: somebody may have
    /// opened it just now. May block.
    pub(super) fn look_now(&self, ino: InodeNo, file: &FileId) {
        let _looking = self.neighbours.looking.lock();
        let is_unused = |neighbour: &Neighbour| neighbour.used.is_empty();
        if self.neighbours.files.lock().get(&ino).is_some_and(is_unused) {
            let used = in_the_way(self.tree.local_use(file, 1), Leases::empty());
            self.neighbours.set(&self.coherence, ino, used);
        }
    }

    /// Takes note of who uses a file beside this daemon, if that is known only now. To be called when its opens
    /// are noticed.
    pub(super) fn note_beside(&self, ino: InodeNo, file: &FileId, used: LocalUse) {
        if matches!(used, LocalUse::Unknown | LocalUse::Unwritten) {
            return;
        }
        let used = in_the_way(used, Leases::empty());
        let mut files = self.neighbours.files.lock();
        if files.contains_key(&ino) {
            return;
        }
        files.insert(ino, Neighbour::unused(file));
        drop(files);
        self.neighbours.set(&self.coherence, ino, used);
    }

    /// Local processes have opened or closed files.
    pub(super) fn used_beside(self: &Arc<Self>, used: Vec<Used>) {
        let known = |used: &Used| Some((*used, self.neighbours.file(used.ino)?));
        let used: Vec<_> = used.iter().filter_map(known).collect();
        if used.is_empty() {
            return;
        }
        for (used, _) in used.iter().filter(|(used, _)| used.opened) {
            self.coherence.looked_unasked(used.ino);
        }
        // Apart: it takes time where the file is in use.
        let dispatch = Arc::clone(self);
        self.tree.spawn(Box::new(move || {
            for (used, file) in used {
                let counted = dispatch.neighbours.count(used);
                dispatch.look_again(used.ino, &file, counted);
            }
        }));
    }

    fn look_again(&self, ino: InodeNo, file: &FileId, if_unknown: Leases) {
        let _looking = self.neighbours.looking.lock();
        let used = in_the_way(self.tree.local_use(file, LOOKS), if_unknown);
        self.neighbours.set(&self.coherence, ino, used);
    }

    /// Looks again at what is used, and forgets what no node keeps pages of. To be called at intervals.
    pub(super) fn review_beside(self: &Arc<Self>) {
        let mut files = self.neighbours.files.lock();
        files.retain(|ino, _| self.coherence.in_file(*ino));
        let used = files.iter().filter(|(_, neighbour)| !neighbour.used.is_empty());
        let used: Vec<_> =
            used.map(|(ino, known)| (*ino, known.file.clone(), known.used)).collect();
        drop(files);
        if used.is_empty() {
            return;
        }
        let dispatch = Arc::clone(self);
        self.tree.spawn(Box::new(move || {
            for (ino, file, used) in used {
                dispatch.look_again(ino, &file, used);
            }
        }));
    }
}

/// What no node may keep of a file that is used so; as far as that is not known, `if_unknown`.
const fn in_the_way(used: LocalUse, if_unknown: Leases) -> Leases {
    match used {
        LocalUse::None => Leases::empty(),
        LocalUse::Reads => Leases::DATA_WRITE,
        LocalUse::Writes => Leases::DATA,
        LocalUse::Unwritten => if_unknown.intersection(Leases::DATA_WRITE),
        LocalUse::Unknown => if_unknown,
    }
}
