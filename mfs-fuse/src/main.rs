//! `mfs-fuse` and `mount.mfs`: one program that mounts the cluster's file tree.

use std::process::ExitCode;

fn main() -> ExitCode {
    mfs_fuse::mount::run(
        std::env::args_os().skip(1),
        std::env::var_os("JOURNAL_STREAM"),
        std::env::var("MFS_LOG").ok(),
        mfs_fuse::serve::serve,
    )
}
