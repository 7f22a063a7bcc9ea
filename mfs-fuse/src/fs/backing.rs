//! `Backing`: what stands behind a file of a mount, its node's server or the file itself.

use std::sync::Arc;
use std::time::Duration;

use mfs::client::Answered;
use mfs::types::op::{Call, Entry};
use mfs::types::{Caller, Errno, OpenId};

use super::local::Local;
use super::process::Asker;
use super::remote::Remote;

/// The way to a node's files. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Backing {
    /// Through the node's mfsd.
    Remote(Remote),
    /// Directly: the files are this node's (dfsa=1).
    Local(Arc<Local>),
}

/// On whose behalf something is asked of a backing.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The thread that waits for it, whose signals are watched.
    pub asker: Asker,
    /// The identity it is done with.
    pub caller: &'a Caller,
    /// Whether any signal of the asker ends the wait, as with a lock; else only one that kills it.
    pub on_signal: bool,
}

/// How long operations wait for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Longest wait of one operation (`timeo=`).
    pub timeo: Duration,
    /// Wait for ever for a node that is away, until the caller is killed (`hard`).
    pub hard: bool,
}

// === impl Origin ===

impl<'a> Origin<'a> {
    /// On behalf of this thread, until it is killed.
    pub const fn of(asker: Asker, caller: &'a Caller) -> Self {
        Self { asker, caller, on_signal: false }
    }
}

// === impl Backing ===

impl Backing {
    /// Executes one operation.
    ///
    /// # Errors
    /// What the home node's file system said; EHOSTDOWN, ETIMEDOUT where the node does not answer; EINTR
    /// where it was waited for and the caller was killed.
    pub async fn call<C: Call>(&self, origin: &Origin<'_>, call: C) -> Result<C::Output, Errno> {
        match self {
            Self::Remote(remote) => remote.call(origin, call).await,
            Self::Local(local) => local.call(origin, call).await,
        }
    }

    /// As [`Self::call`], with the leases that came with the answer; directly there are none.
    pub async fn call_leased<C: Call>(&self, origin: &Origin<'_>, call: C) -> Answered<C::Output> {
        match self {
            Self::Remote(remote) => remote.call_leased(origin, call).await,
            Self::Local(local) => Answered::without(local.call(origin, call).await),
        }
    }

    /// The root of the node's tree.
    pub async fn root(&self, origin: &Origin<'_>) -> Result<Entry, Errno> {
        match self {
            Self::Remote(remote) => remote.root(origin).await,
            Self::Local(local) => local.root().await,
        }
    }

    /// A name for an open that is to be made.
    pub fn new_open(&self) -> OpenId {
        match self {
            Self::Remote(remote) => remote.new_open(),
            Self::Local(local) => local.new_open(),
        }
    }

    /// Whether opens of both are known to the same side, so that one operation may name two of them.
    pub fn is_same_way(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Remote(_), Self::Remote(_)) | (Self::Local(_), Self::Local(_))
        )
    }
}
