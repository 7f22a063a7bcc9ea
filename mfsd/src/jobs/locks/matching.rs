//! Which process and descriptor a lock belongs to. Decides by what is told to it, without I/O: whether an open
//! description holds a lock, another says (`Holds`).

use mfs::types::op::{LockHolder, LockKind, TakenLock, Taking};

use super::opened::Opened;

/// An open description: the same for all its descriptors, whichever process has them.
pub(super) type Description = usize;

/// Processes of a job, and what they have open.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// All processes, as this node numbers them.
    pub(super) processes: &'a [u32],
    /// Their pid namespace.
    pub(super) namespace: u64,
    /// That of this node.
    pub(super) of_node: u64,
    /// Their open files of one home, with their descriptions.
    pub(super) opened: &'a [(&'a Opened, Description)],
}

/// Whether a lock is the job's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    /// It is this descriptor's.
    Job(&'a Opened),
    /// It is another's.
    Another,
    /// It cannot be told.
    Unknown,
}

/// What is asked of others.
pub(super) trait Holds {
    /// Whether a process of this number is there.
    fn is_there(&self, process: u32) -> bool;
    /// Whether the description of a descriptor holds an exclusive lock; `None`: it cannot be told.
    fn holds(&self, opened: &Opened, lock: &TakenLock) -> Option<bool>;
}

// === impl Known ===

impl<'a> Known<'a> {
    /// Whose a lock is.
    pub(super) fn whose(&self, lock: &TakenLock, others: &impl Holds) -> Whose<'a> {
        match lock.taking.by {
            LockHolder::Process => self.of_process(lock, others),
            LockHolder::Description => self.of_description(lock, others),
        }
    }

    /// A process that locks has the file open, and loses its locks when it closes any descriptor of it.
    fn of_process(&self, lock: &TakenLock, others: &impl Holds) -> Whose<'a> {
        if let Some(whose) = self.anothers(lock, others) {
            return whose;
        }
        let mut of_file = self.opens_of(lock);
        let pid = lock.taking.pid;
        let fits = |opened: &&Opened| opened.process == pid && permits(opened, lock.kind);
        of_file.find(fits).map_or(Whose::Unknown, Whose::Job)
    }

    /// Who took it may have closed its descriptor or ended, and others have the description: so flock(1) does for a
    /// shell.
    fn of_description(&self, lock: &TakenLock, others: &impl Holds) -> Whose<'a> {
        if let Some(whose) = self.anothers(lock, others) {
            return whose;
        }
        let mut descriptions: Vec<(Description, &Opened)> = Vec::new();
        for (opened, description) in self.opened.iter().filter(|(o, _)| is_of(o, lock)) {
            if descriptions.iter().all(|(known, _)| known != description) {
                descriptions.push((*description, opened));
            }
        }
        match descriptions[..] {
            [(_, opened)] => Whose::Job(opened),
            _ if lock.kind == LockKind::Exclusive => {
                let holder = descriptions.iter().find(|(_, o)| others.holds(o, lock) == Some(true));
                holder.map_or(Whose::Unknown, |(_, opened)| Whose::Job(opened))
            }
            _ => Whose::Unknown,
        }
    }

    /// What is to be said of a lock that no process of the job has taken.
    fn anothers(&self, lock: &TakenLock, others: &impl Holds) -> Option<Whose<'a>> {
        let Taking { pid, namespace, .. } = lock.taking;
        if namespace == self.namespace || self.processes.contains(&pid) {
            return None;
        }
        // Who has ended may have lived in a namespace within the job's.
        let is_told = namespace == self.of_node || others.is_there(pid);
        Some(if is_told { Whose::Another } else { Whose::Unknown })
    }

    fn opens_of(&self, lock: &TakenLock) -> impl Iterator<Item = &'a Opened> {
        let ino = lock.ino.get();
        self.opened.iter().map(|(opened, _)| *opened).filter(move |opened| opened.ino == ino)
    }
}

fn is_of(opened: &Opened, lock: &TakenLock) -> bool {
    opened.ino == lock.ino.get()
}

