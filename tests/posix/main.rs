//! System calls through real mounts between two nodes of a laboratory: one file per call, every case on
//! every kind of mount.
//!
//! The cases make their calls from outside, through `/proc/PID/root` of a node, as root; what needs a
//! caller of its own (users, locks of processes, mappings) runs inside a node.

// Cases are functions of this suite's own harness, which clippy does not know for tests.
#![allow(clippy::unwrap_used)]

mod access;
mod acl;
mod chmod;
mod chown;
mod copy_file_range;
mod exec;
mod fallocate;
mod fcntl_lock;
mod flock;
mod fsx;
mod getdents;
mod link;
mod lseek;
mod mkdir;
mod mknod;
mod mmap;
mod open;
mod pjdfstest;
mod place;
mod read;
mod rename;
mod stat;
mod statfs;
mod symlink;
mod sync;
mod truncate;
mod umask;
mod unlink;
mod utimens;
mod write;
mod xattr;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use place::{Case, Kind, Stage};

/// All cases by the system call they are about.
const CALLS: &[(&str, &[(&str, Case)])] = &[
    ("access", access::CASES),
    ("acl", acl::CASES),
    ("chmod", chmod::CASES),
    ("chown", chown::CASES),
    ("copy_file_range", copy_file_range::CASES),
    ("exec", exec::CASES),
    ("fallocate", fallocate::CASES),
    ("fcntl_lock", fcntl_lock::CASES),
    ("flock", flock::CASES),
    ("fsx", fsx::CASES),
    ("getdents", getdents::CASES),
    ("link", link::CASES),
    ("lseek", lseek::CASES),
    ("mkdir", mkdir::CASES),
    ("mknod", mknod::CASES),
    ("mmap", mmap::CASES),
    ("open", open::CASES),
    ("pjdfstest", pjdfstest::CASES),
    ("read", read::CASES),
    ("rename", rename::CASES),
    ("stat", stat::CASES),
    ("statfs", statfs::CASES),
    ("symlink", symlink::CASES),
    ("sync", sync::CASES),
    ("truncate", truncate::CASES),
    ("umask", umask::CASES),
    ("unlink", unlink::CASES),
    ("utimens", utimens::CASES),
    ("write", write::CASES),
    ("xattr", xattr::CASES),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let stage = Arc::new(Stage::default());
    let mut trials = Vec::new();
    for (call, cases) in CALLS {
        for (name, case) in *cases {
            for kind in Kind::ALL {
                let stage = Arc::clone(&stage);
                let label = format!("{call}::{name}@{}", kind.word());
                trials.push(Trial::test(label.clone(), move || {
                    case(&stage.place(kind, &label));
                    Ok::<(), Failed>(())
                }));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Taking the laboratory down may find that something was left behind; that is a failure, too.
    drop(stage);
    conclusion.exit_code()
}
