//! The root of a node: an overlay over the machine's tree, with file systems of its own where machines
//! differ.

use std::fs::{self, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

use super::cgroup;
use super::mounts::{self, Mount};
use super::names::LabNode;
use super::programs::Programs;
use super::state::Lab;

/// A part of the machine's tree that the node sees through an overlay of its own.
#[derive(Debug)]
struct Layer {
    /// Where it lies in the machine's tree.
    lower: PathBuf,
    /// Holds `upper` and `work`.
    dir: PathBuf,
}

/// Something of the machine that appears in the node: opened before the old root is left, mounted after.
#[derive(Debug)]
struct Passed {
    source: OwnedFd,
    target: &'static str,
    is_dir: bool,
}

/// File systems that hold a machine's files, as opposed to what its kernel shows of itself. Those below
/// `/` get an overlay each, since an overlay does not enter the mounts of its lower tree.
const DISKS: [&str; 12] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "overlay", "virtiofs", "9p",
    "nfs4",
];

/// Directories in which a node has its own mounts.
const OWN: [&str; 7] = ["/proc", "/sys", "/dev", "/run", "/data", "/mfs", "/var/lib/mfs"];

/// Where a node finds its own control group.
const CGROUP: &str = "/sys/fs/cgroup";

/// Options of the overlays: `index` and `nfs_export` make file handles and hard links work as on a disk,
/// `redirect_dir` the renaming of directories.
const FULL: &str = "index=on,nfs_export=on,redirect_dir=on";

/// Device nodes of a machine without devices: name, major, minor.
const DEVICES: [(&str, u32, u32); 7] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("fuse", 10, 229),
];

/// Puts the root of `node` together and moves this process into it.
///
/// # Preconditions
/// Mount, network and process namespace are the node's own, and this is the first process of the latter.
pub(super) fn enter(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    keep_apart()?;
    let root = lab.home.node_dir(node).join("root");
    let layers = layers(lab, node)?;
    let first_time = !layers[0].dir.exists();
    for layer in &layers {
        layer.mount(&root)?;
    }
    let passed = passed(lab, node)?;

    rustix::process::chdir(&root).with_context(|| format!("cannot enter {}", root.display()))?;
    // The old root comes to lie over the new one at the same place; "/" means the new one from here on,
    // and "." is what is on top of it (pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".").context("cannot change the root (pivot_root)")?;

    kernel_file_systems()?;
    mask(lab)?;
    for passed in &passed {
        passed.mount()?;
    }
    if first_time {
        settle(lab, node)?;
    }
    unmount(".", UnmountFlags::DETACH).context("cannot leave the machine's root")?;
    rustix::process::chdir("/").context("cannot enter the new root")
}

/// Makes sure that no mount of this namespace appears in the machine's.
pub(super) fn keep_apart() -> anyhow::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("cannot make the mounts private")
}

/// Whether an overlay may have its upper layer in `dir`; the overlays of a node are made as this one.
pub(super) fn can_be_upper(dir: &Path) -> anyhow::Result<bool> {
    let layer = Layer { lower: "/".into(), dir: dir.join("probe") };
    let root = layer.dir.join("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let works = layer.mount(&root).is_ok();
    if works {
        unmount(&root, UnmountFlags::DETACH)?;
    }
    fs::remove_dir_all(&layer.dir)?;
    Ok(works)
}

fn layers(lab: &Lab, node: LabNode) -> anyhow::Result<Vec<Layer>> {
    let home = lab.home.dir().join("layers").join(node.to_string());
    let mut lowers = vec![PathBuf::from("/")];
    for mount in mounts::of(None)? {
        if is_disk(&mount, &lab.home.dir()) && !lowers.contains(&mount.point) {
            lowers.push(mount.point);
        }
    }
    // A mount below another one comes after it; mountinfo is in that order except after a move.
    lowers.sort_by_key(|lower| lower.components().count());
    let place = |lower: &Path| match lower.to_string_lossy().trim_matches('/') {
        "" => "root".to_owned(),
        path => format!("at-{}", path.replace('/', "-")),
    };
    Ok(lowers.into_iter().map(|lower| Layer { dir: home.join(place(&lower)), lower }).collect())
}

fn is_disk(mount: &Mount, lab: &Path) -> bool {
    let holds_files = DISKS.contains(&mount.kind.as_str())
        // Many machines have their /tmp in memory.
        || (mount.kind == "tmpfs" && mount.point == Path::new("/tmp"));
    let is_own = OWN.iter().any(|own| mount.below(Path::new(own)));
    let sayable = !mount.point.as_os_str().as_encoded_bytes().iter().any(|b| b",:\\\"".contains(b));
    holds_files && !is_own && sayable && !mount.below(lab) && mount.point.is_dir()
}

fn passed(lab: &Lab, node: LabNode) -> anyhow::Result<Vec<Passed>> {
    let home = lab.home.node_dir(node);
    let open = |source: &Path, target: &'static str| -> anyhow::Result<Passed> {
        let fd = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("cannot open {}", source.display()))?;
        Ok(Passed { source: fd, target, is_dir: source.is_dir() })
    };
    let mut passed =
        vec![open(&home.join("data"), "/data")?, open(&home.join("mfs"), "/var/lib/mfs")?];
    if lab.settings.cpus.is_some() {
        // As in a container: so the node finds out how much of the machine is its own.
        passed.push(open(&cgroup::group(&lab.home, node)?, CGROUP)?);
    }
    for (program, target) in Programs::beside_this()?.places() {
        passed.push(open(&program, target)?);
    }
    Ok(passed)
}

