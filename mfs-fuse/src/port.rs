//! `Port`: what every request of the kernel needs, and the way from a reader thread to tokio and back.
//!
//! Not here: the requests themselves (`dispatch`).

use std::future::Future;
use std::sync::Arc;

use mfs::telemetry::metrics::{MOUNT_REQUESTS, MOUNT_REQUESTS_WAITING};
use mfs::types::{Access, Errno, InodeNo, OpenFlags};

use crate::contain;
use crate::fs::handle_map::{Fh, Leaving};
use crate::fs::process::Asker;
use crate::fs::{MountedFs, Opened};
use crate::passthrough::{OpenReply, Passthrough};
use crate::reply::{self, Reply};

/// The kernel's port to a mounted cluster.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) fs: Arc<MountedFs>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) passthrough: Arc<Passthrough>,
    /// How deep file systems may be stacked below backing files: 1, or 2 where the root is an overlay; 0
    /// where no file is given to the kernel.
    pub(crate) stack_depth: u32,
    /// What every open is given besides what it asks for itself: the mount's `sync`.
    pub(crate) always: OpenFlags,
}

// === impl Port ===

impl Port {
    /// Runs an operation on tokio and sends its answer from there.
    ///
    /// If it panics, EIO is the answer; nothing else is hurt.
    pub(crate) fn answer<T, R, F, W>(&self, name: &'static str, reply: R, work: W)
    where
        T: Send + 'static,
        R: Reply<T>,
        F: Future<Output = Result<T, Errno>> + Send,
        W: FnOnce(Arc<MountedFs>) -> F + Send + 'static,
    {
        MOUNT_REQUESTS.add_one();
        let waiting = MOUNT_REQUESTS_WAITING.hold();
        let fs = self.fs.clone();
        self.runtime.spawn(async move {
            let result = contain::operation(name, work(fs)).await;
            drop(waiting);
            reply::finish(name, reply, result);
        });
    }

    /// Answers at once what is known here.
    pub(crate) fn answer_known<T, R: Reply<T>>(
        name: &'static str,
        reply: R,
        result: Result<T, Errno>,
    ) {
        MOUNT_REQUESTS.add_one();
        reply::finish(name, reply, result);
    }

    /// The open is out of the table before the next request is read; its home is told afterwards.
    pub(crate) fn release_open(&self, name: &'static str, fh: Fh, reply: impl Reply<()>) {
        let leaving = self.fs.let_go(fh);
        if !leaving.as_ref().is_some_and(Leaving::end) {
            return Self::answer_known(name, reply, Ok(()));
        }
        self.answer(name, reply, move |fs| async move {
            if let Some(leaving) = leaving {
                fs.release(leaving).await;
            }
            Ok(())
        });
    }

    /// An open without its home. One that is given up again before the kernel hears of it is ended.
    pub(crate) fn known_open(
        &self,
        asker: Asker,
        ino: InodeNo,
        access: Access,
        flags: OpenFlags,
    ) -> Option<Opened> {
        match self.fs.known_open(asker, ino, access, flags)? {
            Ok(opened) => Some(opened),
            Err(given_up) => {
                if given_up.end() {
                    let fs = self.fs.clone();
                    self.runtime.spawn(async move { fs.release(given_up).await });
                }
                None
            }
        }
    }

    /// The answer to an open, which may give the file to the kernel.
    pub(crate) fn open_reply<R>(&self, reply: R) -> OpenReply<R> {
        OpenReply { reply, passthrough: self.passthrough.clone() }
    }
}
