//! Names: what one creates, removes, renames or replaces is so for the other at once.

use libc::{O_RDONLY, O_RDWR};
use rustix::io::Errno;

use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_missing_name_is_found_once_created,
        a_missing_directory_is_found_once_created,
        a_removed_name_is_missing_at_once,
        a_name_created_again_is_the_new_file,
        a_rename_moves_the_name_at_once,
        a_rename_over_a_known_name_shows_the_new_file,
        the_next_open_after_a_replacement_gets_the_new_file,
        exchanged_names_are_exchanged_at_once,
        a_rename_between_directories_is_seen_in_both,
        a_name_comes_and_goes_by_turns;
}

fn a_missing_name_is_found_once_created(two: &Two<'_>) {
    for name in ["f", "g", "h"] {
        assert_eq!(two.b.stat(name).map(drop), Err(Errno::NOENT));
        assert_eq!(two.b.open(name, O_RDONLY), Err(Errno::NOENT));
        two.a.put(name, b"here").unwrap();
        two.b.sees(Ok(4), |b| b.size(name));
        assert_eq!(two.b.text(name).unwrap(), "here");
    }
}

fn a_missing_directory_is_found_once_created(two: &Two<'_>) {
    assert_eq!(two.b.stat("d/e/f").map(drop), Err(Errno::NOENT));
    two.a.mkdir("d").unwrap();
    two.b.sees(Ok(()), |b| b.access("d"));
    assert_eq!(two.b.stat("d/e").map(drop), Err(Errno::NOENT));
    two.a.mkdir("d/e").unwrap();
    two.b.sees(Ok(()), |b| b.access("d/e"));
    two.b.put("d/e/f", b"x").unwrap();
    two.a.sees(Ok(1), |a| a.size("d/e/f"));
}

fn a_removed_name_is_missing_at_once(two: &Two<'_>) {
    two.given("f", b"1");
    two.b.sees(Ok(1), |b| b.size("f"));
    two.a.unlink("f").unwrap();
    two.b.sees(Err(Errno::NOENT), |b| b.stat("f").map(drop));
    assert_eq!(two.b.open("f", O_RDONLY), Err(Errno::NOENT));
    assert_eq!(two.b.unlink("f"), Err(Errno::NOENT));
}

fn a_name_created_again_is_the_new_file(two: &Two<'_>) {
    two.given("f", b"old");
    let old = two.b.stat("f").unwrap().ino;
    // Held open, so that its number is not given again.
    let held = two.b.open("f", O_RDONLY).unwrap();
    two.a.unlink("f").unwrap();
    two.a.put("f", b"new one").unwrap();
    two.b.sees(Ok(7), |b| b.size("f"));
    assert_ne!(two.b.stat("f").unwrap().ino, old);
    assert_eq!(two.b.text("f").unwrap(), "new one");
    assert_eq!(two.b.all(held).unwrap(), b"old");
}

fn a_rename_moves_the_name_at_once(two: &Two<'_>) {
    two.given("from", b"text");
    let number = two.b.stat("from").unwrap().ino;
    assert_eq!(two.b.stat("to").map(drop), Err(Errno::NOENT));
    two.a.rename("from", "to").unwrap();
    two.b.sees(Ok(number), |b| b.stat("to").map(|stat| stat.ino));
    two.b.sees(Err(Errno::NOENT), |b| b.stat("from").map(drop));
    assert_eq!(two.b.text("to").unwrap(), "text");
}

fn a_rename_over_a_known_name_shows_the_new_file(two: &Two<'_>) {
    two.given("f", b"old");
    two.given("new", b"a longer text");
    assert_eq!(two.b.text("f").unwrap(), "old");
    let number = two.b.stat("new").unwrap().ino;
    two.a.rename("new", "f").unwrap();
    two.b.sees(Ok(number), |b| b.stat("f").map(|stat| stat.ino));
    assert_eq!(two.b.text("f").unwrap(), "a longer text");
    two.b.sees(Err(Errno::NOENT), |b| b.stat("new").map(drop));
}

/// As editors and package managers write: the whole new file, then a rename over the old one.
fn the_next_open_after_a_replacement_gets_the_new_file(two: &Two<'_>) {
    two.given("f", b"version 0");
    for turn in 1..8 {
        let version = format!("version {turn}");
        two.a.put("f.new", version.as_bytes()).unwrap();
        two.a.rename("f.new", "f").unwrap();
        two.b.sees(Ok(version), |b| b.text("f"));
    }
}

fn exchanged_names_are_exchanged_at_once(two: &Two<'_>) {
    two.given("one", b"1");
    two.given("two", b"22");
    assert_eq!((two.b.size("one"), two.b.size("two")), (Ok(1), Ok(2)));
    two.a.rename_with("one", "two", libc::RENAME_EXCHANGE).unwrap();
    two.b.sees((Ok(2), Ok(1)), |b| (b.size("one"), b.size("two")));
    assert_eq!(two.b.text("one").unwrap(), "22");
}

fn a_rename_between_directories_is_seen_in_both(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.maker().mkdir("e").unwrap();
    two.given("d/f", b"text");
    assert_eq!(two.b.list("d").unwrap(), ["f"]);
    assert_eq!(two.b.stat("e/f").map(drop), Err(Errno::NOENT));
    two.a.rename("d/f", "e/f").unwrap();
    two.b.sees(Ok(4), |b| b.size("e/f"));
    two.b.sees(Err(Errno::NOENT), |b| b.stat("d/f").map(drop));
    two.b.sees(Ok(vec![]), |b| b.list("d"));
    two.b.sees(Ok(vec!["f".to_owned()]), |b| b.list("e"));
    // A directory, too: what it is under now is its parent.
    two.a.rename("e", "d/e").unwrap();
    two.b.sees(Ok(4), |b| b.size("d/e/f"));
    assert_eq!(two.b.stat("d/e/..").unwrap().ino, two.b.stat("d").unwrap().ino);
}

fn a_name_comes_and_goes_by_turns(two: &Two<'_>) {
    for turn in 0..8 {
        let [one, other] = if turn % 2 == 0 { [&two.a, &two.b] } else { [&two.b, &two.a] };
        one.sees(Err(Errno::NOENT), |one| one.access("f"));
        one.open("f", O_RDWR | libc::O_CREAT | libc::O_EXCL).unwrap();
        other.sees(Ok(()), |other| other.access("f"));
        other.unlink("f").unwrap();
    }
}
