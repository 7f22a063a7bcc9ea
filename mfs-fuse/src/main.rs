//! `mfs-fuse` and `mount.mfs`: one program that mounts the cluster's file tree.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name == mfs_fuse::guardian::NAME) {
        return mfs_fuse::guardian::run(words.next());
    }
    if let Ok(points) = std::env::var("MFS_FAIL")
        && let Err(sentence) = mfs::failpoint::arm(&points)
    {
        let _ = writeln!(std::io::stderr(), "mount.mfs: MFS_FAIL: {sentence}");
        return ExitCode::FAILURE;
    }
    mfs_fuse::mount::run(
        std::env::args_os().skip(1),
        std::env::var_os("JOURNAL_STREAM"),
        std::env::var("MFS_LOG").ok(),
        mfs_fuse::serve::serve,
    )
}
