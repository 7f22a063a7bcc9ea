//! What became longer, and whose kernels must see that.

use mfs::clock;
use mfs::lease::{Lengths, Told};
use mfs::telemetry::metrics as m;
use mfs::types::{InodeNo, Leases, SessionId};
use smallvec::SmallVec;

use super::{Coherence, Continuation, Inner};

// === impl Coherence ===

impl Coherence {
    /// A session keeps pages of a file through one more open, if `new` says so.
    pub(in crate::rpc) fn keep_length(
        &self,
        session: SessionId,
        new: impl FnOnce() -> Option<InodeNo>,
    ) {
        let mut inner = self.inner.lock();
        // Asked under the lock: an open that is being closed either is closed now, or lets go after this.
        if let Some(ino) = new() {
            inner.lengths.keep(session, ino);
        }
    }

    /// A session has closed an open through which it kept pages of a file.
    pub(in crate::rpc) fn let_length_go(&self, session: SessionId, ino: InodeNo) {
        self.tell(|lengths| lengths.let_go(session, ino));
    }

    /// Whether kernels of other sessions must see when the file becomes longer.
    pub(in crate::rpc) fn is_length_kept(&self, ino: InodeNo, session: SessionId) -> bool {
        self.inner.lock().lengths.concern(ino, Some(session))
    }

    /// A session has made a file longer; `go_on` is called when all other kernels that keep pages of it have
    /// seen that.
    pub(in crate::rpc) fn grew(
        &self,
        ino: InodeNo,
        session: SessionId,
        go_on: impl FnOnce() + Send + 'static,
    ) {
        let mut inner = self.inner.lock();
        let mut told = Vec::new();
        let growth = inner.lengths.grow(clock::since_boot(), ino, Some(session), &mut told);
        inner.growing.insert(growth, Box::new(go_on));
        let seen = inner.tell(told);
        drop(inner);
        seen.into_iter().for_each(|go_on| go_on());
    }

    /// Somebody who asks nobody may have made a file longer.
    pub(super) fn grew_unasked(&self, ino: InodeNo) {
        self.tell(|lengths| {
            let mut told = Vec::new();
            if lengths.concern(ino, None) {
                lengths.grow(clock::since_boot(), ino, None, &mut told);
            }
            told
        });
    }

    pub(super) fn tell(&self, step: impl FnOnce(&mut Lengths) -> Vec<Told>) {
        let mut inner = self.inner.lock();
        let told = step(&mut inner.lengths);
        let seen = inner.tell(told);
        drop(inner);
        seen.into_iter().for_each(|go_on| go_on());
    }
}

// === impl Inner ===

impl Inner {
    /// Tells sessions what became longer. What goes on now, to be run without the lock.
    pub(super) fn tell(&mut self, told: Vec<Told>) -> SmallVec<[Continuation; 1]> {
        let mut seen = SmallVec::new();
        for told in told {
            match told {
                Told::Tell(session, id, ino) => {
                    m::SERVER_RECALLS.add_one();
                    self.recall(session, id, &[(ino, Leases::LENGTH)]);
                }
                Told::Seen(growth) => seen.extend(self.growing.remove(&growth)),
            }
        }
        seen
    }
}
