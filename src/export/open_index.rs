//! Which files are open (or kept, by `anchor`), by their id: the only way to a file that was unlinked meanwhile.
//!
//! Lock order: `OpenIndex::by_file` is a leaf.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use crate::sync::Mutex;
use crate::types::FileId;

/// The open descriptors of an export's files.
#[derive(Debug, Default)]
pub(super) struct OpenIndex {
    by_file: Mutex<HashMap<FileId, Vec<Weak<OwnedFd>>>>,
}

// === impl OpenIndex ===

impl OpenIndex {
    /// Notes an open of a file.
    pub(super) fn note(&self, file: &FileId, fd: &Arc<OwnedFd>) {
        self.by_file.lock().entry(file.clone()).or_default().push(Arc::downgrade(fd));
    }

    /// Forgets an open that ends; what was noted twice is still there once.
    pub(super) fn forget(&self, file: &FileId, fd: &Arc<OwnedFd>) {
        let mut by_file = self.by_file.lock();
        if let Some(opens) = by_file.get_mut(file) {
            if let Some(at) = opens.iter().position(|open| open.as_ptr() == Arc::as_ptr(fd)) {
                opens.swap_remove(at);
            }
            if opens.is_empty() {
                by_file.remove(file);
            }
        }
    }

    /// All descriptors of a file, each once.
    pub(super) fn all(&self, file: &FileId) -> Vec<Arc<OwnedFd>> {
        let by_file = self.by_file.lock();
        let mut all: Vec<Arc<OwnedFd>> = Vec::new();
        for open in by_file.get(file).into_iter().flatten().filter_map(Weak::upgrade) {
            if !all.iter().any(|known| Arc::ptr_eq(known, &open)) {
                all.push(open);
            }
        }
        all
    }

    /// A descriptor of its own on the open file; `None` if it is not open.
    pub(super) fn find(&self, file: &FileId) -> Option<OwnedFd> {
        let open = self.by_file.lock().get(file)?.iter().find_map(Weak::upgrade)?;
        rustix::io::fcntl_dupfd_cloexec(&*open, 0).ok()
    }
}
