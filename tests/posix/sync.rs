//! fsync(2), fdatasync(2), fsync of directories, syncfs(2).

use std::fs::{self, File};
use std::io::Write;

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("files_and_directories", files_and_directories),
    ("without_write_access", without_write_access),
];

fn files_and_directories(place: &Place<'_>) {
    let mut file = File::create(place.at("f")).unwrap();
    file.write_all(b"kept").unwrap();
    file.sync_data().unwrap();
    assert_eq!(fs::read(place.at_home("f")).unwrap(), b"kept");
    file.sync_all().unwrap();
    File::open(&place.dir).unwrap().sync_all().unwrap();
    place.run("sync . && sync -f f");
}

fn without_write_access(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    File::open(place.at("f")).unwrap().sync_all().unwrap();
}
