//! Races: both try at the same time what only one can have; exactly one has it.

use libc::{O_CREAT, O_EXCL, O_WRONLY};
use rustix::io::Errno;

use super::actor::{Actor, Result};
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        exclusive_creation_has_one_winner,
        a_link_has_one_winner,
        a_symbolic_link_has_one_winner,
        a_directory_is_made_by_one,
        a_file_is_removed_by_one,
        a_directory_is_removed_by_one,
        a_file_is_renamed_by_one,
        a_rename_without_replacing_has_one_winner,
        renames_over_one_name_leave_one_whole_file,
        a_directory_is_removed_or_filled_never_both,
        directories_cannot_be_moved_into_each_other,
        a_link_to_what_is_removed_is_there_or_refused,
        different_names_in_one_directory_all_succeed,
        a_file_is_moved_away_or_written_never_lost;
}

/// Times that each race is run in one round of its case.
const TIMES: usize = 6;

/// Both do the same to the same name, again and again: exactly one succeeds, the other gets `refused`.
#[track_caller]
fn one_wins(
    two: &Two<'_>,
    prepare: impl Fn(&str),
    act: impl Fn(&Actor, &str, &str) -> Result<()> + Sync,
    refused: Errno,
) {
    for turn in 0..TIMES {
        let name = format!("name-{turn}");
        prepare(&name);
        let (a, b) = two.together(|a| act(a, &name, "a"), |b| act(b, &name, "b"));
        let won = [&a, &b].iter().filter(|result| result.is_ok()).count();
        let others = [&a, &b].iter().filter(|result| **result == &Err(refused)).count();
        assert_eq!((won, others), (1, 1), "turn {turn}: {a:?} and {b:?}");
        // Whoever won: both see it.
        let winner = if a.is_ok() { &two.a } else { &two.b };
        let there = winner.lstat(&name).map(drop);
        for actor in [&two.a, &two.b] {
            actor.sees(there, |actor| actor.lstat(&name).map(drop));
        }
    }
}

fn exclusive_creation_has_one_winner(two: &Two<'_>) {
    let create = |actor: &Actor, name: &str, _: &str| {
        let fd = actor.open(name, O_WRONLY | O_CREAT | O_EXCL)?;
        actor.close(fd)
    };
    one_wins(two, |_| {}, create, Errno::EXIST);
}

fn a_link_has_one_winner(two: &Two<'_>) {
    two.given("a", b"a");
    two.given("b", b"b");
    one_wins(two, |_| {}, |actor, name, own| actor.link(own, name), Errno::EXIST);
}

fn a_symbolic_link_has_one_winner(two: &Two<'_>) {
    one_wins(two, |_| {}, |actor, name, own| actor.symlink(own, name), Errno::EXIST);
}

fn a_directory_is_made_by_one(two: &Two<'_>) {
    one_wins(two, |_| {}, |actor, name, _| actor.mkdir(name), Errno::EXIST);
}

fn a_file_is_removed_by_one(two: &Two<'_>) {
    one_wins(two, |name| two.given(name, b""), |a, name, _| a.unlink(name), Errno::NOENT);
}

fn a_directory_is_removed_by_one(two: &Two<'_>) {
    let make = |name: &str| two.maker().mkdir(name).unwrap();
    one_wins(two, make, |actor, name, _| actor.rmdir(name), Errno::NOENT);
}

fn a_file_is_renamed_by_one(two: &Two<'_>) {
    let rename =
        |actor: &Actor, name: &str, own: &str| actor.rename(name, &format!("{name}-{own}"));
    one_wins(two, |name| two.given(name, b""), rename, Errno::NOENT);
}

fn a_rename_without_replacing_has_one_winner(two: &Two<'_>) {
    let prepare = |name: &str| {
        two.given(&format!("{name}-a"), b"a");
        two.given(&format!("{name}-b"), b"b");
    };
    let rename = |actor: &Actor, name: &str, own: &str| {
        actor.rename_with(&format!("{name}-{own}"), name, libc::RENAME_NOREPLACE)
    };
    one_wins(two, prepare, rename, Errno::EXIST);
}

fn renames_over_one_name_leave_one_whole_file(two: &Two<'_>) {
    two.given("f", &[b'0'; 10_000]);
    let replace = |actor: &Actor, own: u8| {
        let name = format!("new-{own}");
        for turn in 0..TIMES {
            actor.put(&name, &vec![own; 10_000 + turn]).unwrap();
            actor.rename(&name, "f").unwrap();
            let bytes = actor.get("f").unwrap();
            assert!(bytes.len() >= 10_000, "a half file: {} bytes", bytes.len());
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixed file");
        }
    };
    two.together(|a| replace(a, b'a'), |b| replace(b, b'b'));
    two.b.sees(Ok(vec!["f".to_owned()]), |b| b.list(""));
    two.a.sees(Ok(vec!["f".to_owned()]), |a| a.list(""));
    two.b.sees(two.a.get("f"), |b| b.get("f"));
}

