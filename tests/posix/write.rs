//! write(2), pwrite(2): a successful write is visible at home at once.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("visible_at_home_at_once", visible_at_home_at_once),
    ("any_stretch", any_stretch),
    ("a_large_file", a_large_file),
    ("beyond_the_end_leaves_a_hole", beyond_the_end_leaves_a_hole),
    ("two_sides_write_one_file", two_sides_write_one_file),
    ("a_full_file_system", a_full_file_system),
    ("a_limit_on_file_sizes_holds", a_limit_on_file_sizes_holds),
];

fn visible_at_home_at_once(place: &Place<'_>) {
    let mut file = File::create(place.at("f")).unwrap();
    for round in 1..=40_usize {
        file.write_all(b"0123456789").unwrap();
        assert_eq!(fs::read(place.at_home("f")).unwrap().len(), round * 10);
    }
}

fn any_stretch(place: &Place<'_>) {
    let mut wanted = vec![0_u8; 3_000_000];
    let file = File::create(place.at("f")).unwrap();
    file.set_len(3_000_000).unwrap();
    let stretches = [(0, 1), (4_095, 2), (1_000_000, 1 << 20), (2_999_990, 10), (77, 1_048_577)];
    for (number, (offset, size)) in stretches.into_iter().enumerate() {
        let data = vec![number as u8 + 1; size];
        file.write_all_at(&data, offset as u64).unwrap();
        wanted[offset..offset + size].copy_from_slice(&data);
    }
    assert!(fs::read(place.at_home("f")).unwrap() == wanted, "bytes differ");
}

fn a_large_file(place: &Place<'_>) {
    let source = place.run(
        "s=/tmp/source-$$; head -c 60000000 /dev/urandom >$s && cp $s f && cmp $s f && sha256sum <$s && rm $s",
    );
    assert_eq!(place.run_at_home("sha256sum <f"), source);
}

fn beyond_the_end_leaves_a_hole(place: &Place<'_>) {
    let file = File::create(place.at("f")).unwrap();
    file.write_all_at(b"end", 10_000_000).unwrap();
    let data = fs::read(place.at_home("f")).unwrap();
    assert_eq!(data.len(), 10_000_003);
    assert!(data[..10_000_000].iter().all(|byte| *byte == 0));
}

fn two_sides_write_one_file(place: &Place<'_>) {
    fs::write(place.at("f"), vec![b'.'; 20_000]).unwrap();
    let there = OpenOptions::new().read(true).write(true).open(place.at("f")).unwrap();
    let home = OpenOptions::new().read(true).write(true).open(place.at_home("f")).unwrap();
    for round in 0..100_u64 {
        there.write_all_at(b"there", round * 200).unwrap();
        home.write_all_at(b"home", round * 200 + 100).unwrap();
        let (mut a, mut b) = ([0; 4], [0; 5]);
        there.read_exact_at(&mut a, round * 200 + 100).unwrap();
        home.read_exact_at(&mut b, round * 200).unwrap();
        assert_eq!((&a, &b), (b"home", b"there"), "round {round}");
    }
}

fn a_full_file_system(place: &Place<'_>) {
    place.run_at_home("mkdir full && mount -t tmpfs -o size=1m none full");
    let refused = place.try_run("head -c 3000000 /dev/zero >full/f");
    assert!(refused.stderr.contains("No space left"), "{}", refused.stderr);
    // The last close reaches the home node a moment after the program's end.
    mfs_tests::eventually(
        "nothing holds the file system",
        std::time::Duration::from_secs(60),
        || {
            place
                .home_node()
                .try_run(&format!("umount {}/full", place.inside_home))
                .status
                .success()
        },
    );
}

/// RLIMIT_FSIZE of the caller: what fits is written, then EFBIG and SIGXFSZ (setrlimit(2)).
fn a_limit_on_file_sizes_holds(place: &Place<'_>) {
    let said = place.run(
        "python3 -c 'import errno, os, resource, signal
caught = []
signal.signal(signal.SIGXFSZ, lambda *_: caught.append(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
fd = os.open(\"f\", os.O_CREAT | os.O_RDWR, 0o600)
print(os.pwrite(fd, b\"x\" * 4096, 8000))
for change in (lambda: os.pwrite(fd, b\"x\", 10000), lambda: os.ftruncate(fd, 10001)):
    try:
        change()
    except OSError as error:
        print(errno.errorcode[error.errno])
print(len(caught))'",
    );
    assert_eq!(said, "2000\nEFBIG\nEFBIG\n2");
    assert_eq!(fs::metadata(place.at_home("f")).unwrap().len(), 10_000);
}
