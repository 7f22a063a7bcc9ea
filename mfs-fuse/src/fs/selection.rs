//! What processes chose for themselves: the node `selected` points to, and what they made in `magic`.
//!
//! A selection belongs to a process and holds for its descendants, which find it by walking up their
//! ancestors; the nearest one counts. Entries of processes that ended are dropped when the table grows.

use std::collections::HashMap;
use std::hash::Hash;

use mfs::sync::Mutex;
use mfs::types::{Errno, FileName, NodeId, NodeName};

use super::process::{Asker, ProcessId};

/// Attribute of the mount's root that sets a selection: `PID NODE`, or `PID` alone to clear it; 0 is the parent of
/// who asks, who may not know its number here (in a job).
///
/// Of the namespace `system`, because the kernel asks for write permission on the root for all others,
/// and everybody may select for processes of their own.
pub const SELECT_XATTR: &[u8] = b"system.mfs.selected";

/// Attribute of the mount's root that shows the figures of the mount; readable by everybody, not listed.
pub const STATS_XATTR: &[u8] = b"mfs.stats";

/// Entries after which those of ended processes are looked for.
const SWEEP_AT: usize = 1_024;

/// The selections of all processes of this mount.
#[derive(Debug, Default)]
pub struct Selections {
    nodes: Mutex<HashMap<ProcessId, NodeId>>,
    made: Mutex<Made>,
}

/// What was made last in `magic`: by each process, and by each user, for processes that made nothing.
#[derive(Debug, Default)]
struct Made {
    by_process: HashMap<ProcessId, (NodeId, FileName)>,
    by_user: HashMap<u32, (NodeId, FileName)>,
}

/// What was asked with [`SELECT_XATTR`].
#[derive(Debug, PartialEq, Eq)]
pub struct SelectRequest {
    /// The process it is for; 0: the asker's parent.
    pub pid: u32,
    /// The node; `None` clears.
    pub node: Option<NodeName>,
}

// === impl SelectRequest ===

impl SelectRequest {
    /// Reads the value of the attribute.
    pub fn parse(value: &[u8]) -> Result<Self, Errno> {
        let text = std::str::from_utf8(value).map_err(|_| Errno::Inval)?;
        let mut words = text.split_whitespace();
        let pid = words.next().and_then(|pid| pid.parse().ok()).ok_or(Errno::Inval)?;
        let node = match words.next() {
            Some(name) => Some(NodeName::parse(name).map_err(|_| Errno::Inval)?),
            None => None,
        };
        if words.next().is_some() { Err(Errno::Inval) } else { Ok(Self { pid, node }) }
    }
}

// === impl Selections ===

impl Selections {
    /// Selects `node` for a process and its descendants, or clears its own selection. Only root and the
    /// owner of the process may.
    pub fn select(&self, asker: Asker, pid: u32, node: Option<NodeId>) -> Result<(), Errno> {
        let process = match pid {
            0 => asker.process().and_then(|process| process.lineage().nth(1)),
            pid => ProcessId::of(pid),
        };
        let process = process.ok_or(Errno::Srch)?;
        if asker.uid != 0 && process.owner() != Some(asker.uid) {
            return Err(Errno::Perm);
        }
        let mut nodes = self.nodes.lock();
        match node {
            Some(node) => insert_swept(&mut nodes, process, node),
            None => drop(nodes.remove(&process)),
        }
        Ok(())
    }

    /// The node selected for the asker or its nearest ancestor that has one.
    pub fn selected(&self, asker: Asker) -> Option<NodeId> {
        if self.nodes.lock().is_empty() {
            return None;
        }
        let lineage: Vec<_> = asker.process()?.lineage().collect();
        let nodes = self.nodes.lock();
        lineage.iter().find_map(|process| nodes.get(process).copied())
    }

    /// Remembers what the asker made in `magic`.
    pub fn made(&self, asker: Asker, node: NodeId, name: FileName) {
        let process = asker.process();
        let mut made = self.made.lock();
        if let Some(process) = process {
            insert_swept(&mut made.by_process, process, (node, name.clone()));
        }
        made.by_user.insert(asker.uid, (node, name));
    }

    /// What the asker made last in `magic`: itself, or its nearest ancestor that made something, or else
    /// its user.
    pub fn last_made(&self, asker: Asker) -> Option<(NodeId, FileName)> {
        let lineage: Vec<_> = asker.process().into_iter().flat_map(ProcessId::lineage).collect();
        let made = self.made.lock();
        let by_lineage = lineage.iter().find_map(|process| made.by_process.get(process));
        by_lineage.or_else(|| made.by_user.get(&asker.uid)).cloned()
    }
}

fn insert_swept<V>(table: &mut HashMap<ProcessId, V>, process: ProcessId, value: V)
where
    ProcessId: Hash + Eq,
{
    if table.len() >= SWEEP_AT {
        table.retain(|process, _| ProcessId::of(process.pid) == Some(*process));
    }
    table.insert(process, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Asker {
        Asker { uid: 0, gid: 0, tid: std::process::id() }
    }

    #[test]
    fn a_selection_holds_for_descendants() {
        let selections = Selections::default();
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get() as u32;
        let (above, own) = (NodeId::from_digest([1; 32]), NodeId::from_digest([2; 32]));
        assert_eq!(selections.selected(me()), None);
        selections.select(me(), parent, Some(above)).unwrap();
        assert_eq!(selections.selected(me()), Some(above));
        selections.select(me(), std::process::id(), Some(own)).unwrap();
        assert_eq!(selections.selected(me()), Some(own), "the nearest one counts");
        selections.select(me(), std::process::id(), None).unwrap();
        assert_eq!(selections.selected(me()), Some(above));
    }

    #[test]
    fn what_was_made_is_there_for_the_maker_its_children_and_its_user() {
        let selections = Selections::default();
        let name = FileName::parse("made".as_bytes()).unwrap();
        let made = Some((NodeId::from_digest([1; 32]), name.clone()));
        selections.made(me(), NodeId::from_digest([1; 32]), name);
        assert_eq!(selections.last_made(me()), made);
        let out_of_sight = |uid| Asker { uid, gid: 0, tid: 0 };
        assert_eq!(selections.last_made(out_of_sight(me().uid)), made);
        assert_eq!(selections.last_made(out_of_sight(54_321)), None);
    }

    #[test]
    fn nobody_selects_for_processes_of_others() {
        let stranger = Asker { uid: 54_321, gid: 0, tid: 0 };
        let selections = Selections::default();
        let refused = selections.select(stranger, 1, Some(NodeId::from_digest([1; 32])));
        assert_eq!(refused, Err(Errno::Perm));
        let gone = selections.select(me(), u32::MAX, None);
        assert_eq!(gone, Err(Errno::Srch));
    }

    #[test]
    fn a_request_is_a_process_and_perhaps_a_node() {
        let parsed = SelectRequest::parse(b"12 n2").unwrap();
        assert_eq!((parsed.pid, parsed.node), (12, Some(NodeName::parse("n2").unwrap())));
        assert_eq!(SelectRequest::parse(b"12").unwrap().node, None);
        for bad in [&b""[..], b"n2", b"12 here", b"12 n2 n3", b"\xff", b"-1 n2"] {
            assert_eq!(SelectRequest::parse(bad), Err(Errno::Inval), "{bad:?}");
        }
    }
}
