//! `Writer`: a client that stores into pages of a file, and what others have done with the file since.

use std::path::PathBuf;
use std::time::Duration;

use mfs::types::{DataVersion, SessionId};

use super::super::session::Owner;
use super::super::tree::Anchor;
use super::Turn;

/// A file that has writers.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) writers: Vec<Writer>,
    pub(super) turn: Turn,
}

/// A writer of one file.
#[derive(Debug)]
pub(super) struct Writer {
    /// What of it the next daemon is to know.
    pub(super) known: Known,
    /// Where that is written down; `None` where there was no room.
    pub(super) noted: Option<usize>,
    /// It has lost its session: the file is to stay until it is known what it had stored.
    pub(super) anchor: Option<Anchor>,
}

/// What is known of a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rpc) struct Known {
    pub(super) owner: Owner,
    /// The session that the lease was granted to last.
    pub(super) session: SessionId,
    /// What it was granted the lease on.
    pub(super) since: DataVersion,
    /// The latest that it has made.
    pub(super) latest: DataVersion,
    pub(super) others: Others,
    /// Others had changed the file before this lease, and after an earlier one that was lost.
    pub(super) renewed: bool,
    /// It has taken a name of the file away itself.
    pub(super) removed: bool,
    /// When it was last known to hold the lease.
    pub(super) at: Duration,
    /// Where its bytes go that do not go into the file.
    pub(super) copy: Option<PathBuf>,
    /// Where the file was.
    pub(super) place: Option<PathBuf>,
}

/// What others have done with the file meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Nothing,
    /// Something beside this daemon, perhaps to its data.
    Perhaps,
    Changed,
}

// === impl File ===

impl File {
    pub(super) fn find(&mut self, owner: &Owner) -> Option<&mut Writer> {
        self.writers.iter_mut().find(|writer| writer.known.owner == *owner)
    }

    /// Something was done with the file of which nobody knows whether it changed the data.
    pub(super) fn doubt(&mut self) {
        self.writers.iter_mut().for_each(|writer| writer.known.doubt());
    }
}

// === impl Writer ===

impl Writer {
    pub(super) const fn new(known: Known) -> Self {
        Self { known, noted: None, anchor: None }
    }
}

// === impl Known ===

impl Known {
    /// A client that was granted the lease just now.
    pub(super) const fn new(
        (owner, session): (Owner, SessionId),
        version: DataVersion,
        now: Duration,
    ) -> Self {
        Self {
            owner,
            session,
            since: version,
            latest: version,
            others: Others::Nothing,
            renewed: false,
            removed: false,
            at: now,
            copy: None,
            place: None,
        }
    }

    pub(super) fn doubt(&mut self) {
        if self.others == Others::Nothing {
            self.others = Others::Perhaps;
        }
    }
}
