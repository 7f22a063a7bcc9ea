//! The place of a mount: is it a directory, and what is mounted there already.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::session::FILE_SYSTEM_TYPE;

/// How long a mount that stands at the place already may take to answer before it counts as in use.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Line {
    mountpoint: PathBuf,
    file_system_type: String,
}

/// Makes a place ready: an existing directory without a living mfs mount. What a daemon that died left
/// there is taken away.
///
/// # Errors
/// A sentence for the administrator.
pub(super) fn prepare(place: &Path) -> Result<PathBuf, String> {
    // First of all by name: resolving it would touch what is mounted there.
    let named = std::path::absolute(place).map_err(|e| format!("{}: {e}", place.display()))?;
    while mounted_at(&named)?.as_deref() == Some(FILE_SYSTEM_TYPE) {
        if !is_dead(&named) {
            return Err(format!(
                "{0} is mounted already; to mount it anew: umount {0} && mount {0}",
                named.display()
            ));
        }
        rustix::mount::unmount(&named, rustix::mount::UnmountFlags::DETACH).map_err(|error| {
            format!(
                "a mount whose daemon died is in the way at {0} and cannot be taken away ({error}): umount -l {0}",
                named.display()
            )
        })?;
    }
    let resolved = std::fs::canonicalize(&named).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{0} does not exist: mkdir -p {0}", named.display())
        }
        _ => format!("{}: {error}", named.display()),
    })?;
    if !resolved.is_dir() {
        return Err(format!("{} is not a directory; mount on a directory", named.display()));
    }
    if resolved != named && mounted_at(&resolved)?.as_deref() == Some(FILE_SYSTEM_TYPE) {
        return prepare(&resolved);
    }
    Ok(resolved)
}

/// Whether a living mfs mount stands at the place.
pub(super) fn is_mounted(place: &Path) -> bool {
    let mounted =
        |place: &Path| matches!(mounted_at(place), Ok(Some(name)) if name == FILE_SYSTEM_TYPE);
    std::path::absolute(place).is_ok_and(|place| mounted(&place) && !is_dead(&place))
}

/// Type of the topmost mount exactly at this place.
fn mounted_at(place: &Path) -> Result<Option<String>, String> {
    let table = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| format!("cannot read /proc/self/mountinfo: {error}; is /proc mounted?"))?;
    Ok(table
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .rfind(|line| line.mountpoint == place)
        .map(|line| line.file_system_type))
}

/// Whether the mount's daemon is gone, so that every access says ENOTCONN. Asked from a thread of its
/// own: a daemon that lives but hangs must not take the caller with it.
fn is_dead(place: &Path) -> bool {
    let (sender, receiver) = mpsc::channel();
    let place = place.to_owned();
    let asker = std::thread::spawn(move || {
        let dead = match rustix::fs::stat(&place) {
            Err(error) => {
                error == rustix::io::Errno::NOTCONN || error == rustix::io::Errno::CONNABORTED
            }
            Ok(_) => false,
        };
        // The receiver may have lost its patience.
        let _ = sender.send(dead);
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(dead) => {
            // It has answered and ends; no thread may be left when the daemon is split off.
            let _ = asker.join();
            dead
        }
        Err(_) => false,
    }
}

fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mountpoint = PathBuf::from(unescape(fields.nth(4)?));
    let file_system_type = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Line { mountpoint, file_system_type: String::from_utf8_lossy(file_system_type).into() })
}

/// Undoes the kernel's `\040` for blanks, tabs, newlines and backslashes.
fn unescape(field: &[u8]) -> std::ffi::OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|d| byte == b'\\' && d.iter().all(|c| matches!(c, b'0'..=b'7')));
        match digits {
            Some(digits) => {
                let code =
                    digits.iter().fold(0_u32, |code, digit| code * 8 + u32::from(digit - b'0'));
                bytes.push((code & 0xff) as u8);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_understood() {
        let line =
            b"36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - fuse.mfs mfs rw,errors=continue";
        let parsed = parse_line(line).unwrap();
        assert_eq!(parsed.mountpoint, Path::new("/a b"));
        assert_eq!(parsed.file_system_type, "fuse.mfs");
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"1 2 3 4"), None);
        assert_eq!(unescape(b"\\134\\04"), "\\\\04");
    }

    #[test]
    fn a_place_that_cannot_be_used_is_said_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no");
        assert!(prepare(&missing).unwrap_err().contains("mkdir -p"));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(prepare(&file).unwrap_err().contains("not a directory"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert_eq!(prepare(&link).unwrap(), std::fs::canonicalize(dir.path()).unwrap());
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
    }
}
