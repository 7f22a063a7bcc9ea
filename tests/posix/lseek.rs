//! lseek(2): SEEK_DATA and SEEK_HOLE, and the end.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom as From};
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};

use mfs_tests::eventually;

use super::place::{Case, LIMIT, Place};

pub(super) const CASES: &[(&str, Case)] =
    &[("holes_are_found", holes_are_found), ("the_end_moves", the_end_moves)];

fn holes_are_found(place: &Place<'_>) {
    let home = File::create(place.at_home("f")).unwrap();
    home.write_all_at(&[1; 4096], 1 << 20).unwrap();
    home.set_len(3 << 20).unwrap();
    let file = File::open(place.at("f")).unwrap();
    assert_eq!(seek(&file, SeekFrom::Data(0)).unwrap(), 1 << 20);
    assert_eq!(seek(&file, SeekFrom::Hole(1 << 20)).unwrap(), (1 << 20) + 4096);
    assert_eq!(seek(&file, SeekFrom::Data(2 << 20)).unwrap_err(), rustix::io::Errno::NXIO);
    assert_eq!(seek(&file, SeekFrom::Hole(2 << 20)).unwrap(), 2 << 20);
    assert_eq!(seek(&file, SeekFrom::Hole(4 << 20)).unwrap_err(), rustix::io::Errno::NXIO);
}

fn the_end_moves(place: &Place<'_>) {
    fs::write(place.at("f"), "12345").unwrap();
    let mut file = File::open(place.at("f")).unwrap();
    assert_eq!(file.seek(From::End(0)).unwrap(), 5);
    fs::write(place.at_home("f"), "1234567890").unwrap();
    eventually("the end has moved", LIMIT, || file.seek(From::End(-1)).unwrap() == 9);
}
