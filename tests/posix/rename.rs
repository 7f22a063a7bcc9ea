//! rename(2) and renameat2(2).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::place::{Case, Kind, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("moves_between_directories", moves_between_directories),
    ("replaces_a_file", replaces_a_file),
    ("directories", directories),
    ("without_replacing", without_replacing),
    ("exchanging", exchanging),
    ("leaving_a_whiteout", leaving_a_whiteout),
    ("not_between_nodes", not_between_nodes),
    ("an_open_file_stays_open", an_open_file_stays_open),
];

fn moves_between_directories(place: &Place<'_>) {
    fs::create_dir_all(place.at("a/b")).unwrap();
    fs::write(place.at("f"), "x").unwrap();
    let number = fs::metadata(place.at("f")).unwrap().ino();
    fs::rename(place.at("f"), place.at("a/b/g")).unwrap();
    assert!(!place.at("f").exists() && !place.at_home("f").exists());
    assert_eq!(fs::read(place.at_home("a/b/g")).unwrap(), b"x");
    assert_eq!(fs::metadata(place.at("a/b/g")).unwrap().ino(), number);
}

fn replaces_a_file(place: &Place<'_>) {
    for round in 0..30 {
        fs::write(place.at("new"), format!("{round}")).unwrap();
        fs::rename(place.at("new"), place.at("f")).unwrap();
        assert_eq!(fs::read_to_string(place.at("f")).unwrap(), format!("{round}"));
        assert_eq!(fs::read_to_string(place.at_home("f")).unwrap(), format!("{round}"));
    }
}

fn directories(place: &Place<'_>) {
    fs::create_dir_all(place.at("a/b")).unwrap();
    fs::create_dir_all(place.at("full/x")).unwrap();
    fs::create_dir(place.at("empty")).unwrap();
    fs::write(place.at("f"), "").unwrap();
    assert_eq!(errno(fs::rename(place.at("a"), place.at("a/b/c"))), libc::EINVAL);
    assert_eq!(errno(fs::rename(place.at("a"), place.at("full"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(place.at("a"), place.at("f"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(place.at("f"), place.at("a"))), libc::EISDIR);
    fs::rename(place.at("a"), place.at("empty")).unwrap();
    assert!(place.at_home("empty/b").is_dir() && !place.at_home("a").exists());
}

fn without_replacing(place: &Place<'_>) {
    fs::write(place.at("a"), "a").unwrap();
    fs::write(place.at("b"), "b").unwrap();
    let rename = |from: &str, to: &str| {
        renameat_with(CWD, place.at(from), CWD, place.at(to), RenameFlags::NOREPLACE)
    };
    assert_eq!(rename("a", "b").unwrap_err(), rustix::io::Errno::EXIST);
    rename("a", "c").unwrap();
    assert_eq!(fs::read(place.at_home("c")).unwrap(), b"a");
}

fn exchanging(place: &Place<'_>) {
    fs::write(place.at("a"), "a").unwrap();
    fs::create_dir(place.at("b")).unwrap();
    renameat_with(CWD, place.at("a"), CWD, place.at("b"), RenameFlags::EXCHANGE).unwrap();
    assert!(place.at("a").is_dir() && place.at_home("a").is_dir());
    assert_eq!(fs::read(place.at("b")).unwrap(), b"a");
}

fn leaving_a_whiteout(place: &Place<'_>) {
    fs::write(place.at("a"), "a").unwrap();
    renameat_with(CWD, place.at("a"), CWD, place.at("b"), RenameFlags::WHITEOUT).unwrap();
    let left = fs::symlink_metadata(place.at_home("a")).unwrap();
    assert_eq!((left.mode() & libc::S_IFMT, left.rdev()), (libc::S_IFCHR, 0));
    assert_eq!(fs::read(place.at_home("b")).unwrap(), b"a");
}

fn not_between_nodes(place: &Place<'_>) {
    if place.kind == Kind::Remote {
        fs::write(place.at("a"), "a").unwrap();
        let other = place.here().path("/mfs/n1/tmp/moved");
        assert_eq!(errno(fs::rename(place.at("a"), &other)), libc::EXDEV);
        // mv(1) copies then, as between any file systems.
        place.run(
            "mv a /mfs/n1/tmp/moved-$$ && cat /mfs/n1/tmp/moved-$$ && rm /mfs/n1/tmp/moved-$$",
        );
        assert!(!place.at_home("a").exists());
    }
}

fn an_open_file_stays_open(place: &Place<'_>) {
    fs::write(place.at("a"), "a").unwrap();
    let file = File::open(place.at("a")).unwrap();
    fs::rename(place.at("a"), place.at("b")).unwrap();
    fs::write(place.at("a"), "another").unwrap();
    assert_eq!(std::io::read_to_string(file).unwrap(), "a");
}
