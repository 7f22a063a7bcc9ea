//! `Guardian`: a process beside the daemon of a mount, which has the kernel drop the pages that the daemon
//! keeps on lease, if the daemon itself does not get round to it.
//!
//! A daemon that is stopped, or starved, cannot let go of what it holds, and its nodes wait for it only until
//! the lease is over. read(2) asks the daemon and so waits for it; but what is mapped, and what is sent
//! (sendfile(2)), comes from the kernel alone and would be old. So the daemon says all the time that it lives,
//! and which files it keeps; when it has said nothing for `SILENCE`, which is shorter than what is left of
//! any lease by then, the guardian tells the kernel to drop them. Whoever wants them then waits for the daemon.
//!
//! Files with pages that may have been stored into are left out: to drop them is to write them back, which
//! the daemon would have to do.
//!
//! The guardian gets three descriptors and no more: a pipe that closes when the daemon ends, the mount's
//! /dev/fuse, and the table. It must end with the daemon, or the kernel would take the mount for alive.

mod table;

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mfs::clock::since_boot;
use mfs::sync::Mutex;
use mfs::types::InodeNo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::UnmountFlags;

pub use self::table::Table;

/// What the process calls itself, and by which `main` knows that it is one.
pub const NAME: &str = "mfs-guardian";

/// How long the daemon may be silent. A session's lease is longer by far, also when its last message was
/// sent a while before (`mfs::lease`).
const SILENCE: Duration = Duration::from_secs(3);

/// How often the table is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Files that are dropped at the same time: one of which a read is under way waits for the daemon.
const HANDS: usize = 32;

/// FUSE_NOTIFY_INVAL_INODE of <linux/fuse.h>.
const INVALIDATE_INODE: i32 = 2;

/// The daemon's side: keeps a guardian running. Dropped, it ends it.
#[derive(Debug)]
pub struct Guardian {
    table: Arc<Table>,
    device: OwnedFd,
    mountpoint: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    /// Closed with the daemon.
    life: PipeWriter,
}

// === impl Guardian ===

impl Guardian {
    /// Starts the guardian of the mount behind `device`.
    ///
    /// # Errors
    /// No memory or no process. The mount works without it.
    pub fn start(device: OwnedFd, mountpoint: &Path) -> io::Result<Self> {
        let guardian = Self {
            table: Arc::new(Table::new()?),
            device,
            mountpoint: mountpoint.to_owned(),
            running: Mutex::new(None),
        };
        guardian.table.beat(since_boot());
        *guardian.running.lock() = Some(guardian.spawn()?);
        Ok(guardian)
    }

    /// Where the files are written down that the daemon keeps.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// The daemon lives. To be called several times within `SILENCE`. A guardian that is gone is replaced.
    pub fn beat(&self, now: Duration) {
        self.table.beat(now);
        let mut running = self.running.lock();
        let is_gone = |running: &mut Running| !matches!(running.process.try_wait(), Ok(None));
        if running.as_mut().is_none_or(is_gone) {
            tracing::warn!("the guardian of the mount is gone: another is started");
            *running = self.spawn().inspect_err(|error| tracing::warn!(%error, "not started")).ok();
        }
    }

    fn spawn(&self) -> io::Result<Running> {
        let (life, ours) = io::pipe()?;
        let process = Command::new(std::env::current_exe()?)
            .arg0(NAME)
            .arg(&self.mountpoint)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(life)))
            .stdout(Stdio::from(self.device.try_clone()?))
            .stderr(Stdio::from(self.table.descriptor()?))
            .spawn()?;
        Ok(Running { process, life: ours })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Some(Running { mut process, life }) = self.running.lock().take() {
            drop(life);
            let _ = process.wait(); // it has nothing else to do
        }
    }
}

/// The guardian itself, started by [`Guardian`]: watches until the daemon ends.
pub fn run(mountpoint: Option<std::ffi::OsString>) -> ExitCode {
    let (Some(mountpoint), Ok((device, table))) = (mountpoint, descriptors()) else {
        return ExitCode::FAILURE;
    };
    let _ = rustix::thread::set_name(c"mfs-guardian"); // for ps(1) only
    let (device, dropping) = (Arc::new(device), Arc::new(AtomicUsize::new(0)));
    let mut done_at = None;
    while lives() {
        let Ok((beat, kept)) = table::read(&table) else { continue };
        if since_boot().saturating_sub(beat) < SILENCE || done_at == Some(beat) {
            continue;
        }
        // Once for each silence: without the daemon nothing new comes.
        done_at = Some(beat);
        for share in kept.chunks(kept.len().div_ceil(HANDS).max(1)) {
            let (share, device, dropping) =
                (share.to_vec(), Arc::clone(&device), Arc::clone(&dropping));
            dropping.fetch_add(1, Ordering::AcqRel);
            std::thread::spawn(move || {
                share.iter().for_each(|ino| invalidate(&device, *ino));
                dropping.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }
    if dropping.load(Ordering::Acquire) > 0 {
        // A hand that waits for the daemon cannot end, and keeps the device open: the kernel would not
        // notice that the daemon is gone.
        let _ = rustix::mount::unmount(Path::new(&mountpoint), UnmountFlags::FORCE);
    }
    ExitCode::SUCCESS
}

/// Waits for the next look; `false` if the daemon has ended.
fn lives() -> bool {
    let input = io::stdin();
    let mut ends = [PollFd::new(&input, PollFlags::IN)];
    let wait = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as _ };
    match poll(&mut ends, Some(&wait)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => true,
        Ok(_) | Err(_) => false,
    }
}

fn descriptors() -> io::Result<(File, File)> {
    let device = io::stdout().as_fd().try_clone_to_owned()?;
    let table = io::stderr().as_fd().try_clone_to_owned()?;
    Ok((device.into(), table.into()))
}

/// Has the kernel drop a file's pages; `struct fuse_notify_inval_inode_out` behind `struct fuse_out_header`.
fn invalidate(mut device: &File, ino: InodeNo) {
    let mut message = Vec::with_capacity(40);
    message.extend_from_slice(&40_u32.to_ne_bytes());
    message.extend_from_slice(&INVALIDATE_INODE.to_ne_bytes());
    for field in [0, ino.get(), 0, 0] {
        message.extend_from_slice(&field.to_ne_bytes());
    }
    // ENOENT: the kernel has forgotten the file. There is nobody to tell anything else.
    let _ = device.write(&message);
}
