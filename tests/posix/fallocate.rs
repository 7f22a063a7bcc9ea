//! fallocate(2) with its modes.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, fallocate};

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("space_is_reserved", space_is_reserved),
    ("the_size_can_be_kept", the_size_can_be_kept),
    ("a_hole_is_punched", a_hole_is_punched),
    ("a_range_is_zeroed", a_range_is_zeroed),
    ("a_reader_cannot", a_reader_cannot),
];

fn space_is_reserved(place: &Place<'_>) {
    let file = File::create(place.at("f")).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    let found = fs::metadata(place.at_home("f")).unwrap();
    assert_eq!(found.len(), 1 << 20);
    assert!(found.blocks() >= 2048, "{} blocks", found.blocks());
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
}

fn the_size_can_be_kept(place: &Place<'_>) {
    let file = File::create(place.at("f")).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    let found = fs::metadata(place.at_home("f")).unwrap();
    assert_eq!(found.len(), 0);
    assert!(found.blocks() >= 2048, "{} blocks", found.blocks());
}

fn a_hole_is_punched(place: &Place<'_>) {
    fs::write(place.at("f"), vec![1; 1 << 20]).unwrap();
    let file = File::options().read(true).write(true).open(place.at("f")).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 65_536, 131_072).unwrap();
    let data = fs::read(place.at("f")).unwrap();
    assert_eq!(data.len(), 1 << 20);
    assert!(data[65_536..196_608].iter().all(|byte| *byte == 0));
    assert!(data[..65_536].iter().chain(&data[196_608..]).all(|byte| *byte == 1));
    assert_eq!(fs::read(place.at_home("f")).unwrap(), data);
}

fn a_range_is_zeroed(place: &Place<'_>) {
    fs::write(place.at("f"), vec![1; 8192]).unwrap();
    let file = File::options().write(true).open(place.at("f")).unwrap();
    fallocate(&file, FallocateFlags::ZERO_RANGE, 4000, 8000).unwrap();
    let data = fs::read(place.at_home("f")).unwrap();
    assert_eq!(data.len(), 12_000);
    assert!(data[4000..].iter().all(|byte| *byte == 0) && data[..4000].iter().all(|b| *b == 1));
}

fn a_reader_cannot(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    let file = File::open(place.at("f")).unwrap();
    let refused = fallocate(&file, FallocateFlags::empty(), 0, 10).unwrap_err();
    assert_eq!(refused, rustix::io::Errno::BADF);
}