/// /proc, /sys, /dev and /run: of the node's own namespaces, or empty.
fn kernel_file_systems() -> anyhow::Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    fresh("proc", "/proc", plain, "")?;
    fresh("sysfs", "/sys", plain, "")?;
    fresh("fusectl", "/sys/fs/fuse/connections", plain, "")?;
    fresh("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, "mode=0755")?;
    fresh("tmpfs", "/dev", MountFlags::NOSUID, "mode=0755")?;
    make_dirs(&[("/dev/pts", 0o755), ("/dev/shm", 0o1777), ("/run/lock", 0o1777)])?;
    fresh("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")?;
    let pts = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    fresh("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, pts)?;
    for (name, major, minor) in DEVICES {
        let path = Path::new("/dev").join(name);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor))
            .and_then(|()| rustix::fs::chmod(&path, mode))
            .with_context(|| format!("cannot make {}", path.display()))?;
    }
    let links = [
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        symlink(target, link).with_context(|| format!("cannot make {link}"))?;
    }
    // An address must be usable at once: nobody else can have it on this switch.
    for interfaces in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{interfaces}/accept_dad");
        if Path::new(&path).exists() {
            fs::write(&path, "0").with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok(())
}

/// Hides the state of all labs, which lies in the machine's tree that the node sees.
fn mask(lab: &Lab) -> anyhow::Result<()> {
    let state = lab.home.state();
    if !state.is_dir() {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    fresh("tmpfs", state, flags, "mode=0700,size=4k")
}

/// What a new machine gets once: its names, its fstab, and nothing of the machine's own mfs.
fn settle(lab: &Lab, node: LabNode) -> anyhow::Result<()> {
    let write = |path: &str, text: String| {
        // The machine's may be a link into /run.
        let _ = fs::remove_file(path);
        fs::write(path, text).with_context(|| format!("cannot write {path} of {node}"))
    };
    let hosts: String = lab.nodes().map(|node| format!("{} {node}\n", node.address())).collect();
    write("/etc/hostname", format!("{node}\n"))?;
    write("/etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n{hosts}"))?;
    write("/etc/fstab", format!("mfs /mfs mfs {} 0 0\n", lab.settings.mount_options))?;
    if Path::new("/etc/mfs").exists() {
        fs::remove_dir_all("/etc/mfs").context("cannot empty /etc/mfs")?;
    }
    make_dirs(&[("/mfs", 0o755), ("/root", 0o700), ("/tmp", 0o1777)])?;
    if lab.settings.plaintext {
        make_dirs(&[("/etc/mfs", 0o755)])?;
        let config = "transport = \"plaintext\"\ninterface = \"eth0\"\n";
        write("/etc/mfs/mfsd.toml", config.to_owned())?;
    }
    Ok(())
}

/// Makes directories that are missing.
fn make_dirs(dirs: &[(&str, u32)]) -> anyhow::Result<()> {
    for &(path, mode) in dirs {
        if !Path::new(path).is_dir() {
            fs::create_dir_all(path)
                .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
                .with_context(|| format!("cannot make {path}"))?;
        }
    }
    Ok(())
}

fn fresh(
    kind: &str,
    target: impl AsRef<Path>,
    flags: MountFlags,
    options: &str,
) -> anyhow::Result<()> {
    let target = target.as_ref();
    let options = std::ffi::CString::new(options)?;
    mount(kind, target, kind, flags, options.as_c_str())
        .with_context(|| format!("cannot mount {kind} on {}", target.display()))
}

// === impl Layer ===

impl Layer {
    /// Mounts the overlay at its place below `root`.
    fn mount(&self, root: &Path) -> anyhow::Result<()> {
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        for dir in [&upper, &work] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        self.look_like_lower(&upper)?;
        let target = root.join(self.lower.strip_prefix("/").unwrap_or(&self.lower));
        let (lower, upper, work) = (self.lower.display(), upper.display(), work.display());
        let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        // A machine whose own root is an overlay, as in a container, may offer no file handles; the
        // server then falls back to descriptors.
        fresh("overlay", &target, MountFlags::empty(), &format!("{layers},{FULL}"))
            .or_else(|_| fresh("overlay", &target, MountFlags::empty(), &layers))
    }

    /// Gives the top directory of the overlay the owner and mode of the one that it covers: it takes them
    /// from the upper layer.
    fn look_like_lower(&self, upper: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let lower = fs::metadata(&self.lower)
            .with_context(|| format!("cannot look at {}", self.lower.display()))?;
        std::os::unix::fs::chown(upper, Some(lower.uid()), Some(lower.gid()))
            .and_then(|()| fs::set_permissions(upper, lower.permissions()))
            .with_context(|| format!("cannot set the owner of {}", upper.display()))
    }
}

// === impl Passed ===

impl Passed {
    fn mount(&self) -> anyhow::Result<()> {
        let target = Path::new(self.target);
        if self.is_dir {
            fs::create_dir_all(target).with_context(|| format!("cannot make {}", self.target))?;
        } else {
            // A link would let the mount land on what it points at.
            if target.is_symlink() {
                fs::remove_file(target)
                    .with_context(|| format!("cannot remove the link {}", self.target))?;
            }
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::File::options()
                .create(true)
                .append(true)
                .open(target)
                .with_context(|| format!("cannot make {}", self.target))?;
        }
        let source = format!("/proc/self/fd/{}", self.source.as_raw_fd());
        rustix::mount::mount_bind(source, target)
            .with_context(|| format!("cannot mount {}", self.target))
    }
}
