//! truncate(2), ftruncate(2).

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("shorter_and_longer", shorter_and_longer),
    ("what_was_cut_off_does_not_come_back", what_was_cut_off_does_not_come_back),
    ("an_open_file_needs_no_permission", an_open_file_needs_no_permission),
    ("limits", limits),
];

fn shorter_and_longer(place: &Place<'_>) {
    fs::write(place.at("f"), vec![1; 10_000]).unwrap();
    let file = OpenOptions::new().write(true).open(place.at("f")).unwrap();
    for size in [9_999, 4_096, 1, 0, 5_000, 20_000_000_000] {
        file.set_len(size).unwrap();
        assert_eq!(fs::metadata(place.at_home("f")).unwrap().len(), size);
        assert_eq!(fs::metadata(place.at("f")).unwrap().len(), size);
    }
}

fn what_was_cut_off_does_not_come_back(place: &Place<'_>) {
    fs::write(place.at("f"), vec![1; 10_000]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(place.at("f")).unwrap();
    file.set_len(5_000).unwrap();
    file.set_len(10_000).unwrap();
    let mut data = vec![9; 10_000];
    file.read_exact_at(&mut data, 0).unwrap();
    assert!(data[..5_000].iter().all(|b| *b == 1) && data[5_000..].iter().all(|b| *b == 0));
    // The same, cut at home under an open file.
    File::options().write(true).open(place.at_home("f")).unwrap().set_len(100).unwrap();
    file.set_len(200).unwrap();
    let mut data = vec![9; 200];
    file.read_exact_at(&mut data, 0).unwrap();
    assert!(data[..100].iter().all(|b| *b == 1) && data[100..].iter().all(|b| *b == 0));
}

fn an_open_file_needs_no_permission(place: &Place<'_>) {
    place.run(
        "setpriv --reuid=bin --regid=bin --clear-groups python3 -c 'import os
fd = os.open(\"f\", os.O_CREAT | os.O_RDWR, 0o600)
os.fchmod(fd, 0)
os.ftruncate(fd, 77)'",
    );
    assert_eq!(fs::metadata(place.at_home("f")).unwrap().len(), 77);
    place.run("! setpriv --reuid=bin --regid=bin --clear-groups truncate -s 5 f");
}

fn limits(place: &Place<'_>) {
    fs::write(place.at("f"), "").unwrap();
    let file = OpenOptions::new().write(true).open(place.at("f")).unwrap();
    let refused = file.set_len(i64::MAX as u64).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EFBIG));
    place.run("! python3 -c 'import os; os.truncate(\"f\", -1)' && ! truncate -s 5 no-such/f");
}