fn permits(opened: &Opened, kind: LockKind) -> bool {
    let [reads, writes] = opened.access;
    match kind {
        LockKind::Shared => reads,
        LockKind::Exclusive => writes,
        LockKind::Unlock => false,
    }
}

#[cfg(test)]
mod tests {
    use mfs::types::op::{LockFamily, LockRange};
    use mfs::types::{InodeNo, LockOwner};

    use super::*;

    /// Processes 1 to 9 are there; the description of descriptor `fd` holds what is asked for.
    struct Only(Option<i32>);

    impl Holds for Only {
        fn is_there(&self, process: u32) -> bool {
            process < 10
        }

        fn holds(&self, opened: &Opened, _: &TakenLock) -> Option<bool> {
            self.0.map(|fd| opened.fd == fd)
        }
    }

    fn opened(process: u32, fd: i32, access: [bool; 2]) -> Opened {
        Opened { process, fd, ino: 1, home: "n1".into(), path: "/x".into(), access }
    }

    const JOB: u64 = 100;
    const NODE: u64 = 200;

    fn known<'a>(opened: &'a [(&'a Opened, Description)]) -> Known<'a> {
        Known { processes: &[2, 3], namespace: JOB, of_node: NODE, opened }
    }

    fn lock((pid, namespace): (u32, u64), by: LockHolder, kind: LockKind) -> TakenLock {
        TakenLock {
            ino: InodeNo::FIRST,
            family: LockFamily::Range,
            owner: LockOwner(1),
            kind,
            range: LockRange::ALL,
            taking: Taking { pid, namespace, by, parked: None },
        }
    }

    const NOBODY: Only = Only(Some(-1));

    #[test]
    fn a_lock_of_a_process_goes_to_a_descriptor_that_may_have_it() {
        let (reads, writes) = (opened(2, 3, [true, false]), opened(2, 4, [true, true]));
        let all = [(&reads, 0), (&writes, 1)];
        let whose =
            |taker, kind| known(&all).whose(&lock(taker, LockHolder::Process, kind), &NOBODY);
        assert_eq!(whose((2, JOB), LockKind::Exclusive), Whose::Job(&writes));
        assert_eq!(whose((2, JOB), LockKind::Shared), Whose::Job(&reads));
        assert_eq!(whose((3, JOB), LockKind::Shared), Whose::Unknown, "it has the file not open");
        assert_eq!(whose((17, JOB), LockKind::Shared), Whose::Unknown, "who took it is gone");
        assert_eq!(whose((5, NODE), LockKind::Shared), Whose::Another);
        assert_eq!(whose((17, NODE), LockKind::Shared), Whose::Another);
        assert_eq!(whose((5, 300), LockKind::Shared), Whose::Another);
        assert_eq!(whose((17, 300), LockKind::Shared), Whose::Unknown);
    }

    #[test]
    fn a_lock_of_a_description_goes_to_the_one_that_holds_it() {
        let [one, same, two] =
            [(2, 3), (3, 3), (3, 5)].map(|(process, fd)| opened(process, fd, [true; 2]));
        let of = |taker, kind| lock(taker, LockHolder::Description, kind);
        let single = [(&one, 7), (&same, 7)];
        assert_eq!(
            known(&single).whose(&of((2, JOB), LockKind::Shared), &NOBODY),
            Whose::Job(&one)
        );
        // Who took it is gone, and left it to others.
        assert_eq!(
            known(&single).whose(&of((17, JOB), LockKind::Shared), &NOBODY),
            Whose::Job(&one)
        );
        assert_eq!(
            known(&single).whose(&of((5, NODE), LockKind::Exclusive), &NOBODY),
            Whose::Another
        );
        let several = [(&one, 7), (&same, 7), (&two, 8)];
        let whose = |taker, kind, others| known(&several).whose(&of(taker, kind), &others);
        assert_eq!(whose((3, JOB), LockKind::Exclusive, Only(Some(5))), Whose::Job(&two));
        assert_eq!(whose((3, JOB), LockKind::Exclusive, Only(None)), Whose::Unknown);
        assert_eq!(whose((3, JOB), LockKind::Shared, NOBODY), Whose::Unknown);
        assert_eq!(whose((5, NODE), LockKind::Shared, NOBODY), Whose::Another);
    }
}
