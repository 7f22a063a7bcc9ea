//! Local changes: those made by processes of this node, which ask nobody.
//!
//! Says which files were changed, by their numbers; what is to be done about it, others decide.

use super::Export;
use super::file_id::FileRef;
use super::numbers::Identity;
use super::tree::Node;
use crate::types::{FileId, FileName, InodeNo};

/// A file that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Changed {
    /// Its number.
    pub ino: InodeNo,
    /// Not only its attributes: the names in it, too.
    pub names: bool,
}

/// What was changed locally since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LocalChanges {
    /// By other processes.
    pub others: Vec<Changed>,
    /// By this process.
    pub own: Vec<Changed>,
    /// Something was missed: anything may have been changed.
    pub anything: bool,
}

/// The file systems in which changes were noticed at some moment.
#[derive(Debug, Clone, Default)]
pub struct Watched {}

// === impl Export ===

impl Export {
    /// The number of the file that an id names, a pure function of the id. `None` if it is not this
    /// export's, or means nothing beyond this process's life: such a file is never watched.
    pub fn number_of(&self, file: &FileId) -> Option<InodeNo> {
        let numbers = &self.tree.numbers;
        match self.tree.seal.unseal(file).ok()? {
            FileRef::Handle(mount, handle) => {
                Some(numbers.of(&Identity::Handle(mount.fs, &handle)))
            }
            FileRef::Barred(place) => Some(numbers.of(&Identity::Barred(place))),
            FileRef::Pinned { .. } | FileRef::Root => None,
        }
    }

    /// The number of the file that has a name at the moment; `None` if there is none, or its directory is
    /// not to be seen.
    pub fn number_of_name(&self, parent: &FileId, name: &FileName) -> Option<InodeNo> {
        match self.tree.find(parent).ok()? {
            Node::File(parent) => self.tree.number_of_name(&parent, name),
            Node::Barred(_) => None,
        }
    }

    /// Whether local changes can be noticed anywhere in the tree.
    pub fn is_watchable(&self) -> bool {
        false
    }

    /// Begins to watch the file system that the file lies in, if that can be done, and says what is
    /// watched. From then on each change there is in [`Self::local_changes`].
    pub fn watch(&self, _file: &FileId) -> Watched {
        Watched {}
    }

    /// What was changed locally since the last call. Does not wait.
    pub fn local_changes(&self) -> LocalChanges {
        LocalChanges::default()
    }

    /// Has `wake` called whenever there are local changes to be read, until the export is gone.
    pub fn on_local_changes(&self, wake: Box<dyn Fn() + Send>) {
        drop(wake);
    }
}

// === impl Watched ===

impl Watched {
    /// Whether the file, which an answer of this export names, lies in one of them.
    pub fn covers(&self, _file: &FileId) -> bool {
        false
    }
}
