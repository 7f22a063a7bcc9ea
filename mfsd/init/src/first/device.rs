//! The devices of a job: `/dev` in memory, with what a program may expect of any machine and nothing of this
//! one. They are nodes of their own, not mounts of the machine's, which no other node could restore.

use rustix::fs::{CWD, FileType, Mode, makedev, mkdir, mknodat, symlink};
use rustix::process::umask;

use crate::refusal::{OrRefuse, Refusal};

/// Character devices that everybody may read and write, by their numbers (`Documentation/admin-guide/devices.txt`).
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links, and where they lead.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Mount points.
const DIRECTORIES: [&str; 2] = ["/dev/pts", "/dev/shm"];

/// Fills `/dev`, which must be an empty file system of the job's own.
pub(super) fn fill() -> Result<(), Refusal> {
    // The mask of the daemon would take bits away.
    let before = umask(Mode::empty());
    let made = make();
    umask(before);
    made.or_refuse("make its devices")
}

fn make() -> rustix::io::Result<()> {
    for (path, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor))?;
    }
    for (path, target) in LINKS {
        symlink(target, path)?;
    }
    for path in DIRECTORIES {
        mkdir(path, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}
