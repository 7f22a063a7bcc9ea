//! mknod(2): FIFOs and sockets are local objects of each node; devices are visible, not usable.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::place::{Case, Kind, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("kinds_arrive_at_home", kinds_arrive_at_home),
    ("a_fifo_joins_processes_of_one_node", a_fifo_joins_processes_of_one_node),
    ("a_fifo_of_another_node_does_not_block_it", a_fifo_of_another_node_does_not_block_it),
    ("a_device_cannot_be_opened", a_device_cannot_be_opened),
];

fn kinds_arrive_at_home(place: &Place<'_>) {
    place.run("mkfifo -m 640 p && mknod c c 1 7 && mknod b b 7 200");
    let kind = |name: &str| fs::symlink_metadata(place.at_home(name)).unwrap();
    assert!(kind("p").file_type().is_fifo() && kind("p").mode() & 0o7777 == 0o640);
    assert!(kind("c").file_type().is_char_device());
    assert_eq!(kind("c").rdev(), rustix::fs::makedev(1, 7));
    assert!(kind("b").file_type().is_block_device());
    let through = fs::symlink_metadata(place.at("b")).unwrap();
    assert_eq!(through.rdev(), rustix::fs::makedev(7, 200));
}

fn a_fifo_joins_processes_of_one_node(place: &Place<'_>) {
    assert_eq!(place.run("mkfifo p && (echo through >p & timeout 20 cat p)"), "through");
}

/// The serving node never opens a FIFO for a peer: a reader there does not meet a writer here.
fn a_fifo_of_another_node_does_not_block_it(place: &Place<'_>) {
    place.run_at_home("mkfifo p");
    let opened = place.try_run("timeout 1 sh -c 'echo lost >p'");
    assert_eq!(opened.status.code(), Some(124), "a writer without a local reader waits");
    if place.kind == Kind::Remote {
        let met = place.run("(timeout 5 sh -c 'echo lost >p' &); timeout 5 cat p");
        assert_eq!(met, "lost");
    }
    assert!(place.at("p").exists());
}

fn a_device_cannot_be_opened(place: &Place<'_>) {
    place.run_at_home("mknod null c 1 3 && chmod 666 null");
    assert_eq!(errno(fs::read(place.at("null"))), libc::EACCES);
}
