//! Listings: what is created and removed by the other, before and while a directory is read.

use std::collections::BTreeSet;

use libc::{O_DIRECTORY, O_RDONLY, SEEK_SET};
use rustix::io::Errno;

use super::actor::Actor;
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_created_name_is_listed_at_once,
        a_removed_name_is_not_listed_any_more,
        a_rename_changes_the_listing_at_once,
        a_rewound_stream_shows_the_directory_anew,
        names_that_stay_are_listed_once_while_others_come_and_go,
        a_directory_that_is_removed_while_it_is_read_ends,
        a_directory_that_is_emptied_while_it_is_read_ends,
        times_of_a_directory_change_with_its_names,
        a_listing_has_the_attributes_of_now;
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("name-{number:03}")).collect()
}

fn a_created_name_is_listed_at_once(two: &Two<'_>) {
    let mut expected = Vec::new();
    for name in names(8) {
        two.a.put(&name, b"").unwrap();
        expected.push(name);
        two.b.sees(Ok(expected.clone()), |b| b.list(""));
    }
}

fn a_removed_name_is_not_listed_any_more(two: &Two<'_>) {
    let mut expected = names(6);
    for name in &expected {
        two.given(name, b"");
    }
    two.b.sees(Ok(expected.clone()), |b| b.list(""));
    while let Some(name) = expected.pop() {
        two.a.unlink(&name).unwrap();
        two.b.sees(Ok(expected.clone()), |b| b.list(""));
    }
}

fn a_rename_changes_the_listing_at_once(two: &Two<'_>) {
    two.given("one", b"");
    two.b.sees(Ok(vec!["one".to_owned()]), |b| b.list(""));
    two.a.rename("one", "two").unwrap();
    two.b.sees(Ok(vec!["two".to_owned()]), |b| b.list(""));
}

fn a_rewound_stream_shows_the_directory_anew(two: &Two<'_>) {
    two.given("one", b"");
    let stream = two.b.open("", O_RDONLY | O_DIRECTORY).unwrap();
    assert_eq!(two.b.entries(stream).unwrap(), ["one"]);
    two.a.put("two", b"").unwrap();
    two.a.unlink("one").unwrap();
    two.b.sees(vec!["two".to_owned()], |b| {
        b.seek(stream, 0, SEEK_SET).unwrap();
        b.entries(stream).unwrap()
    });
}

fn names_that_stay_are_listed_once_while_others_come_and_go(two: &Two<'_>) {
    let stay = names(40);
    for name in &stay {
        two.given(name, b"");
    }
    let change = |a: &Actor| {
        for turn in 0..24 {
            a.put(&format!("other-{turn}"), b"").unwrap();
            if turn % 2 == 0 {
                a.unlink(&format!("other-{turn}")).unwrap();
            }
        }
    };
    let look = |b: &Actor| {
        for _ in 0..6 {
            let stream = b.open("", O_RDONLY | O_DIRECTORY).unwrap();
            let mut seen = Vec::new();
            loop {
                // Little room, so that the stream is read in many calls.
                match b.some_entries(stream, 400).unwrap() {
                    more if more.is_empty() => break,
                    more => seen.extend(more),
                }
            }
            b.close(stream).unwrap();
            let distinct: BTreeSet<_> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "listed twice: {seen:?}");
            let missing: Vec<_> = stay.iter().filter(|name| !distinct.contains(name)).collect();
            assert!(missing.is_empty(), "not listed: {missing:?}");
        }
    };
    two.together(change, look);
    let mut expected: Vec<_> =
        (0..24).filter(|turn| turn % 2 == 1).map(|turn| format!("other-{turn}")).collect();
    expected.extend(stay);
    expected.sort();
    two.b.sees(Ok(expected), |b| b.list(""));
}

fn a_directory_that_is_removed_while_it_is_read_ends(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    let stream = two.b.open("d", O_RDONLY | O_DIRECTORY).unwrap();
    two.a.rmdir("d").unwrap();
    // Nothing, or that it is gone: both are what one machine says, depending on the file system.
    two.b.sees(true, |b| match b.entries(stream) {
        Ok(names) => names.is_empty(),
        Err(error) => error == Errno::NOENT,
    });
    two.b.sees(Err(Errno::NOENT), |b| b.list("d"));
}

fn a_directory_that_is_emptied_while_it_is_read_ends(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    let all = names(60);
    for name in &all {
        two.given(&format!("d/{name}"), b"");
    }
    let stream = two.b.open("d", O_RDONLY | O_DIRECTORY).unwrap();
    let mut seen = two.b.some_entries(stream, 400).unwrap();
    for name in &all {
        two.a.unlink(&format!("d/{name}")).unwrap();
    }
    seen.extend(two.b.entries(stream).unwrap());
    seen.retain(|name| name != "." && name != "..");
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "listed twice: {seen:?}");
    two.b.sees(Ok(vec![]), |b| b.list("d"));
    two.b.rmdir("d").unwrap();
}

fn times_of_a_directory_change_with_its_names(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.maker().set_times("d", (1_000_000_000, 0)).unwrap();
    two.b.sees((1_000_000_000, 0), |b| b.stat("d").unwrap().modified);
    two.a.put("d/f", b"").unwrap();
    two.b.sees(two.a.stat("d").unwrap().modified, |b| b.stat("d").unwrap().modified);
    two.a.set_times("d", (1_000_000_000, 0)).unwrap();
    two.a.rename("d/f", "d/g").unwrap();
    two.b.sees(true, |b| b.stat("d").unwrap().modified > (1_000_000_000, 0));
}

/// A listing may bring attributes along; they are not older than the listing.
fn a_listing_has_the_attributes_of_now(two: &Two<'_>) {
    let all = names(10);
    for name in &all {
        two.given(name, b"");
    }
    for round in 1..4_usize {
        two.b.sees(Ok(all.clone()), |b| b.list(""));
        for (number, name) in all.iter().enumerate() {
            two.a.truncate(name, round * 100 + number).unwrap();
        }
        let sizes: Vec<_> =
            (0..all.len()).map(|number| Ok((round * 100 + number) as u64)).collect();
        two.b.sees(sizes, |b| {
            b.list("").unwrap();
            all.iter().map(|name| b.size(name)).collect()
        });
    }
}
