//! stat(2), statx(2): attributes are those of the home node, the numbers the same on every node.

use std::fs;
use std::os::unix::fs::MetadataExt;

use mfs_tests::eventually;

use super::place::{Case, LIMIT, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("attributes_are_those_at_home", attributes_are_those_at_home),
    ("numbers_are_the_same_on_every_node", numbers_are_the_same_on_every_node),
    ("changes_at_home_are_seen", changes_at_home_are_seen),
    ("a_missing_name_may_appear", a_missing_name_may_appear),
    ("through_an_open_file", through_an_open_file),
];

fn attributes_are_those_at_home(place: &Place<'_>) {
    place.run_at_home("seq 10000 >f && chown 12:34 f && chmod 2640 f && ln f g && touch -d '2001-02-03 04:05:06.123456789 UTC' f");
    let (home, through) =
        (fs::metadata(place.at_home("f")).unwrap(), fs::metadata(place.at("f")).unwrap());
    let figures = |m: &fs::Metadata| {
        [
            m.size(),
            m.blocks(),
            u64::from(m.mode()),
            u64::from(m.uid()),
            u64::from(m.gid()),
            m.nlink(),
        ]
    };
    assert_eq!(figures(&through), figures(&home));
    let times = |m: &fs::Metadata| {
        [(m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()), (m.atime(), m.atime_nsec())]
    };
    assert_eq!(times(&through), times(&home));
    assert_eq!(through.mtime_nsec(), 123_456_789);
}

fn numbers_are_the_same_on_every_node(place: &Place<'_>) {
    place.run("mkdir -p d/e && touch f d/g && ln -s f l");
    let numbers = |node: mfs_tests::Node<'_>| {
        let directory = place.inside.replacen("/mfs0/", "/mfs/", 1);
        node.run(&format!("cd {directory} && find . -printf '%i %p\\n' | sort -k2"))
    };
    let here = numbers(place.here());
    assert_eq!(here.lines().count(), 6);
    assert_eq!(here, numbers(place.home_node()));
    assert_eq!(place.run("find . -printf '%i %p\\n' | sort -k2"), here);
    let distinct: std::collections::BTreeSet<_> =
        here.lines().map(|line| line.split(' ').next()).collect();
    assert_eq!(distinct.len(), 6, "{here}");
}

fn changes_at_home_are_seen(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    for round in 1..60_u64 {
        fs::write(place.at_home("f"), vec![0; round as usize]).unwrap();
        eventually("the size is seen", LIMIT, || {
            fs::metadata(place.at("f")).unwrap().len() == round
        });
    }
}

fn a_missing_name_may_appear(place: &Place<'_>) {
    for round in 0..40 {
        let name = format!("f{round}");
        assert_eq!(errno(fs::metadata(place.at(&name))), libc::ENOENT);
        fs::write(place.at_home(&name), "").unwrap();
        eventually("it is seen", LIMIT, || fs::metadata(place.at(&name)).is_ok());
        fs::remove_file(place.at_home(&name)).unwrap();
        eventually("it is gone", LIMIT, || !place.at(&name).exists());
    }
}

fn through_an_open_file(place: &Place<'_>) {
    fs::write(place.at("f"), "abc").unwrap();
    let file = fs::File::open(place.at("f")).unwrap();
    fs::remove_file(place.at("f")).unwrap();
    let found = file.metadata().unwrap();
    assert_eq!((found.len(), found.nlink()), (3, 0));
}
