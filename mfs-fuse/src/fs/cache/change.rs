//! `OwnChange`s: what this mount changes itself. From before the request is sent until it is answered what
//! it touches is not used, since others may see the change earlier than this mount; then the memory is
//! corrected by what is known of it, before the kernel is answered.

use std::sync::Arc;
use std::time::Duration;

use mfs::client::Answered;
use mfs::lease::{Ended, OwnChange, Touch};
use mfs::types::op::Entry;
use mfs::types::{Attr, FileName, InodeNo, Leases, RenameFlags};

use super::memory::{Memory, Name};
use super::node::NodeCache;

const ALL: Leases = Leases::ATTRIBUTES.union(Leases::DIRECTORY).union(Leases::HANDLE);

/// A change under way. One that is dropped counts as made perhaps.
#[derive(Debug)]
#[must_use = "what it touches is not used until it is ended"]
pub struct Changing {
    node: Arc<NodeCache>,
    touches: Vec<Touch>,
    own: Option<OwnChange>,
}

// === impl Changing ===

impl Changing {
    /// Begins a change of attributes, and with `DIRECTORY` of names.
    pub fn begin(node: Arc<NodeCache>, touches: &[Touch]) -> Self {
        let own = (node.is_granting() && !touches.is_empty())
            .then(|| node.with(|inner| inner.holder.begin_change(touches)));
        Self { node, touches: touches.to_vec(), own }
    }

    /// Begins the removal, or with `made` the making, of a name: its directory changes, and what it names.
    pub fn begin_name(node: Arc<NodeCache>, parent: InodeNo, name: &FileName) -> Self {
        let victim = node.number_of(parent, name).map(|ino| (ino, ALL));
        let touches: Vec<_> = [(parent, ALL)].into_iter().chain(victim).collect();
        Self::begin(node, &touches)
    }

    /// Begins the making of another name of `file`.
    pub fn begin_link(node: Arc<NodeCache>, parent: InodeNo, file: InodeNo) -> Self {
        Self::begin(node, &[(parent, ALL), (file, Leases::ATTRIBUTES)])
    }

    /// Begins a renaming, of what is in the one directory to the other.
    pub fn begin_rename(
        node: Arc<NodeCache>,
        from: (InodeNo, &FileName),
        to: (InodeNo, &FileName),
    ) -> Self {
        let mut touches = vec![(from.0, ALL)];
        if to.0 != from.0 {
            touches.push((to.0, ALL));
        }
        for ino in [from, to].iter().filter_map(|(parent, name)| node.number_of(*parent, name)) {
            if !touches.iter().any(|(known, _)| *known == ino) {
                touches.push((ino, ALL));
            }
        }
        Self::begin(node, &touches)
    }

    /// Ends a change of data, or of anything that is to be read again.
    pub fn end<T>(self, now: Duration, answer: &Answered<T>) {
        self.finish(now, answer.is_final, Leases::empty(), &[], |_, _| {});
    }

    /// Ends a change that was answered with the attributes after it.
    pub fn end_attr(self, now: Duration, answer: &Answered<Attr>) {
        let Ok(attr) = &answer.result else { return self.end(now, answer) };
        let grants = [(attr.ino, answer.leases & Leases::ATTRIBUTES)];
        self.finish(now, answer.is_final, Leases::empty(), &grants, |memory, ended| {
            if !ended.granted[0].is_empty() {
                memory.set_attr(attr);
            }
        });
    }

    /// Ends the making of a name.
    pub fn end_made(
        self,
        now: Duration,
        parent: InodeNo,
        name: &FileName,
        answer: &Answered<Entry>,
    ) {
        let Ok(entry) = &answer.result else { return self.end_refused(now, answer) };
        let leases = answer.leases;
        // The file first: with it the attributes are stored if they are granted.
        let grants =
            [(entry.attr.ino, leases & Leases::ATTRIBUTES), (parent, leases & Leases::DIRECTORY)];
        self.finish(now, answer.is_final, Leases::DIRECTORY, &grants, |memory, ended| {
            if !ended.granted[0].is_empty() {
                memory.set_attr(&entry.attr);
            }
            let kept = ended.kept.iter().any(|(ino, _)| *ino == parent);
            if kept {
                memory.change_name(parent, name, Name::Unknown);
            }
            if kept || !ended.granted[1].is_empty() {
                memory.set_name(parent, name, Some(entry));
            }
        });
    }

