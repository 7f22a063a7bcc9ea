//! read(2), pread(2), sendfile(2).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("any_stretch", any_stretch),
    ("a_large_file", a_large_file),
    ("beyond_the_end", beyond_the_end),
    ("many_threads", many_threads),
    ("a_file_of_proc_is_not_there", a_file_of_proc_is_not_there),
];

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn any_stretch(place: &Place<'_>) {
    let data = pattern(3_000_000);
    fs::write(place.at_home("f"), &data).unwrap();
    let file = File::open(place.at("f")).unwrap();
    for (offset, size) in [(0, 1), (4095, 2), (1, 1 << 20), (1_048_575, 1_048_577), (2_999_999, 1)]
    {
        let mut buffer = vec![0; size];
        file.read_exact_at(&mut buffer, offset as u64).unwrap();
        assert_eq!(buffer, data[offset..offset + size], "{size} from {offset}");
    }
}

fn a_large_file(place: &Place<'_>) {
    place.run_at_home("head -c 100000000 /dev/urandom >f");
    assert_eq!(place.run("sha256sum <f"), place.run_at_home("sha256sum <f"));
}

fn beyond_the_end(place: &Place<'_>) {
    fs::write(place.at("f"), "abc").unwrap();
    let file = File::open(place.at("f")).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 3);
    assert_eq!(file.read_at(&mut buffer, 3).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 50).unwrap(), 0);
}

fn many_threads(place: &Place<'_>) {
    let data = pattern(1 << 22);
    fs::write(place.at_home("f"), &data).unwrap();
    let file = File::open(place.at("f")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16_usize {
            let (file, data) = (&file, &data);
            scope.spawn(move || {
                for round in 0..60 {
                    let offset = (thread * 7919 + round * 104_729) % (data.len() - 9000);
                    let mut buffer = vec![0; 9000];
                    file.read_exact_at(&mut buffer, offset as u64).unwrap();
                    assert!(
                        buffer == data[offset..offset + 9000],
                        "thread {thread}, round {round}"
                    );
                }
            });
        }
    });
}

/// proc, sysfs, devtmpfs and the like below an export are empty directories.
fn a_file_of_proc_is_not_there(place: &Place<'_>) {
    let mount = place.inside.split("/data/").next().unwrap_or_default();
    for kernel in ["proc", "sys", "mfs"] {
        let listed = place.run(&format!("ls -A {mount}/{kernel} | wc -l"));
        assert_eq!(listed, "0", "{mount}/{kernel}");
    }
}
