//! Of which home and of which user a process is a job.
//!
//! Jobs descend from a keeper, `mfs-init keep HOME UID GID GROUPS`, which mfsd starts as root; so does CRIU, when
//! it images a job (`mfs-init call HOME UID GID GROUPS ...`). Whoever is no keeper of root's has a name of their own
//! choice and is not believed.

use std::fs;

use mfs::types::{Caller, NodeName};

use super::process::{Asker, ProcessId};

/// The name of a keeper's program, and its first argument.
const PROGRAM: &[u8] = b"mfs-init";
const ROLES: [&[u8]; 2] = [b"keep", b"call"];

/// What a keeper says of its job.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    home: NodeName,
    user: Caller,
}

// === impl Asker ===

impl Asker {
    /// The home of the job that the process belongs to; `None` for a process that is none.
    pub fn home(self) -> Option<NodeName> {
        self.kept().map(|kept| kept.home)
    }

    /// The user of the job that the process belongs to, or acts for, if that is not root.
    pub fn job_user(self) -> Option<Caller> {
        self.kept().map(|kept| kept.user).filter(|user| user.uid != 0)
    }

    fn kept(self) -> Option<Kept> {
        self.process()?.lineage().find_map(kept_by)
    }
}

fn kept_by(process: ProcessId) -> Option<Kept> {
    let command = fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
    let kept = parse(&command)?;
    process.is_roots().then_some(kept)
}

/// What stands in a keeper's command (proc_pid_cmdline(5)).
fn parse(command: &[u8]) -> Option<Kept> {
    let mut words = command.split(|byte| *byte == 0);
    let program = words.next()?.rsplit(|byte| *byte == b'/').next()?;
    if program != PROGRAM || !ROLES.contains(&words.next()?) {
        return None;
    }
    let mut texts = words.map(std::str::from_utf8);
    let mut next = || texts.next()?.ok();
    let home = NodeName::parse(next()?).ok()?;
    let (uid, gid) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let groups = next()?.split(',').filter(|group| !group.is_empty());
    let groups: Result<Vec<u32>, _> = groups.map(str::parse).collect();
    Some(Kept { home, user: Caller::user(uid, gid, &groups.ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepers_name_their_home_and_user() {
        let kept = parse(b"/usr/lib/mfs/mfs-init\0keep\0anna\x001000\x001001\x0044,7\0").unwrap();
        assert_eq!(kept.home.as_str(), "anna");
        assert_eq!(kept.user, Caller::user(1000, 1001, &[44, 7]));
        let bare = parse(b"mfs-init\0call\0anna\x001\x002\0\0/usr/sbin/criu\0").unwrap();
        assert_eq!(bare.user, Caller::user(1, 2, &[]));
        for other in [
            &b"/usr/lib/mfs/mfs-init\0keep\0"[..],
            b"mfs-init\0keep\0anna\0",
            b"mfs-init\0keep\0home\x001\x001\0\0",
            b"mfs-init\0keep\0anna\0x\x001\0\0",
            b"mfs-init\0first\0anna\x001\x001\0\0",
            b"sh\0keep\0anna\x001\x001\0\0",
            b"",
        ] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn this_process_is_no_job() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        assert_eq!(Asker { uid: 0, gid: 0, tid }.home(), None);
    }
}