    /// Ends the removal of a name.
    pub fn end_removed(
        self,
        now: Duration,
        parent: InodeNo,
        name: &FileName,
        answer: &Answered<()>,
    ) {
        if answer.result.is_err() {
            return self.end_refused(now, answer);
        }
        let grants = [(parent, answer.leases & Leases::DIRECTORY)];
        self.finish(now, answer.is_final, Leases::DIRECTORY, &grants, |memory, ended| {
            if ended.kept.iter().any(|(ino, _)| *ino == parent) {
                memory.change_name(parent, name, Name::Absent);
            }
            if !ended.granted[0].is_empty() {
                memory.set_name(parent, name, None);
            }
        });
    }

    /// Ends a renaming.
    pub fn end_renamed(
        self,
        now: Duration,
        from: (InodeNo, &FileName),
        to: (InodeNo, &FileName),
        flags: RenameFlags,
        answer: &Answered<()>,
    ) {
        if answer.result.is_err() {
            return self.end_refused(now, answer);
        }
        self.finish(now, answer.is_final, Leases::DIRECTORY, &[], |memory, ended| {
            let kept = |parent| ended.kept.iter().any(|(ino, _)| *ino == parent);
            let name = |memory: &mut Memory, (parent, name): (InodeNo, &FileName)| {
                kept(parent).then(|| memory.name(parent, name)).flatten().unwrap_or(Name::Unknown)
            };
            let (moved, replaced) = (name(memory, from), name(memory, to));
            let left = if flags.contains(RenameFlags::EXCHANGE) {
                replaced
            } else if flags.contains(RenameFlags::WHITEOUT) || !differ(&moved, &replaced) {
                // Two names of one file stay as they are (rename(2)).
                Name::Unknown
            } else {
                Name::Absent
            };
            if kept(from.0) {
                memory.change_name(from.0, from.1, left);
            }
            if kept(to.0) {
                memory.change_name(to.0, to.1, moved);
            }
        });
    }

    /// Ends a change of names that was refused: they are as they were.
    fn end_refused<T>(self, now: Duration, answer: &Answered<T>) {
        self.finish(now, answer.is_final, Leases::DIRECTORY, &[], |_, _| {});
    }

    fn finish(
        mut self,
        now: Duration,
        is_final: bool,
        corrects: Leases,
        grants: &[Touch],
        correct: impl FnOnce(&mut Memory, &Ended),
    ) {
        let Some(own) = self.own.take() else { return };
        let touches = std::mem::take(&mut self.touches);
        self.node.with(|inner| {
            if !is_final {
                touches.iter().for_each(|(ino, leases)| inner.memory.drop_under(*ino, *leases));
                return inner.leave_unknown(own);
            }
            let grants = if inner.is_off() { &[] } else { grants };
            let ended = inner.holder.end_change(now, own, corrects, grants);
            for (ino, leases) in touches {
                let kept = ended.kept.iter().filter(|(kept, _)| *kept == ino);
                let kept = kept.fold(Leases::empty(), |all, (_, leases)| all | *leases);
                inner.memory.drop_under(ino, leases - kept);
            }
            if ended.granted.len() == grants.len() && !inner.is_off() {
                correct(&mut inner.memory, &ended);
            }
        });
    }
}

/// Whether a name that is moved over another is sure to be gone afterwards.
fn differ(moved: &Name, replaced: &Name) -> bool {
    match (moved, replaced) {
        (_, Name::Absent) => true,
        (Name::File(_, moved), Name::File(_, replaced)) => moved != replaced,
        _ => false,
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            let touches = std::mem::take(&mut self.touches);
            self.node.with(|inner| {
                touches.iter().for_each(|(ino, leases)| inner.memory.drop_under(*ino, *leases));
                inner.leave_unknown(own);
            });
        }
    }
}
