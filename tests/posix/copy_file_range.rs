//! copy_file_range(2): within one node no bytes cross the wire.

use std::fs::{self, File};

use mfs_tests::eventually;
use rustix::fs::copy_file_range;
use serde_json::Value;

use super::place::{Case, Kind, LIMIT, Place};

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
    // A mount of its own: in the others cases move bytes beside this one.
    let (node, mount) = (place.here(), format!("/mfs-copy-{}", place.kind.word()));
    let direct = u8::from(place.kind != Kind::Served);
    node.run(&format!("mkdir {mount} && mount -t mfs -o dfsa={direct} mfs {mount}"));
    let own = |name: &str| {
        let below = place.inside.splitn(3, '/').nth(2).expect("a mount and a path below it");
        node.path(&format!("{mount}/{below}/{name}"))
    };
    let from = File::open(own("big")).unwrap();
    let to = File::create(own("copy")).unwrap();
    let mut left = SIZE;
    while left > 0 {
        let count = copy_file_range(&from, None, &to, None, left).unwrap();
        assert!(count > 0, "{left} bytes are left");
        left -= count;
    }
    let figures: Value = serde_json::from_str(&node.run("mfs stats --json")).unwrap();
    let mounts = figures["mounts"].as_array().expect("mounts are a list");
    let figures = mounts.iter().find(|found| found["mountpoint"] == mount.as_str()).unwrap();
    for bytes in ["mfs_client_read_bytes_total", "mfs_client_written_bytes_total"] {
        assert_eq!(figures["metrics"][bytes], 0, "they crossed the wire");
    }
    assert_eq!(fs::read(place.at_home("copy")).unwrap(), vec![7; SIZE]);
    drop((from, to));
    // A process that another case is just starting holds a copy of every descriptor until it runs.
    eventually("the mount can go", LIMIT, || {
        node.try_run(&format!("umount {mount}")).status.success()
    });
}

fn between_nodes_programs_still_copy(place: &Place<'_>) {
    place.run("seq 100000 >f && cp f /mfs/n2/tmp/copied-$$ && cmp f /mfs/n2/tmp/copied-$$ && rm /mfs/n2/tmp/copied-$$");
}
