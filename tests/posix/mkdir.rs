//! mkdir(2) and rmdir(2).

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::place::{Case, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("made_and_removed", made_and_removed),
    ("refusals", refusals),
    ("set_gid_is_inherited", set_gid_is_inherited),
    ("deep_trees", deep_trees),
];

fn made_and_removed(place: &Place<'_>) {
    fs::create_dir(place.at("d")).unwrap();
    assert!(place.at_home("d").is_dir());
    assert_eq!(fs::metadata(place.at("d")).unwrap().nlink(), 2);
    fs::create_dir(place.at("d/e")).unwrap();
    assert_eq!(fs::metadata(place.at("d")).unwrap().nlink(), 3);
    fs::remove_dir(place.at("d/e")).unwrap();
    fs::remove_dir(place.at("d")).unwrap();
    assert!(!place.at_home("d").exists());
    assert!(!place.at("d").exists());
}

fn refusals(place: &Place<'_>) {
    fs::create_dir_all(place.at("d/e")).unwrap();
    fs::write(place.at("f"), "").unwrap();
    assert_eq!(errno(fs::create_dir(place.at("d"))), libc::EEXIST);
    assert_eq!(errno(fs::create_dir(place.at("f/x"))), libc::ENOTDIR);
    assert_eq!(errno(fs::create_dir(place.at("no/x"))), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(place.at("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(place.at("f"))), libc::ENOTDIR);
    assert_eq!(errno(fs::remove_dir(place.at("no"))), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(place.at("d/e/.."))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(place.at("d/e/."))), libc::EINVAL);
}

fn set_gid_is_inherited(place: &Place<'_>) {
    place.run("mkdir d && chgrp 60 d && chmod 2777 d");
    place.run("setpriv --reuid=bin --regid=bin --clear-groups mkdir d/e");
    assert_eq!(place.run_at_home("stat -c %a:%g d/e"), "2755:60");
}

fn deep_trees(place: &Place<'_>) {
    let deep = vec!["directory"; 100].join("/");
    fs::create_dir_all(place.at(&deep)).unwrap();
    assert!(place.at_home(&deep).is_dir());
    fs::remove_dir_all(place.at("directory")).unwrap();
    assert_eq!(fs::read_dir(&place.home).unwrap().count(), 0);
}
