//! The kernel session of a mount: opens /dev/fuse, mounts with mount(2), serves until the mount is gone.
//!
//! Mounted by ourselves and not by fuser, so that the type is `fuse.mfs`, the source is that of the fstab
//! line, and the place can be detached later.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{Session, SessionACL};
use mfs::types::{FileName, InodeNo, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::contain::Contained;
use crate::fs::pages::PageCache;
use crate::fs::{MountedFs, NameCache};
use crate::guardian::{Guardian, Table};
use crate::lengths;
use crate::passthrough::Passthrough;
use crate::port::Port;
use crate::request_size::{self, MAX_READ};

/// The type of these mounts, as findmnt(8) shows it.
pub const FILE_SYSTEM_TYPE: &str = "fuse.mfs";

/// Threads that take requests from the kernel: at least as many, so that a slow start of one does not hold
/// up the others.
const MIN_READERS: usize = 4;

/// How far the kernel reads ahead of a mapping, KiB. Its default of 128 is an eighth of one request.
const READ_AHEAD_KIB: u32 = 4_096;

/// How long a directory is looked up again and again that was found at a new place: another rename may be in
/// the way each time, but not always.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// How deep backing files may lie in stacked file systems: not at all. A mapping of a backing file that lies on
/// an overlay shows up under a mount of this process's namespace, since Linux shows only one step of a stack
/// under its own name (`file_user_path`, 6.18); no image of a job that runs from it could be made. With more
/// than 1, besides, nothing could be stacked on this mount.
const STACK_DEPTH: u32 = 1;

/// Where and how to mount.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// First field of the fstab line.
    pub source: &'a OsStr,
    /// An existing directory, absolute.
    pub mountpoint: &'a Path,
    /// Flags of mount(2).
    pub flags: MountFlags,
    /// Whether local files may be given to the kernel as backing files (dfsa=1).
    pub backing_files: bool,
    /// Whether the mount gets a guardian; the program must be able to be one.
    pub guarded: bool,
}

/// A mount that answers. Dropping it leaves the mount and its threads alone.
#[derive(Debug)]
pub struct KernelMount {
    mountpoint: PathBuf,
    readers: JoinHandle<io::Result<()>>,
    guardian: Option<Arc<Guardian>>,
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No device.
    #[error("/dev/fuse cannot be opened ({0}): modprobe fuse")]
    Device(io::Error),
    /// mount(2) failed.
    #[error("cannot mount on {}: {error}{}", .mountpoint.display(), remedy(.error))]
    Mount {
        /// Where.
        mountpoint: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The source holds a NUL.
    #[error("the source of the mount must not hold a NUL")]
    Source,
    /// The kernel and fuser did not agree.
    #[error("the kernel's FUSE does not work with this program: {0}")]
    Handshake(io::Error),
    /// No threads.
    #[error("the threads of the mount could not be started: {0}")]
    Threads(io::Error),
}

/// The kernel's page cache, through the device; the guardian knows what is in it.
#[derive(Debug)]
struct KernelPages {
    notifier: fuser::Notifier,
    mountpoint: PathBuf,
    kept: Option<Arc<Table>>,
}

/// The kernel's names, through the mount itself.
#[derive(Debug)]
struct KernelNames {
    mountpoint: PathBuf,
}

// === impl KernelPages ===

impl PageCache for KernelPages {
    fn drop_pages(&self, ino: InodeNo, from: u64, length: u64) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        match self.notifier.inval_inode(fuser::INodeNo(ino.get()), signed(from), signed(length)) {
            // The kernel has forgotten the file, and its pages with it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%ino, %error, "the kernel did not drop pages of a file");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn see_length(&self, ino: InodeNo) {
        if let Err(error) = lengths::look(&self.mountpoint, ino) {
            tracing::debug!(%ino, %error, "the kernel did not look how long a file is");
        }
    }

    fn keeps(&self, ino: InodeNo, kept: bool) {
        if let Some(table) = &self.kept {
            table.set(ino, kept);
        }
    }
}

// === impl KernelNames ===

impl NameCache for KernelNames {
    fn find(&self, parent: InodeNo, name: &FileName) {
        let Ok(directory) = lengths::open(&self.mountpoint, parent) else { return };
        let begin = mfs::clock::now();
        while begin.elapsed() < LONGEST_LOOK {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            match rustix::fs::statat(&directory, name.as_os(), flags) {
                // Whoever was in the way does something else for a moment.
                Err(Errno::STALE) => std::thread::yield_now(),
                Ok(_) | Err(_) => break,
            }
        }
    }
}

// === impl KernelMount ===
impl KernelMount {
    /// Mounts `fs`; operations run on `runtime`. When this returns the mount answers.
    ///
    /// # Errors
    /// A sentence for the administrator; nothing stays mounted.
    pub fn begin(
        fs: Arc<MountedFs>,
        place: &Place<'_>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, MountError> {
        // Of a backing file the kernel knows only how the program opened it, not how the mount wants it.
        let sync = place.flags.contains(MountFlags::SYNCHRONOUS);
        let port = Port {
            fs,
            runtime,
            passthrough: Arc::new(Passthrough::default()),
            stack_depth: if place.backing_files && !sync { STACK_DEPTH } else { 0 },
            always: if sync { OpenFlags::SYNC | OpenFlags::DSYNC } else { OpenFlags::empty() },
        };
        let pages = Arc::clone(&port.fs.cache.pages);
        let mountpoint = place.mountpoint.to_owned();
        port.fs.serve_names(Arc::new(KernelNames { mountpoint: mountpoint.clone() }));
        Self::of(port, place, |notifier, guardian| {
            let kept = guardian.map(Guardian::table);
            pages.serve(Box::new(KernelPages { notifier, mountpoint, kept }));
        })
    }

