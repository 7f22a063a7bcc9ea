//! copy_file_range(2): within one node no bytes cross the wire.

use std::fs::{self, File};

use rustix::fs::copy_file_range;

use super::place::{Case, Kind, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("a_range_is_copied", a_range_is_copied),
    ("no_bytes_cross_the_wire", no_bytes_cross_the_wire),
    ("between_nodes_programs_still_copy", between_nodes_programs_still_copy),
];

fn a_range_is_copied(place: &Place<'_>) {
    fs::write(place.at("from"), b"0123456789").unwrap();
    fs::write(place.at("to"), b"abcdefghij").unwrap();
    let from = File::open(place.at("from")).unwrap();
    let to = File::options().write(true).open(place.at("to")).unwrap();
    let (mut read, mut written) = (2, 5);
    let count = copy_file_range(&from, Some(&mut read), &to, Some(&mut written), 3).unwrap();
    assert_eq!((count, read, written), (3, 5, 8));
    assert_eq!(fs::read(place.at_home("to")).unwrap(), b"abcde234ij");
    assert_eq!(fs::read(place.at("to")).unwrap(), b"abcde234ij");
}

fn no_bytes_cross_the_wire(place: &Place<'_>) {
    const SIZE: usize = 8 << 20;
    fs::write(place.at_home("big"), vec![7; SIZE]).unwrap();
    let from = File::open(place.at("big")).unwrap();
    let to = File::create(place.at("copy")).unwrap();
    let moved = || {
        let figures = place.here().mount_figures();
        let bytes = |name: &str| figures[name].as_i64().expect("the mount keeps this figure");
        bytes("mfs_client_read_bytes_total") + bytes("mfs_client_written_bytes_total")
    };
    let before = moved();
    let mut left = SIZE;
    while left > 0 {
        let count = copy_file_range(&from, None, &to, None, left).unwrap();
        assert!(count > 0, "{left} bytes are left");
        left -= count;
    }
    if place.kind == Kind::Remote {
        // Other cases run beside and move some bytes of their own; never as many as this file has.
        assert!(moved() - before < SIZE as i64, "the bytes crossed the wire");
    }
    assert_eq!(fs::read(place.at_home("copy")).unwrap(), vec![7; SIZE]);
}

fn between_nodes_programs_still_copy(place: &Place<'_>) {
    place.run("seq 100000 >f && cp f /mfs/n2/tmp/copied-$$ && cmp f /mfs/n2/tmp/copied-$$ && rm /mfs/n2/tmp/copied-$$");
}
