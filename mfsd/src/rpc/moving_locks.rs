//! The locks of a peer's processes on files of this node, for a job of theirs that is to move.

use std::collections::HashSet;
use std::sync::Arc;

use mfs::export::LockRecord;
use mfs::types::op::TakenLock;
use mfs::types::{InodeNo, LockOwner, NodeId};

use super::files::FilesService;
use super::tree::Tree;

impl<T: Tree> FilesService<T> {
    /// The locks on these files that sessions of this node hold.
    pub(crate) async fn locks_held_by(
        self: &Arc<Self>,
        peer: NodeId,
        files: HashSet<InodeNo>,
    ) -> Vec<TakenLock> {
        let found = self.blocking(move |service| {
            let all = service.sessions.all().into_iter();
            let theirs = all.filter(|(session, _)| session.owner.node == peer);
            let of = |record: &LockRecord| files.contains(&record.ino);
            theirs.flat_map(|(session, _)| session.locks()).filter(of).map(taken).collect()
        });
        found.await.unwrap_or_default()
    }
}

fn taken(record: LockRecord) -> TakenLock {
    TakenLock {
        ino: record.ino,
        family: record.family,
        owner: record.owner.unwrap_or(LockOwner(0)),
        kind: record.kind,
        range: record.range,
        taking: record.taking,
    }
}
