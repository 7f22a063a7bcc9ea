//! Which files of mfs processes have open, as /proc shows them (proc_pid_fdinfo(5), proc_pid_mountinfo(5)).

use std::collections::HashMap;
use std::fs;

/// The type of our mounts.
const KIND: &str = "fuse.mfs";

/// An open file of mfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    /// The process, as this node numbers it.
    pub(super) process: u32,
    /// The descriptor.
    pub(super) fd: i32,
    /// The file's number.
    pub(super) ino: u64,
    /// Name of the file's home.
    pub(super) home: String,
    /// Its path, as the process sees it.
    pub(super) path: String,
    /// It is open for reading, and for writing.
    pub(super) access: [bool; 2],
}

/// A mount of ours: what of the cluster it shows, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    root: String,
    place: String,
}

/// What these processes have open. Who has ended has nothing open.
pub(super) fn of(processes: &[u32]) -> Vec<Opened> {
    processes.iter().flat_map(|process| of_one(*process)).collect()
}

fn of_one(process: u32) -> Vec<Opened> {
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let mounts: HashMap<u64, Shown> = mounts.lines().filter_map(shown).collect();
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fdinfo")) else {
        return Vec::new();
    };
    let opened = descriptors.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let Descriptor { mount, ino, access } =
            descriptor(&fs::read_to_string(entry.path()).ok()?)?;
        let shown = mounts.get(&mount)?;
        let path = fs::read_link(format!("/proc/{process}/fd/{name}")).ok()?;
        let path = path.to_string_lossy().into_owned();
        let home = home(shown, &path)?;
        Some(Opened { process, fd: name.parse().ok()?, ino, home, path, access })
    });
    opened.collect()
}

/// A mount of ours in a line `36 35 0:45 /n1 / rw,noatime shared:1 - fuse.mfs mfs rw` of mountinfo.
fn shown(line: &str) -> Option<(u64, Shown)> {
    let (ours, theirs) = line.split_once(" - ")?;
    if theirs.split(' ').next()? != KIND {
        return None;
    }
    let mut words = ours.split(' ');
    let number = words.next()?.parse().ok()?;
    let mut words = words.skip(2);
    let (root, place) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some((number, Shown { root, place }))
}

/// The home of a file: the first name on the way to it from the root of the cluster.
fn home(shown: &Shown, path: &str) -> Option<String> {
    let below = path.strip_prefix(&shown.place)?.trim_start_matches('/');
    let root = shown.root.trim_start_matches('/');
    let mut names = root.split('/').chain(below.split('/'));
    names.find(|name| !name.is_empty()).map(str::to_owned)
}

struct Descriptor {
    mount: u64,
    ino: u64,
    access: [bool; 2],
}

fn descriptor(text: &str) -> Option<Descriptor> {
    let field = |wanted: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'));
        found.map(str::trim)
    };
    let flags = u64::from_str_radix(field("flags")?, 8).ok()?;
    // O_PATH: nothing can be locked through it.
    if flags & libc::O_PATH as u64 != 0 {
        return None;
    }
    let access = match flags & libc::O_ACCMODE as u64 {
        0 => [true, false],
        1 => [false, true],
        _ => [true, true],
    };
    Some(Descriptor {
        mount: field("mnt_id")?.parse().ok()?,
        ino: field("ino")?.parse().ok()?,
        access,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_ours_are_seen() {
        let line = "36 35 0:45 /n1 / rw,noatime shared:1 - fuse.mfs mfs rw,user_id=0";
        let shown_so = |root: &str, place: &str| Shown { root: root.into(), place: place.into() };
        assert_eq!(shown(line), Some((36, shown_so("/n1", "/"))));
        assert_eq!(shown(&line.replace("fuse.mfs", "ext4")), None);
        assert_eq!(shown(""), None);
    }

    #[test]
    fn the_home_is_the_first_name() {
        let view = Shown { root: "/n1".into(), place: "/".into() };
        let cluster = Shown { root: "/".into(), place: "/mfs".into() };
        assert_eq!(home(&view, "/data/x").as_deref(), Some("n1"));
        assert_eq!(home(&cluster, "/mfs/n3/data/x").as_deref(), Some("n3"));
        assert_eq!(home(&cluster, "/mfs"), None);
    }

    #[test]
    fn descriptors_are_understood() {
        let found = descriptor("pos:\t0\nflags:\t0100002\nmnt_id:\t36\nino:\t77\n").unwrap();
        assert_eq!((found.mount, found.ino, found.access), (36, 77, [true, true]));
        let path = format!("flags:\t0{:o}\nmnt_id:\t36\nino:\t77\n", libc::O_PATH);
        assert!(descriptor(&path).is_none());
        assert!(descriptor("pos:\t0\n").is_none());
    }
}
