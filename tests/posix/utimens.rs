//! utimensat(2): nanoseconds, now, and leaving one alone.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("nanoseconds_arrive", nanoseconds_arrive),
    ("one_can_be_left_alone", one_can_be_left_alone),
    ("of_a_link_itself", of_a_link_itself),
    ("who_may", who_may),
];

fn times(place: &Place<'_>, name: &str) -> [(i64, i64); 2] {
    let found = fs::symlink_metadata(place.at_home(name)).unwrap();
    let through = fs::symlink_metadata(place.at(name)).unwrap();
    let pair = |m: &fs::Metadata| [(m.atime(), m.atime_nsec()), (m.mtime(), m.mtime_nsec())];
    assert_eq!(pair(&through), pair(&found));
    pair(&found)
}

fn set(place: &Place<'_>, name: &str, access: (i64, i64), change: (i64, i64), flags: AtFlags) {
    let spec = |(seconds, nanoseconds): (i64, i64)| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps { last_access: spec(access), last_modification: spec(change) };
    utimensat(CWD, place.at(name), &times, flags).unwrap();
}

fn nanoseconds_arrive(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    for (access, change) in
        [((1, 2), (3, 4)), ((1_700_000_000, 999_999_999), (4_000_000_000, 1)), ((0, 0), (0, 0))]
    {
        set(place, "f", access, change, AtFlags::empty());
        assert_eq!(times(place, "f"), [access, change]);
    }
}

fn one_can_be_left_alone(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    set(place, "f", (10, 20), (30, 40), AtFlags::empty());
    set(place, "f", (0, UTIME_OMIT), (50, 60), AtFlags::empty());
    assert_eq!(times(place, "f"), [(10, 20), (50, 60)]);
    set(place, "f", (0, UTIME_NOW), (0, UTIME_OMIT), AtFlags::empty());
    let [access, change] = times(place, "f");
    assert!(access.0 > 1_700_000_000, "{access:?}");
    assert_eq!(change, (50, 60));
}

fn of_a_link_itself(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    set(place, "f", (1, 1), (1, 1), AtFlags::empty());
    std::os::unix::fs::symlink("f", place.at("l")).unwrap();
    set(place, "l", (7, 8), (9, 10), AtFlags::SYMLINK_NOFOLLOW);
    assert_eq!(fs::symlink_metadata(place.at_home("l")).unwrap().mtime(), 9);
    assert_eq!(times(place, "f")[1], (1, 1));
}

fn who_may(place: &Place<'_>) {
    place.run("echo a >f && chown bin f && chmod 666 f");
    place.run("setpriv --reuid=bin --regid=bin --clear-groups touch -d @5 f");
    // Whoever may write may set the present time, and no other.
    place.run("setpriv --reuid=games --regid=games --clear-groups touch f");
    place.run("! setpriv --reuid=games --regid=games --clear-groups touch -d @5 f");
}
