//! What is mounted in this process's namespace, as /proc/self/mountinfo tells it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// One line of mountinfo (proc_pid_mountinfo(5)), of which the laboratory uses this much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Minor number of the device; a FUSE connection is named by it.
    pub minor: u32,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type of the file system, such as `ext4`.
    pub kind: String,
    /// Options of the file system as a whole.
    pub options: String,
}

/// The mounts of process `pid`, in the order in which they were made; of this process for `None`.
pub(super) fn of(pid: Option<i32>) -> anyhow::Result<Vec<Mount>> {
    let path = match pid {
        Some(pid) => format!("/proc/{pid}/mountinfo"),
        None => "/proc/self/mountinfo".to_owned(),
    };
    let text = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// Reads one line; `None` for one that does not look like mountinfo.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let minor = device.split_once(':')?.1.parse().ok()?;
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut after_dash = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(after_dash.next()?).into_owned();
    let options = String::from_utf8_lossy(after_dash.nth(1)?).into_owned();
    Some(Mount { minor, point, kind, options })
}

/// Undoes the kernel's octal escapes of blank, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

// === impl Mount ===

impl Mount {
    /// The mount lies at `path` or below it.
    pub(super) fn below(&self, path: &Path) -> bool {
        self.point.starts_with(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line =
            br"36 35 98:7 /mnt1 /a\040b rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!(mount.minor, 7);
        assert_eq!(mount.point, Path::new("/a b"));
        assert_eq!((mount.kind.as_str(), mount.options.as_str()), ("ext3", "rw,errors=continue"));
        assert_eq!(parse(b""), None);
        assert_eq!(unescape(br"a\134b\9\04"), br"a\b\9\04");
    }
}
