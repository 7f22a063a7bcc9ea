//! The synthetic top of a mount: one directory per node, links for numbers and per-process entries, `magic`.
//!
//! Nothing here waits for a node: `ls /mfs`, `stat /mfs/<node>` and `df` answer from the view and from what
//! is known already. Only node names are directories; all else is a symbolic link, resolved but not listed,
//! since a directory reached by two names would move in the kernel from one to the other.

use mfs::membership::{Member, View};
use mfs::telemetry::Snapshot;
use mfs::telemetry::instruments::Keeper;
use mfs::types::{
    Attr, Errno, FileKind, FileName, InodeNo, NodeId, NodeName, NodeNumber, StatFs, Timestamp,
};

use super::MountedFs;
use super::handle_map::SyntheticEntry;
use super::inode_map::Subject;
use super::process::Asker;
use super::selection::{STATS_XATTR, SelectRequest};

/// The synthetic directory of the top that is not a node's.
const MAGIC: &str = "magic";

// === impl MountedFs ===

impl MountedFs {
    /// Finds a name at the top. Per-process entries depend on the asker, so nothing of it may be cached.
    pub(super) fn lookup_top(&self, asker: Asker, name: &FileName) -> Result<Attr, Errno> {
        let text = std::str::from_utf8(name.as_bytes()).map_err(|_| Errno::NoEnt)?;
        let subject = self.top_subject(asker, text).ok_or(Errno::NoEnt)?;
        let mut attr = self.synthetic_attr(&subject);
        attr.ino = self.inodes.admit(&subject, subject.number());
        Ok(attr)
    }

    fn top_subject(&self, asker: Asker, name: &str) -> Option<Subject> {
        if name == MAGIC {
            return Some(Subject::Magic);
        }
        let view = self.nodes.view()?;
        let member = match name {
            // A program is executed where its process runs; moving executes nothing.
            "here" | "lastexec" => view.by_id(view.me()),
            // Who is no job is at home.
            "home" => match asker.home() {
                Some(home) => view.by_name(&home),
                None => view.by_id(view.me()),
            },
            "selected" => self
                .selections
                .selected(asker)
                .and_then(|node| view.by_id(node))
                .or_else(|| view.by_id(view.me())),
            _ => match parse_number(name) {
                Some(number) => view.by_number(number),
                None => {
                    let member = view.by_name(&NodeName::parse(name).ok()?)?;
                    return Some(Subject::NodeRoot(member.id));
                }
            },
        };
        let target = member?.name.to_string();
        Some(Subject::Link { name: name.to_owned(), target })
    }

    /// Attributes of what this mount makes up itself; of a node's root what was last seen of it.
    pub(super) fn synthetic_attr(&self, subject: &Subject) -> Attr {
        let mut attr = Attr {
            ino: subject.number(),
            kind: FileKind::Directory,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            block_size: 4_096,
            rdev: (0, 0),
            atime: self.mounted_at,
            mtime: self.mounted_at,
            ctime: self.mounted_at,
            btime: None,
        };
        match subject {
            Subject::Top => {
                let members = self.nodes.view().map_or(0, |view| view.members().len());
                attr.nlink += u32::try_from(members).unwrap_or(u32::MAX - 2);
            }
            // Everybody may make files through it; the node's own directory decides.
            Subject::Magic => attr.mode = 0o1777,
            Subject::Link { target, .. } => {
                attr.kind = FileKind::Symlink;
                attr.mode = 0o777;
                attr.nlink = 1;
                attr.size = target.len() as u64;
            }
            Subject::NodeRoot(node) => {
                if let Some(seen) = self.nodes.root_seen(*node) {
                    attr = Attr { ino: attr.ino, ..seen };
                }
            }
            Subject::File { .. } => {}
        }
        attr
    }

    /// What `ls` shows of the top: the nodes, those that are down too.
    pub(super) fn list_top(&self) -> Vec<SyntheticEntry> {
        let view = self.nodes.view();
        let members: &[Member] = view.as_ref().map_or(&[], View::members);
        members
            .iter()
            .map(|member| SyntheticEntry {
                name: member.name.as_str().as_bytes().to_vec(),
                ino: Subject::NodeRoot(member.id).number(),
                kind: FileKind::Directory,
            })
            .collect()
    }

    /// What `ls` shows of `magic`: what the asker made last through it.
    pub(super) fn list_magic(&self, asker: Asker) -> Vec<SyntheticEntry> {
        let made = self.selections.last_made(asker);
        made.map(|(_, name)| SyntheticEntry {
            ino: Subject::Magic.number().next(),
            name: name.as_bytes().to_vec(),
            kind: FileKind::Regular,
        })
        .into_iter()
        .collect()
    }

    /// The node whose root a new file in `magic` goes to: here.
    pub(super) fn magic_home(&self) -> Result<NodeId, Errno> {
        self.nodes.view().map(|view| view.me()).ok_or(Errno::HostDown)
    }

    /// The node that holds what the asker made last in `magic` under this name.
    pub(super) fn magic_node(&self, asker: Asker, name: &FileName) -> Result<NodeId, Errno> {
        match self.selections.last_made(asker) {
            Some((node, made)) if made == *name => Ok(node),
            _ => Err(Errno::NoEnt),
        }
    }

    /// Figures of the top: it holds no blocks of its own.
    pub(super) fn statfs_top() -> StatFs {
        StatFs {
            fragment_size: 4_096,
            block_size: 4_096,
            name_max: FileName::MAX_LEN as u32,
            ..StatFs::default()
        }
    }

    /// An attribute of the top: the figures of this mount.
    pub(super) fn getxattr_top(name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name == STATS_XATTR {
            Ok(Snapshot::take(Keeper::Mount).to_json().into_bytes())
        } else {
            Err(Errno::NoData)
        }
    }

    /// `mfs select`: sets or clears the selection of a process.
    pub(super) fn select(&self, asker: Asker, value: &[u8]) -> Result<(), Errno> {
        let request = SelectRequest::parse(value)?;
        let node = match request.node {
            Some(name) => {
                let view = self.nodes.view().ok_or(Errno::HostDown)?;
                Some(view.by_name(&name).ok_or(Errno::NoEnt)?.id)
            }
            None => None,
        };
        self.selections.select(asker, request.pid, node)
    }

    /// A time for what has none of its own.
    pub(super) fn now() -> Timestamp {
        let seconds = i64::try_from(mfs::clock::unix_seconds()).unwrap_or(i64::MAX);
        Timestamp { seconds, nanos: 0 }
    }
}

/// A node number as openMosix wrote it: digits alone, no sign, no leading zero.
fn parse_number(name: &str) -> Option<NodeNumber> {
    let plain = name.bytes().all(|b| b.is_ascii_digit()) && !name.starts_with('0');
    if plain { name.parse().ok().and_then(NodeNumber::new) } else { None }
}

/// The directory above any synthetic one is the top.
pub(super) const PARENT: InodeNo = InodeNo::ROOT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_in_one_way() {
        assert_eq!(parse_number("309").map(NodeNumber::get), Some(309));
        assert_eq!(parse_number("65535").map(NodeNumber::get), Some(65_535));
        for wrong in ["", "0", "0309", "+309", "65536", "n1", "1 ", "99999999999999999999"] {
            assert_eq!(parse_number(wrong), None, "{wrong:?}");
        }
    }
}