    /// Mounts any file system; its panics are contained.
    /// `notified` gets the way to tell the kernel what it does not ask for, and the guardian.
    pub(crate) fn of(
        inner: impl fuser::Filesystem,
        place: &Place<'_>,
        notified: impl FnOnce(fuser::Notifier, Option<&Guardian>),
    ) -> Result<Self, MountError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/fuse", flags, Mode::empty())
            .map_err(|error| MountError::Device(error.into()))?;
        // The kernel looks at its limit when it mounts.
        request_size::raise_limit();
        mount(&device, place)?;
        // From here on an error must take the mount away again.
        let detach = |error| {
            detach(place.mountpoint);
            error
        };
        let readers = std::thread::available_parallelism().map_or(1, usize::from).max(MIN_READERS);
        let mut config = fuser::Config::default();
        config.n_threads = Some(readers);
        config.clone_fd = true;
        let guardian = place.guarded.then(|| guardian(&device, place.mountpoint)).flatten();
        let session = Session::from_fd(Contained(inner), device, SessionACL::All, config)
            .map_err(MountError::Handshake)
            .map_err(detach)?;
        set_read_ahead(place.mountpoint);
        notified(session.notifier(), guardian.as_deref());
        let readers = std::thread::Builder::new()
            .name("mfs-kernel".to_owned())
            .spawn(move || session.run())
            .map_err(MountError::Threads)
            .map_err(detach)?;
        Ok(Self { mountpoint: place.mountpoint.to_owned(), readers, guardian })
    }

    /// Who drops what is kept when this process cannot, if it could be started.
    pub fn guardian(&self) -> Option<Arc<Guardian>> {
        self.guardian.clone()
    }

    /// Waits until the mount is gone: unmounted, and the last process has left it.
    ///
    /// # Errors
    /// The kernel broke off the session.
    pub fn wait(self) -> io::Result<()> {
        self.readers.join().unwrap_or_else(|_| Err(io::Error::other("a reader thread panicked")))
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

/// Takes a mount away: at once if nobody uses it, else when the last process has left it.
pub fn detach(mountpoint: &Path) {
    if rustix::mount::unmount(mountpoint, UnmountFlags::empty()).is_err() {
        // Busy, or gone already; the second is what was wanted.
        let _ = rustix::mount::unmount(mountpoint, UnmountFlags::DETACH);
    }
}

fn guardian(device: &OwnedFd, mountpoint: &Path) -> Option<Arc<Guardian>> {
    let started = device.try_clone().and_then(|device| Guardian::start(device, mountpoint));
    started
        .inspect_err(|error| tracing::warn!(%error, "the mount has no guardian"))
        .ok()
        .map(Arc::new)
}

fn mount(device: &OwnedFd, place: &Place<'_>) -> Result<(), MountError> {
    use std::os::unix::ffi::OsStrExt;
    // Everybody may use it, the kernel checks permissions (as POSIX_ACL would make it do anyway), and the
    // kernel's number of the root's mode is octal.
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={MAX_READ}",
        device.as_raw_fd()
    );
    let options = CString::new(options).map_err(|_| MountError::Source)?;
    let source = CString::new(place.source.as_bytes()).map_err(|_| MountError::Source)?;
    let flags = place.flags | MountFlags::NODEV;
    rustix::mount::mount(&source, place.mountpoint, FILE_SYSTEM_TYPE, flags, options.as_c_str())
        .map_err(|error| MountError::Mount {
            mountpoint: place.mountpoint.to_owned(),
            error: error.into(),
        })
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": only root can mount",
        io::ErrorKind::NotFound => ": make the directory first",
        _ if error.raw_os_error() == Some(libc::ENODEV) => ": modprobe fuse",
        _ => "",
    }
}

/// Raises the read-ahead of the mount. The device number comes from mountinfo: asking the mount itself
/// would wait for the threads that are about to start.
fn set_read_ahead(mountpoint: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let Ok(table) = std::fs::read("/proc/self/mountinfo") else { return };
    let wanted = mountpoint.as_os_str().as_bytes();
    let device = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
            (*fields.get(4)? == wanted).then(|| String::from_utf8_lossy(fields[2]).into_owned())
        })
        .next_back();
    let Some(device) = device else { return };
    let knob = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = std::fs::write(&knob, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%knob, %error, "the read-ahead stays at the kernel's default");
    }
}
