//! What is held at this node and waited for, as `mfs why` and `mfs locks` show it.
//!
//! Looks and changes nothing. Whoever asks learns of the files that he can reach by their names, with the
//! rights of the user for whom his node asks; what is held on others is left out.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mfs::clock;
use mfs::export::LockRecord;
use mfs::types::op::{Entry, LockFamily, LockKind, LockRange, Lookup, Operation, Outcome, Taking};
use mfs::types::{Access, Caller, Errno, FileName, InodeNo, NodeId, OpenId, SessionId};
use mfs::wire::cluster::node_id_bytes;
use mfs_proto::v1;
use tokio::sync::oneshot;

use super::coherence::{Holding, Pending};
use super::files::FilesService;
use super::session::Session;
use super::tree::{Opens, Tree};

/// The names of nodes.
pub(crate) type Names = HashMap<NodeId, String>;

/// Who looks: the sessions of one moment, and for whom.
struct Look<'a, T: Tree> {
    service: &'a FilesService<T>,
    names: &'a Names,
    sessions: Vec<(Arc<Session<T>>, Option<Instant>)>,
    now: Instant,
}

/// Nothing is open in a look.
struct Nothing<T: Tree>(Arc<T::Tenant>);

// === impl FilesService ===

impl<T: Tree> FilesService<T> {
    /// Who holds what on the file that these names lead to from the root, if `caller` may search the way.
    /// He is squashed unless root of his node is trusted.
    ///
    /// # Errors
    /// Those of looking the names up.
    pub(crate) async fn holdings(
        self: &Arc<Self>,
        caller: Caller,
        trusted: bool,
        path: Vec<FileName>,
        names: Names,
    ) -> Result<v1::HoldingsReply, Errno> {
        let caller = self.dispatch.tree.vouch(caller, trusted);
        let found = self.blocking(move |service| {
            let ino = service.find(&caller, &path)?.attr.ino;
            Ok(Look::new(&service, &names).holdings(ino))
        });
        found.await.unwrap_or(Err(Errno::Io))
    }

    /// The locks on the files that `caller` can reach; he is squashed unless root of his node is trusted.
    pub(crate) async fn locks(
        self: &Arc<Self>,
        caller: Caller,
        trusted: bool,
        names: Names,
    ) -> v1::LocksReply {
        let caller = self.dispatch.tree.vouch(caller, trusted);
        let found = self.blocking(move |service| {
            let mut locks = Look::new(&service, &names).locks(|_| true);
            locks.retain_mut(|lock| service.may_see(&caller, lock));
            v1::LocksReply { node: service.name(), locks }
        });
        found.await.unwrap_or_default()
    }

    /// Runs `look` on a thread that may block.
    pub(super) async fn blocking<R: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(Arc<Self>) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        let service = Arc::clone(self);
        self.dispatch.tree.spawn(Box::new(move || {
            // Who asked may be gone by now.
            let _ = answer.send(look(service));
        }));
        answered.await.ok()
    }

    /// Goes from the root to a file, with the rights of `caller`.
    fn find(&self, caller: &Caller, path: &[FileName]) -> Result<Entry, Errno> {
        let tree = &self.dispatch.tree;
        let opens = Nothing(tree.tenant(self.node()));
        path.iter().try_fold(tree.root()?, |at, name| {
            let lookup = Lookup { parent: at.file, name: name.clone(), keep: false };
            match tree.execute(caller, Operation::Lookup(lookup), &opens)? {
                Outcome::Entry(entry) => Ok(entry),
                _ => Err(Errno::Proto),
            }
        })
    }

    /// Whether `caller` reaches the file of a lock by its path. Root sees all, without the path where that
    /// leads to another file: it is as the kernel remembers it.
    fn may_see(&self, caller: &Caller, lock: &mut v1::LockEntry) -> bool {
        let path = Path::new(std::ffi::OsStr::from_bytes(&lock.path));
        let names = path.strip_prefix(self.root_path()).ok().and_then(names_of);
        let found = names.and_then(|names| self.find(caller, &names).ok());
        let reached = found.is_some_and(|entry| entry.attr.ino.get() == lock.ino);
        if !reached {
            lock.path = Bytes::new();
        }
        reached || caller.uid == 0
    }
}

/// The names of a path, from where it begins on; `None` if one of them cannot be a file's.
pub(crate) fn names_of(path: &Path) -> Option<Vec<FileName>> {
    let components = path.components().filter(|part| *part != Component::RootDir);
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => FileName::parse(name.as_bytes().to_vec()).ok(),
        _ => None,
    };
    components.map(name).collect()
}

// === impl Look ===

impl<'a, T: Tree> Look<'a, T> {
    fn new(service: &'a FilesService<T>, names: &'a Names) -> Self {
        Self { service, names, sessions: service.sessions.all(), now: clock::now() }
    }

    fn holdings(&self, ino: InodeNo) -> v1::HoldingsReply {
        let held = self.service.dispatch.coherence.holdings(ino);
        v1::HoldingsReply {
            node: self.service.name(),
            ino: ino.get(),
            opens: self.opens(ino),
            leases: held.leases.iter().map(|lease| self.lease(lease)).collect(),
            changes: held.changes.iter().map(|change| self.change(change)).collect(),
            locks: self.locks(|number| number == ino),
            grace_ms: held.grace.map(millis),
        }
    }

