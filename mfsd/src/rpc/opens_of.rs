//! `OpensOf`: a session's open files as one execution sees them.

use std::sync::Arc;

use mfs::sync::Mutex;
use mfs::types::{Errno, OpenId};
use mfs::wire::{Failure, ProtocolCode, Refusal};

use super::coherence::Coherence;
use super::session::Session;
use super::tree::{Opens, Tree};

/// The open files.
pub(super) struct OpensOf<'a, T: Tree> {
    session: &'a Session<T>,
    coherence: &'a Coherence,
    tenant: Arc<T::Tenant>,
    /// The last number that was asked for and not found.
    unknown: Mutex<Option<OpenId>>,
}

// === impl OpensOf ===

impl<'a, T: Tree> OpensOf<'a, T> {
    /// Those of a session.
    ///
    /// # Errors
    /// The session has ended.
    pub(super) fn new(session: &'a Session<T>, coherence: &'a Coherence) -> Result<Self, Failure> {
        let Some(tenant) = session.tenant.lock().clone() else {
            return Err(Failure::Protocol(Refusal::new(
                ProtocolCode::UnknownSession,
                "this session has ended: greet again",
            )));
        };
        Ok(Self { session, coherence, tenant, unknown: Mutex::new(None) })
    }

    /// What to answer for an error: EBADF of a number that was not found is none of the file system's.
    pub(super) fn failure(&self, errno: Errno) -> Failure {
        match *self.unknown.lock() {
            Some(id) if errno == Errno::BadF => Failure::Protocol(Refusal::new(
                ProtocolCode::UnknownOpen,
                format!("this session has no open file {id}: open it again by its file id"),
            )),
            _ => Failure::File(errno),
        }
    }
}

impl<T: Tree> Opens<T> for OpensOf<'_, T> {
    fn find(&self, id: OpenId) -> Option<T::Open> {
        let found = self.session.opens.lock().find(id);
        if found.is_none() {
            *self.unknown.lock() = Some(id);
        }
        found
    }

    fn keep(&self, id: OpenId, file: T::Open) -> Result<(), Errno> {
        // A file that is not taken is closed here, outside the lock.
        let refused = self.session.opens.lock().add(id, file);
        refused.map_err(|_file| Errno::Stale)
    }

    fn forget(&self, id: OpenId) {
        let held = self.session.opens.lock().remove(id);
        if let Some(ino) = held.as_ref().filter(|held| held.fills).and_then(|held| held.ino) {
            self.coherence.let_length_go(self.session.id, ino);
        }
        drop(held); // closed outside the lock
    }

    fn tenant(&self) -> &Arc<T::Tenant> {
        &self.tenant
    }
}
