//! symlink(2), readlink(2).

use std::fs;
use std::os::unix::fs::symlink;

use mfs_tests::eventually;

use super::place::{Case, LIMIT, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("targets_are_given_as_they_are", targets_are_given_as_they_are),
    ("a_changed_target_is_seen", a_changed_target_is_seen),
    ("refusals", refusals),
];

fn targets_are_given_as_they_are(place: &Place<'_>) {
    let long = "x/".repeat(2047);
    for (number, target) in ["f", "/etc/passwd", "../..", "a b\nc", &long].into_iter().enumerate() {
        let name = format!("l{number}");
        symlink(target, place.at(&name)).unwrap();
        assert_eq!(fs::read_link(place.at_home(&name)).unwrap().as_os_str(), target);
        assert_eq!(fs::read_link(place.at(&name)).unwrap().as_os_str(), target);
        assert_eq!(fs::symlink_metadata(place.at(&name)).unwrap().len(), target.len() as u64);
    }
}

fn a_changed_target_is_seen(place: &Place<'_>) {
    for round in 0..30 {
        let target = format!("target-{round}");
        symlink(&target, place.at_home("new")).unwrap();
        fs::rename(place.at_home("new"), place.at_home("l")).unwrap();
        eventually("the target is seen", LIMIT, || {
            fs::read_link(place.at("l")).is_ok_and(|found| found.as_os_str() == target.as_str())
        });
    }
}

fn refusals(place: &Place<'_>) {
    symlink("a", place.at("l")).unwrap();
    assert_eq!(errno(symlink("b", place.at("l"))), libc::EEXIST);
    assert_eq!(errno(symlink("", place.at("m"))), libc::ENOENT);
    assert_eq!(errno(symlink("x".repeat(4096), place.at("m"))), libc::ENAMETOOLONG);
    fs::write(place.at("f"), "").unwrap();
    assert_eq!(errno(fs::read_link(place.at("f"))), libc::EINVAL);
}
