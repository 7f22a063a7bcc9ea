//! statfs(2): a file answers with the figures of its file system at home.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("figures_are_those_at_home", figures_are_those_at_home),
    ("the_mount_itself", the_mount_itself),
];

fn figures_are_those_at_home(place: &Place<'_>) {
    let format = "stat -f -c '%b %c %l' .";
    assert_eq!(place.run(format), place.run_at_home(format));
}

fn the_mount_itself(place: &Place<'_>) {
    let kind = place.here().run("stat -f -c %T /mfs && df /mfs | tail -n 1");
    assert!(kind.starts_with("fuseblk") || kind.starts_with("fuse"), "{kind}");
    assert!(kind.contains("/mfs"), "{kind}");
}
