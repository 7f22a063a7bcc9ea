//! The daemon of a mount: puts the parts together, serves until the mount is gone, and clears up.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mfs::clock::since_boot;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Follower;
use crate::fs::pages::LOOK;
use crate::fs::{MountedFs, Terms};
use crate::guardian::Guardian;
use crate::mount::MountConfig;
use crate::restorer::Mfsd;
use crate::session::{self, KernelMount, Place};

/// Longest time given at the end to tell nodes that their files are closed; sessions end by themselves.
const FAREWELL: Duration = Duration::from_secs(2);

/// Longest wait for the first word of an mfsd that is there but does not speak.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// Mounts, calls `ready` when the mount answers, and returns when it is gone.
///
/// # Errors
/// There is no mount, with the reason; or the kernel broke the session off.
pub fn serve(config: MountConfig, ready: &mut dyn FnMut()) -> anyhow::Result<()> {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!("a part of mfs-fuse failed, please report this: {panic}\n{backtrace}");
    }));
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("mfs-mount")
        .enable_all()
        .build()
        .context("the threads of the mount could not be started")?;
    let fs = MountedFs::new(Terms { timeo: config.timeout, hard: config.hard });
    fs.restored.ask(Arc::new(Mfsd::new(config.runtime.clone())));
    let place = Place {
        source: &config.source,
        mountpoint: &config.mountpoint,
        flags: config.flags,
        backing_files: config.direct_access,
        guarded: true,
    };
    let mount = KernelMount::begin(fs.clone(), &place, runtime.handle().clone())?;
    tracing::info!(mountpoint = %config.mountpoint.display(), "mounted");
    runtime.spawn(look_at_leases(fs.clone(), mount.guardian()));
    runtime.spawn(detach_on_signal(config.mountpoint.clone()));
    let (heard, first_word) = tokio::sync::oneshot::channel();
    runtime.spawn(Follower::new(fs.clone(), config.clone()).run(heard));
    // With mfsd at hand, who mounts finds the nodes there; without it nothing is waited for.
    runtime.block_on(async {
        if tokio::time::timeout(FIRST_WORD, first_word).await.is_err() {
            tracing::info!("mfsd is there but says nothing yet");
        }
    });
    ready();
    let ended = mount.wait().context("the kernel broke off the mount");
    runtime.block_on(say_farewell(fs));
    runtime.shutdown_background();
    tracing::info!(mountpoint = %config.mountpoint.display(), "unmounted");
    ended
}

/// Direct access holds a descriptor for each open file; the soft limit is meant for programs that use
/// select(2).
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit on descriptors stays as it is");
    }
}

/// What the kernel keeps on lease is let go in time, also when no node says anything any more.
async fn look_at_leases(fs: Arc<MountedFs>, guardian: Option<Arc<Guardian>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(guardian) = &guardian {
            guardian.beat(since_boot());
        }
        fs.cache.look(since_boot());
    }
}

async fn say_farewell(fs: Arc<MountedFs>) {
    if tokio::time::timeout(FAREWELL, fs.release_all()).await.is_err() {
        tracing::debug!(
            "not every open could be released; the nodes end the session by themselves"
        );
    }
}

/// Whoever ends the daemon wants the mount to go: it goes when its last user does.
async fn detach_on_signal(mountpoint: std::path::PathBuf) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be caught; end the mount with umount");
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // On a thread of its own: taking a mount away waits for requests that are under way.
        let place = mountpoint.clone();
        let detached = tokio::task::spawn_blocking(move || session::detach(&place)).await;
        if detached.is_err() {
            tracing::error!("the mount could not be taken away");
        }
    }
}