/// If the directory could be removed, the file was not created; if the file was, the directory is there.
fn a_directory_is_removed_or_filled_never_both(two: &Two<'_>) {
    for turn in 0..TIMES {
        let name = format!("d-{turn}");
        let below = format!("{name}/f");
        two.maker().mkdir(&name).unwrap();
        two.b.sees(Ok(()), |b| b.access(&name));
        let (removed, filled) =
            two.together(|a| a.rmdir(&name), |b| b.open(&below, O_WRONLY | O_CREAT));
        match (removed, filled) {
            (Ok(()), Err(Errno::NOENT)) => two.b.sees(Err(Errno::NOENT), |b| b.access(&name)),
            (Err(Errno::NOTEMPTY), Ok(fd)) => {
                two.b.write(fd, b"kept").unwrap();
                two.a.sees(Ok("kept".to_owned()), |a| a.text(&below));
            }
            other => panic!("turn {turn}: {other:?}"),
        }
    }
}

/// `mv x y/` here and `mv y x/` there: one of them, or both would hang in the air.
fn directories_cannot_be_moved_into_each_other(two: &Two<'_>) {
    for turn in 0..TIMES {
        let [x, y] = ["x", "y"].map(|name| format!("{name}-{turn}"));
        two.maker().mkdir(&x).unwrap();
        two.maker().mkdir(&y).unwrap();
        let (into_y, into_x) = (format!("{y}/{x}"), format!("{x}/{y}"));
        let (first, second) = two.together(|a| a.rename(&x, &into_y), |b| b.rename(&y, &into_x));
        assert!(first.is_ok() != second.is_ok(), "turn {turn}: {first:?} and {second:?}");
        let lost = if first.is_ok() { second } else { first };
        // The loser's target is below its source now, or its parent is not there under that name.
        assert!(matches!(lost, Err(Errno::INVAL | Errno::NOENT)), "turn {turn}: {lost:?}");
        let there = if first.is_ok() { into_y } else { into_x };
        for actor in [&two.a, &two.b] {
            actor.sees(Ok(()), |actor| actor.access(&there));
        }
    }
}

fn a_link_to_what_is_removed_is_there_or_refused(two: &Two<'_>) {
    for turn in 0..TIMES {
        let [name, other] = ["f", "g"].map(|name| format!("{name}-{turn}"));
        two.given(&name, b"text");
        let (removed, linked) = two.together(|a| a.unlink(&name), |b| b.link(&name, &other));
        assert_eq!(removed, Ok(()));
        match linked {
            Ok(()) => {
                two.a.sees(Ok("text".to_owned()), |a| a.text(&other));
                two.a.sees(1, |a| a.stat(&other).unwrap().links);
            }
            Err(Errno::NOENT) => assert_eq!(two.b.access(&other), Err(Errno::NOENT)),
            Err(error) => panic!("turn {turn}: {error}"),
        }
    }
}

fn different_names_in_one_directory_all_succeed(two: &Two<'_>) {
    let work = |actor: &Actor, own: &str| {
        for turn in 0..2 * TIMES {
            let name = |kind: &str| format!("{kind}-{own}-{turn}");
            actor.put(&name("f"), own.as_bytes()).unwrap();
            actor.mkdir(&name("d")).unwrap();
            actor.rename(&name("f"), &format!("{}/f", name("d"))).unwrap();
            actor.link(&format!("{}/f", name("d")), &name("kept")).unwrap();
            actor.unlink(&format!("{}/f", name("d"))).unwrap();
            actor.rmdir(&name("d")).unwrap();
        }
    };
    two.together(|a| work(a, "a"), |b| work(b, "b"));
    let mut expected: Vec<_> = ["a", "b"]
        .iter()
        .flat_map(|own| (0..2 * TIMES).map(move |turn| format!("kept-{own}-{turn}")))
        .collect();
    expected.sort();
    for actor in [&two.a, &two.b] {
        actor.sees(Ok(expected.clone()), |actor| actor.list(""));
    }
}

/// As a spool is emptied: one appends to the file, the other moves it away and reads it.
fn a_file_is_moved_away_or_written_never_lost(two: &Two<'_>) {
    let moved = |a: &Actor| {
        let mut found = String::new();
        for turn in 0..TIMES {
            let name = format!("taken-{turn}");
            if a.rename("spool", &name).is_ok() {
                found.push_str(&name);
                found.push(' ');
            }
        }
        found
    };
    let append = |b: &Actor| {
        for turn in 0..2 * TIMES {
            b.append("spool", format!("line {turn:03}\n").as_bytes()).unwrap();
        }
    };
    let (names, ()) = two.together(moved, append);
    let rest = two.steady().text("spool").unwrap_or_default();
    let mut all: Vec<_> = names
        .split_whitespace()
        .map(|name| two.steady().text(name).unwrap())
        .chain([rest])
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.sort();
    let expected: Vec<_> = (0..2 * TIMES).map(|turn| format!("line {turn:03}")).collect();
    assert_eq!(all, expected);
}