    fn opens(&self, ino: InodeNo) -> Vec<v1::HeldOpen> {
        let mut found = Vec::new();
        for (session, away) in &self.sessions {
            let opens = session.opens.lock().all();
            for (open, since) in opens.iter().filter(|(open, _)| T::file_of(open).1 == ino) {
                let (access, uid, pid) = T::opened_for(open);
                found.push(v1::HeldOpen {
                    holder: Some(self.holder(session, *away)),
                    pid,
                    uid,
                    reads: access != Access::Write,
                    writes: access != Access::Read,
                    age_ms: self.age(*since),
                });
            }
        }
        found
    }

    fn lease(&self, lease: &Holding) -> v1::HeldLease {
        v1::HeldLease {
            holder: Some(self.holder_of(lease.session)),
            leases: lease.leases.bits(),
            age_ms: lease.held.map(millis),
            asked_ms: lease.asked.map(millis),
            silent_ms: millis(lease.silent),
            left_ms: millis(lease.left),
        }
    }

    fn change(&self, change: &Pending) -> v1::PendingChange {
        let waits = change.waits.as_ref();
        let asker = waits.map(|(asker, _)| asker);
        v1::PendingChange {
            holder: change.session.map(|session| self.holder_of(session)),
            operation: asker.map_or_else(String::new, |asker| asker.operation.to_owned()),
            pid: asker.map_or(0, |asker| asker.pid),
            uid: asker.map_or(0, |asker| asker.uid),
            leases: change.leases.bits(),
            waits_ms: waits.map(|(_, since)| millis(*since)),
        }
    }

    /// The locks on these files: first those that are held, then those that are waited for.
    fn locks(&self, of: impl Fn(InodeNo) -> bool) -> Vec<v1::LockEntry> {
        let (mut held, mut awaited) = (Vec::new(), Vec::new());
        for (session, away) in &self.sessions {
            let holder = self.holder(session, *away);
            held.extend(session.locks().into_iter().filter(|record| of(record.ino)).map(
                |record| v1::LockEntry {
                    holder: Some(holder.clone()),
                    ..self.record(record, false)
                },
            ));
            let waits = session.waits.lock().all();
            for wait in waits {
                let Some(open) = session.opens.lock().find(wait.lock.open) else { continue };
                let ino = T::file_of(&open).1;
                if !of(ino) {
                    continue;
                }
                let lock = &wait.lock;
                let record = LockRecord {
                    ino,
                    path: T::path_of(&open),
                    family: lock.family,
                    owner: (lock.family == LockFamily::Range).then_some(lock.owner),
                    kind: lock.kind,
                    range: match lock.family {
                        LockFamily::Range => lock.range,
                        LockFamily::Flock => LockRange::ALL,
                    },
                    taking: match lock.taking.pid {
                        0 => Taking { pid: wait.pid, ..lock.taking },
                        _ => lock.taking,
                    },
                    since: wait.since,
                };
                let entry = self.record(record, true);
                awaited.push(v1::LockEntry { holder: Some(holder.clone()), ..entry });
            }
        }
        held.append(&mut awaited);
        held
    }

    fn record(&self, record: LockRecord, waits: bool) -> v1::LockEntry {
        let family = match record.family {
            LockFamily::Range => v1::LockFamily::Range,
            LockFamily::Flock => v1::LockFamily::Flock,
        };
        let kind = match record.kind {
            LockKind::Shared => v1::LockKind::Shared,
            LockKind::Exclusive => v1::LockKind::Exclusive,
            LockKind::Unlock => v1::LockKind::Unlock,
        };
        let path = record.path.unwrap_or_default();
        v1::LockEntry {
            holder: None,
            pid: record.taking.pid,
            owner: record.owner.map_or(0, |owner| owner.0),
            family: family.into(),
            kind: kind.into(),
            start: record.range.start,
            end: record.range.end,
            waits,
            age_ms: self.age(record.since),
            ino: record.ino.get(),
            path: Bytes::copy_from_slice(path.as_os_str().as_bytes()),
        }
    }

    fn holder(&self, session: &Session<T>, away: Option<Instant>) -> v1::Holder {
        let node = session.owner.node;
        v1::Holder {
            node: node_id_bytes(node),
            name: self.names.get(&node).cloned().unwrap_or_default(),
            own: session.owner.local,
            away_ms: away.map(|since| self.age(since)),
        }
    }

    /// As [`Self::holder`]; nobody for a session that has ended, whose leases end with its term.
    fn holder_of(&self, id: SessionId) -> v1::Holder {
        let found = self.sessions.iter().find(|(session, _)| session.id == id);
        found.map_or_else(v1::Holder::default, |(session, away)| self.holder(session, *away))
    }

    fn age(&self, since: Instant) -> u64 {
        millis(self.now.saturating_duration_since(since))
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

// === impl Nothing ===

impl<T: Tree> Opens<T> for Nothing<T> {
    fn find(&self, _: OpenId) -> Option<T::Open> {
        None
    }

    fn keep(&self, _: OpenId, _: T::Open) -> Result<(), Errno> {
        Err(Errno::Stale)
    }

    fn forget(&self, _: OpenId) {}

    fn tenant(&self) -> &Arc<T::Tenant> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_and_nothing_else() {
        let names = |path: &str| {
            let found = names_of(Path::new(path))?;
            Some(found.iter().map(|name| name.as_os().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names("/a/b//c/"), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(names("/"), Some(vec![]));
        assert_eq!(names("/a/../b"), None, "the other way would be another's");
    }
}
