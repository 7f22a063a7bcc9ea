//! Listings: complete, in pieces, of directories that change.

use std::collections::BTreeSet;
use std::fs;

use super::harness::{Data, Mounted};

#[test]
fn a_hundred_thousand_entries_are_each_listed_once() {
    let m = Mounted::new(Data::Asked);
    fs::create_dir(m.beside("many")).unwrap();
    for i in 0..100_000 {
        fs::File::create(m.beside(&format!("many/entry-{i}"))).unwrap();
    }
    let names: Vec<_> =
        fs::read_dir(m.path("many")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 100_000);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 100_000);
}

#[test]
fn what_stays_while_others_go_is_listed() {
    let m = Mounted::new(Data::Asked);
    fs::create_dir(m.path("d")).unwrap();
    for i in 0..3_000 {
        fs::write(m.path(&format!("d/{i}")), "").unwrap();
    }
    let mut seen = BTreeSet::new();
    for (nth, entry) in fs::read_dir(m.path("d")).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if nth % 2 == 0 {
            fs::remove_file(m.path(&format!("d/{name}"))).unwrap();
        }
        assert!(seen.insert(name), "listed twice");
    }
    assert_eq!(seen.len(), 3_000);
    assert_eq!(fs::read_dir(m.path("d")).unwrap().count(), 1_500);
    for entry in fs::read_dir(m.path("d")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::remove_dir(m.path("d")).unwrap();
}

#[test]
fn numbers_of_listing_and_stat_agree() {
    use std::os::unix::fs::{DirEntryExt, MetadataExt};
    let m = Mounted::new(Data::Asked);
    fs::write(m.path("f"), "").unwrap();
    fs::create_dir(m.path("d")).unwrap();
    for entry in fs::read_dir(m.path("")).unwrap().map(Result::unwrap) {
        assert_eq!(entry.ino(), entry.metadata().unwrap().ino(), "{entry:?}");
        assert_eq!(entry.file_type().unwrap(), entry.metadata().unwrap().file_type());
    }
}
