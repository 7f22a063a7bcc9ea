//! Who of this machine, beside this process, has a file open. Nothing tells what is loaded or stored through a
//! local mapping; but without an open file there is none.
//!
//! The kernel counts the opens of a file for leases of its own (fcntl(2), F_SETLEASE), and compares the count
//! with that of the descriptor that asks. So it can be told while this process has the file open once; with
//! more, whether somebody writes it, as long as none of its own does.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::{Export, kernel_lease};
use crate::types::FileId;

/// What other processes of this machine have a file open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalUse {
    /// They have not.
    None,
    /// To read it.
    Reads,
    /// To write it, or it is not known what for.
    Writes,
    /// Not to write it; whether to read it cannot be told.
    Unwritten,
    /// It cannot be told.
    Unknown,
}

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

// === impl Export ===

impl Export {
    /// What others of this machine have a file open for, which this process has open. An open of this process
    /// that is just being made, and not noted yet, looks the same as one of another; so it is looked `looks`
    /// times, a millisecond apart, before somebody is believed to have the file open. May block.
    pub fn local_use(&self, file: &FileId, looks: usize) -> LocalUse {
        let mut seen = LocalUse::Unknown;
        if !self.tree.abilities.leases {
            return seen;
        }
        for look in 0..looks {
            if look > 0 {
                #[allow(clippy::disallowed_methods)] // on a thread that may block
                std::thread::sleep(PAUSE);
            }
            seen = self.tree.kernel_leases.local_use(&self.tree.opens.all(file));
            if matches!(seen, LocalUse::None | LocalUse::Unwritten | LocalUse::Unknown) {
                break;
            }
        }
        seen
    }
}

/// As the kernel counts for these descriptors of a file; `is_leased` says of which it knows a lease for reading.
pub(super) fn of(own: &[Arc<OwnedFd>], is_leased: impl Fn(&Arc<OwnedFd>) -> bool) -> LocalUse {
    let writes = |fd: &Arc<OwnedFd>| {
        let mode = rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::RWMODE);
        mode != Ok(OFlags::RDONLY)
    };
    let Some(one) = own.first() else { return LocalUse::Unknown };
    let is_single = own.len() == 1;
    if is_single {
        match kernel_lease::is_open_elsewhere(one.as_fd(), is_leased(one)) {
            Ok(true) => {}
            Ok(false) => return LocalUse::None,
            Err(_) => return LocalUse::Unknown,
        }
    }
    if own.iter().any(writes) {
        return if is_single { LocalUse::Writes } else { LocalUse::Unknown };
    }
    if own.iter().any(is_leased) {
        // Nobody writes it then.
        return if is_single { LocalUse::Reads } else { LocalUse::Unwritten };
    }
    match kernel_lease::is_open_for_writing(one.as_fd()) {
        Ok(true) => LocalUse::Writes,
        Ok(false) if is_single => LocalUse::Reads,
        Ok(false) => LocalUse::Unwritten,
        Err(_) => LocalUse::Unknown,
    }
}
