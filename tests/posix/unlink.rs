//! unlink(2).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::place::{Case, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("an_open_file_lives_on", an_open_file_lives_on),
    ("removed_at_home_lives_on_too", removed_at_home_lives_on_too),
    ("refusals", refusals),
    ("sticky_directories", sticky_directories),
];

fn an_open_file_lives_on(place: &Place<'_>) {
    fs::write(place.at("f"), "before").unwrap();
    let mut file = OpenOptions::new().read(true).append(true).open(place.at("f")).unwrap();
    fs::remove_file(place.at("f")).unwrap();
    assert!(!place.at_home("f").exists());
    file.write_all(b" after").unwrap();
    let mut text = [0; 12];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"before after");
    // The name is free for another file.
    fs::write(place.at("f"), "new").unwrap();
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"before after");
    assert_eq!(fs::read(place.at("f")).unwrap(), b"new");
}

fn removed_at_home_lives_on_too(place: &Place<'_>) {
    fs::write(place.at("f"), "still here").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(place.at("f")).unwrap();
    fs::remove_file(place.at_home("f")).unwrap();
    let mut text = [0; 10];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"still here");
    file.set_len(3).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 3);
    assert_eq!(errno(fs::metadata(place.at("f"))), libc::ENOENT);
}

fn refusals(place: &Place<'_>) {
    fs::create_dir(place.at("d")).unwrap();
    assert_eq!(errno(fs::remove_file(place.at("d"))), libc::EISDIR);
    assert_eq!(errno(fs::remove_file(place.at("no"))), libc::ENOENT);
    fs::write(place.at("f"), "").unwrap();
    assert_eq!(errno(fs::remove_file(place.at("f/x"))), libc::ENOTDIR);
}

fn sticky_directories(place: &Place<'_>) {
    place.run("mkdir d && chmod 1777 d && touch d/f && chown bin d/f");
    place.run("! setpriv --reuid=games --regid=games --clear-groups rm -f d/f");
    place.run("setpriv --reuid=bin --regid=bin --clear-groups rm d/f");
}
