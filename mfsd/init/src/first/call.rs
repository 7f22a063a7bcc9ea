//! Calls of CRIU in the name of a job's user: real ids are the user's, and root in effect. The command line of the
//! caller says to the mount whose job it is, so that CRIU may do with the user's files what the user may.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::sys;

/// What CRIU has found out about the kernel, which it only can as root in every respect (libnftables).
const KNOWN: &str = "/run/criu.kdat";

/// A job's user, as the daemon names them behind the role and the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobUser {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Calls it; ends as it ends. `None`: nobody has called as the daemon does.
pub(super) fn run(mut words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let user = JobUser::parse(&mut words)?;
    let mut command = Command::new(words.next()?);
    command.args(words);
    user.lend(&mut command);
    let status = command.status().ok()?.code();
    Some(ExitCode::from(status.map_or(128, |status| (status & 0xff) as u8)))
}

// === impl JobUser ===

impl JobUser {
    /// In the words behind the home; `None`: nobody is named there.
    pub(super) fn parse(words: &mut impl Iterator<Item = OsString>) -> Option<Self> {
        let mut text = || words.next()?.into_string().ok();
        let (uid, gid) = (text()?.parse().ok()?, text()?.parse().ok()?);
        let groups = text()?;
        let groups = groups.split(',').filter(|group| !group.is_empty());
        let groups: Result<Vec<u32>, _> = groups.map(str::parse).collect();
        Some(Self { uid, gid, groups: groups.ok()? })
    }

    /// Has a program run with their real ids, where it is able to.
    pub(super) fn lend(self, command: &mut Command) {
        if self.uid != 0 && Path::new(KNOWN).is_file() {
            sys::lend_real_ids(command, self.uid, self.gid, self.groups);
        }
    }
}
