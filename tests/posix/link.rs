//! link(2).

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::place::{Case, Kind, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("both_names_are_one_file", both_names_are_one_file),
    ("refusals", refusals),
    ("not_between_nodes", not_between_nodes),
];

fn both_names_are_one_file(place: &Place<'_>) {
    fs::write(place.at("a"), "one").unwrap();
    fs::hard_link(place.at("a"), place.at("b")).unwrap();
    let (a, b) = (fs::metadata(place.at("a")).unwrap(), fs::metadata(place.at("b")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    assert_eq!(b.nlink(), 2);
    fs::write(place.at("b"), "two").unwrap();
    assert_eq!(fs::read(place.at("a")).unwrap(), b"two");
    fs::remove_file(place.at("a")).unwrap();
    assert_eq!(fs::metadata(place.at("b")).unwrap().nlink(), 1);
    assert_eq!(fs::read(place.at_home("b")).unwrap(), b"two");
}

fn refusals(place: &Place<'_>) {
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("a"), "").unwrap();
    assert_eq!(errno(fs::hard_link(place.at("d"), place.at("e"))), libc::EPERM);
    assert_eq!(errno(fs::hard_link(place.at("a"), place.at("a"))), libc::EEXIST);
    assert_eq!(errno(fs::hard_link(place.at("none"), place.at("b"))), libc::ENOENT);
    assert_eq!(errno(fs::hard_link(place.at("a"), place.at("a/b"))), libc::ENOTDIR);
}

fn not_between_nodes(place: &Place<'_>) {
    if place.kind == Kind::Remote {
        fs::write(place.at("a"), "").unwrap();
        let other = place.here().path("/mfs/n1/tmp/linked");
        assert_eq!(errno(fs::hard_link(place.at("a"), &other)), libc::EXDEV);
        assert!(!other.exists());
    }
}
