//! How much the kernel hands over in one request.
//!
//! It counts in pages, 256 of them unless the machine allows more. A write of a mebibyte that begins inside
//! a page touches 257, and would come as two: another's append could get between them.

use std::io;

use mfs::types::op::MAX_IO;

/// Largest write.
pub(crate) const MAX_WRITE: u32 = MAX_IO;

/// Largest read: what the kernel reads ahead stays at whole mebibytes of the file.
pub(crate) const MAX_READ: u32 = 1 << 20;

/// The machine's limit on the pages of a request (since Linux 6.13).
const LIMIT: &str = "/proc/sys/fs/fuse/max_pages_limit";

/// Makes sure that the machine allows requests of `MAX_WRITE`; says so where it does not. To be called
/// before mounting.
pub(crate) fn raise_limit() {
    let needed = (MAX_WRITE as usize).div_ceil(rustix::param::page_size());
    if let Err(error) = raise(needed) {
        tracing::warn!(
            %error,
            "the kernel hands over {} pages at most, so that an append of nearly 1 MiB may be torn by \
             another's; since Linux 6.13: sysctl fs.fuse.max_pages_limit={needed}",
            needed - 1
        );
    }
}

fn raise(needed: usize) -> io::Result<()> {
    let allowed = std::fs::read_to_string(LIMIT)?;
    // Others may have allowed more, for mounts of theirs.
    match allowed.trim().parse::<usize>() {
        Ok(allowed) if allowed >= needed => Ok(()),
        _ => std::fs::write(LIMIT, needed.to_string()),
    }
}
