//! The names in a node's root on which the views of jobs have mounts: `proc`, `sys`, `dev` and `mfs`.
//!
//! The kernel takes away what is mounted on a name when a look at the name fails (fs/fuse/dir.c, `fuse_dentry_revalidate`,
//! and fs/namei.c, `d_invalidate`). A node that is away must not strip the jobs that it is the home of. So once such
//! a name was found it is answered here, for ever, without asking.
//!
//! Lock order: `Points::found` is a leaf.

use std::collections::HashMap;

use mfs::sync::Mutex;
use mfs::types::op::Entry;
use mfs::types::{Attr, FileKind, FileName, InodeNo, NodeId};

use super::MountedFs;
use super::inode_map::Subject;

/// The names.
const NAMES: [&[u8]; 4] = [b"proc", b"sys", b"dev", b"mfs"];

/// Those that were found.
#[derive(Debug, Default)]
pub(super) struct Points {
    found: Mutex<HashMap<(NodeId, FileName), Entry>>,
}

// === impl MountedFs ===

impl MountedFs {
    /// A name of that kind, if it was found before.
    pub(super) fn known_point(&self, parent: InodeNo, name: &FileName) -> Option<Attr> {
        if !NAMES.iter().any(|point| name.as_bytes() == *point) {
            return None;
        }
        let Subject::NodeRoot(node) = self.inodes.find(parent)? else { return None };
        let entry = self.points.found.lock().get(&(node, name.clone())).cloned()?;
        Some(self.admit(node, entry))
    }

    /// A name was found in the root of a node.
    pub(super) fn note_point(&self, node: NodeId, name: &FileName, entry: &Entry) {
        let is_point = NAMES.iter().any(|point| name.as_bytes() == *point);
        if is_point && entry.attr.kind == FileKind::Directory {
            self.points.found.lock().insert((node, name.clone()), entry.clone());
        }
    }
}
