//! What is mounted here, as the kernel lists it, and which mounts a peer may enter.
//!
//! Asking `/proc/self/mountinfo` touches no mounted file system, so that a dead one cannot hang the
//! server.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

/// One line of `/proc/self/mountinfo` (proc(5)), as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountLine {
    /// The mount's id, which `statx(2)` and `name_to_handle_at(2)` also give; reused after unmounting.
    pub(super) id: u64,
    /// The directory of its file system that is mounted; not "/" for a bind mount of a part.
    pub(super) root: Vec<u8>,
    /// Where it is, as seen from this process's root.
    pub(super) place: PathBuf,
    /// The file system's type, with its subtype: `ext4`, `fuse.sshfs`.
    pub(super) fs_type: String,
    /// Options of the file system itself.
    super_options: String,
}

/// Tells apart the places where file systems are mounted, also after a restart: a digest of type, root
/// and path, since the kernel's ids are of one boot and are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PlaceKey(pub(super) u64);

/// File systems that hold no files of people but views of this one kernel. They mean nothing on
/// another node, and reading some of them has effects.
const KERNEL_VIEWS: &[&str] = &[
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

// === impl MountLine ===

impl MountLine {
    /// Parses one line; `None` if it is none, so that a future form of the file hides one mount and
    /// not all.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let (_parent, _device) = (fields.next()?, fields.next()?);
        let root = unescape(fields.next()?);
        let place = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let fs_type = String::from_utf8_lossy(&unescape(rest.next()?)).into_owned();
        let _source = rest.next()?;
        let super_options = String::from_utf8_lossy(rest.next().unwrap_or_default()).into_owned();
        Some(Self { id, root, place, fs_type, super_options })
    }

    /// Whether a peer may go in. Not into views of the kernel, not into a mount of mfs (a tree never
    /// contains `/mfs` again), and not into a FUSE file system run by an ordinary user, who could make
    /// the server wait for ever.
    pub(super) fn may_be_entered(&self) -> bool {
        let fs_type = self.fs_type.as_str();
        let of_a_user = fs_type.starts_with("fuse") && !self.has_option("user_id=0");
        !(KERNEL_VIEWS.contains(&fs_type) || is_mfs(fs_type) || of_a_user)
    }

    /// Whether the file system has this option.
    pub(super) fn has_option(&self, option: &str) -> bool {
        self.super_options.split(',').any(|other| other == option)
    }

    /// The place's key.
    pub(super) fn key(&self) -> PlaceKey {
        let mut digest = digest::Context::new(&digest::SHA256);
        for part in [self.fs_type.as_bytes(), &self.root, self.place.as_os_str().as_encoded_bytes()]
        {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        PlaceKey(first_u64(digest.finish().as_ref()))
    }
}

fn is_mfs(fs_type: &str) -> bool {
    fs_type == "mfs" || fs_type == "fuse.mfs" || fs_type.starts_with("fuse.mfs.")
}

/// All mounts of this process's namespace, in the kernel's order: what is mounted on top comes later.
///
/// # Errors
/// Those of reading /proc.
pub(super) fn read() -> std::io::Result<Vec<MountLine>> {
    Ok(parse(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// The mount that is seen at `place`: the topmost one there.
pub(super) fn at<'a>(lines: &'a [MountLine], place: &Path) -> Option<&'a MountLine> {
    lines.iter().rev().find(|line| line.place == place)
}

fn parse(text: &[u8]) -> Vec<MountLine> {
    text.split(|byte| *byte == b'\n').filter_map(MountLine::parse).collect()
}

/// The first 8 bytes of a digest as a number.
pub(super) fn first_u64(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The kernel writes blanks, tabs, line ends and backslashes in paths as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'\\', Some(digits)) = (byte, tail.get(..3))
            && let Some(byte) = std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\n\
        40 27 254:0 /srv/a /mnt/with\\040blank\\134 ro - ext4 /dev/vda rw\n\
        41 27 0:50 / /mfs rw - fuse.mfs mfs rw,user_id=0,group_id=0,allow_other\n\
        42 27 0:51 / /home/u/ssh rw - fuse.sshfs u@h: rw,user_id=1000,group_id=1000\n\
        43 27 0:52 / /gluster rw - fuse.glusterfs h:/v rw,user_id=0,group_id=0\n\
        44 27 0:53 / /mnt/twice rw - tmpfs a rw\n\
        45 27 0:54 / /mnt/twice rw - xfs b rw\n\
        nonsense\n";

    fn find(place: &str) -> MountLine {
        at(&parse(TEXT), Path::new(place)).unwrap().clone()
    }

    #[test]
    fn lines_are_read_with_optional_fields_and_escapes() {
        let bind = find("/mnt/with blank\\");
        assert_eq!((bind.id, bind.root.as_slice()), (40, &b"/srv/a"[..]));
        assert_eq!(find("/").fs_type, "ext4");
        assert_eq!(parse(TEXT).len(), 8);
    }

    #[test]
    fn views_of_the_kernel_mfs_and_users_fuse_are_not_entered() {
        for (place, entered) in [
            ("/proc", false),
            ("/", true),
            ("/mfs", false),
            ("/home/u/ssh", false),
            ("/gluster", true),
            ("/mnt/twice", true),
        ] {
            assert_eq!(find(place).may_be_entered(), entered, "{place}");
        }
    }

    #[test]
    fn the_topmost_mount_is_seen_and_every_place_has_its_own_key() {
        assert_eq!(find("/mnt/twice").id, 45);
        let keys: std::collections::HashSet<_> =
            parse(TEXT).iter().map(|line| line.key().0).collect();
        assert_eq!(keys.len(), 8);
    }
}
