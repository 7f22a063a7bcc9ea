//! chown(2), lchown(2).

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("owner_and_group_arrive_at_home", owner_and_group_arrive_at_home),
    ("a_link_itself_can_be_given_away", a_link_itself_can_be_given_away),
    ("users_cannot_give_files_away", users_cannot_give_files_away),
    ("set_id_bits_are_cleared", set_id_bits_are_cleared),
];

fn owner_and_group_arrive_at_home(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    chown(place.at("f"), Some(123_456), None).unwrap();
    chown(place.at("f"), None, Some(654_321)).unwrap();
    let found = fs::metadata(place.at_home("f")).unwrap();
    assert_eq!((found.uid(), found.gid()), (123_456, 654_321));
}

fn a_link_itself_can_be_given_away(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    symlink("f", place.at("l")).unwrap();
    lchown(place.at("l"), Some(2), Some(2)).unwrap();
    assert_eq!(fs::symlink_metadata(place.at_home("l")).unwrap().uid(), 2);
    assert_eq!(fs::metadata(place.at_home("f")).unwrap().uid(), 0);
}

fn users_cannot_give_files_away(place: &Place<'_>) {
    place.run("echo a >f && chown bin:bin f");
    place.run("! setpriv --reuid=bin --regid=bin --clear-groups chown games f");
    place.run("setpriv --reuid=bin --regid=bin --groups=60 chgrp 60 f");
    assert_eq!(place.run_at_home("stat -c %u:%g f"), "2:60");
}

fn set_id_bits_are_cleared(place: &Place<'_>) {
    place.run("echo a >f && chown bin:bin f && chmod 6755 f");
    place.run("setpriv --reuid=bin --regid=bin --groups=60 chgrp 60 f");
    assert_eq!(place.run_at_home("stat -c %a f"), "755");
}
