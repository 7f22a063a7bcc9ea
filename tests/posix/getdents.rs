//! getdents(2): directories that are large, and that change while they are read.

use std::collections::BTreeSet;
use std::fs::{self, File};

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("all_entries_once", all_entries_once),
    ("entries_removed_on_the_way", entries_removed_on_the_way),
    ("kinds_and_dots", kinds_and_dots),
    ("names_of_any_bytes", names_of_any_bytes),
];

fn all_entries_once(place: &Place<'_>) {
    const COUNT: usize = 12_000;
    for number in 0..COUNT {
        File::create(place.at_home(format!("a-file-with-a-longish-name-{number}"))).unwrap();
    }
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&place.dir).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(names.insert(name.clone()), "{name:?} came twice");
    }
    assert_eq!(names.len(), COUNT);
}

/// `rm -r` reads a directory while it removes its entries: cookies hold their place.
fn entries_removed_on_the_way(place: &Place<'_>) {
    for number in 0..3000 {
        File::create(place.at_home(format!("f{number}"))).unwrap();
    }
    let mut seen = 0;
    for entry in fs::read_dir(&place.dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 3000);
    assert_eq!(fs::read_dir(&place.home).unwrap().count(), 0);
}

fn kinds_and_dots(place: &Place<'_>) {
    place.run_at_home("mkdir d && touch f && ln -s f l && mkfifo p");
    let listed = place.run("ls -aF");
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["./", "../", "d/", "f", "l@", "p|"]);
}

fn names_of_any_bytes(place: &Place<'_>) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let mut long = vec![b'x'; 255];
    long[7] = 0xff;
    for name in [&b"new\nline"[..], b"\xff\xfe", b" ", b"...", b"-rf", "ä".as_bytes(), &long] {
        fs::write(place.at(OsStr::from_bytes(name)), name).unwrap();
        assert_eq!(fs::read(place.at_home(OsStr::from_bytes(name))).unwrap(), name);
    }
    assert_eq!(fs::read_dir(&place.dir).unwrap().count(), 7);
    let refused = fs::write(place.at("y".repeat(256)), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENAMETOOLONG));
}
