//! Of which home a process is a job.
//!
//! Jobs descend from a keeper, `mfs-init keep HOME`, which mfsd starts as root. Whoever is no keeper of root's has
//! a name of their own choice and is not believed.

use std::fs;

use mfs::types::NodeName;

use super::process::{Asker, ProcessId};

/// The name of a keeper's program, and its first argument.
const PROGRAM: &[u8] = b"mfs-init";
const KEEP: &[u8] = b"keep";

// === impl Asker ===

impl Asker {
    /// The home of the job that the process belongs to; `None` for a process that is none.
    pub fn home(self) -> Option<NodeName> {
        self.process()?.lineage().find_map(home_of_keeper)
    }
}

fn home_of_keeper(process: ProcessId) -> Option<NodeName> {
    let command = fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
    let home = parse(&command)?;
    process.is_roots().then_some(home)
}

/// The home in a keeper's command (proc_pid_cmdline(5)).
fn parse(command: &[u8]) -> Option<NodeName> {
    let mut words = command.split(|byte| *byte == 0);
    let program = words.next()?.rsplit(|byte| *byte == b'/').next()?;
    if program != PROGRAM || words.next()? != KEEP {
        return None;
    }
    NodeName::parse(std::str::from_utf8(words.next()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepers_name_their_home() {
        let home = |command: &[u8]| parse(command).map(|home| home.to_string());
        assert_eq!(home(b"/usr/lib/mfs/mfs-init\0keep\0anna\0").as_deref(), Some("anna"));
        for other in [
            &b"/usr/lib/mfs/mfs-init\0keep\0"[..],
            b"mfs-init\0keep\0home\0",
            b"mfs-init\0first\0anna\0",
            b"sh\0keep\0anna\0",
            b"",
        ] {
            assert_eq!(home(other), None);
        }
    }

    #[test]
    fn this_process_is_no_job() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        assert_eq!(Asker { uid: 0, gid: 0, tid }.home(), None);
    }
}
