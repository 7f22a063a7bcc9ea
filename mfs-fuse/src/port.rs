//! `Port`: where requests of the kernel are answered, at once or from tokio. What each of them means is in
//! `dispatch`.

use std::future::Future;
use std::sync::Arc;

use mfs::telemetry::metrics::{MOUNT_REQUESTS, MOUNT_REQUESTS_WAITING};
use mfs::types::Errno;

use crate::fs::MountedFs;
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
}

// === impl Port ===

impl Port {
    /// Runs an operation on tokio and sends its answer from there.
    ///
    /// If it panics, tokio drops it and with it the unused reply, which answers EIO; nothing else is hurt.
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
            let result = work(fs).await;
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

    pub(crate) fn open_reply<R>(&self, reply: R) -> OpenReply<R> {
        OpenReply { reply, passthrough: self.passthrough.clone() }
    }
}
