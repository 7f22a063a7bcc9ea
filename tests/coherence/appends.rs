//! Appending by both: no record is lost, torn or overwritten, whatever its size.

use libc::{O_APPEND, O_RDONLY, O_WRONLY};

use super::actor::Actor;
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        appends_by_turns_follow_each_other,
        small_appends_at_once_are_all_there,
        appends_of_all_sizes_to_a_mebibyte_are_whole,
        appends_of_a_mebibyte_from_anywhere_in_memory_are_whole,
        an_append_after_a_truncation_is_at_the_new_end,
        an_append_does_not_heed_the_offset;
}

fn appends_by_turns_follow_each_other(two: &Two<'_>) {
    two.given("f", b"");
    let fds = [&two.a, &two.b].map(|actor| (actor, actor.open("f", O_WRONLY | O_APPEND).unwrap()));
    let mut expected = String::new();
    for turn in 0..10 {
        let (actor, fd) = fds[turn % 2];
        let line = format!("{turn} {}\n", "x".repeat(turn * 50));
        actor.write(fd, line.as_bytes()).unwrap();
        expected.push_str(&line);
    }
    assert_eq!(two.a.text("f").unwrap(), expected);
    assert_eq!(two.b.text("f").unwrap(), expected);
}

/// The longest append that is one request to the mount. One that begins inside a page touches 257 pages, one
/// more than the kernel gives a request by itself (`fs.fuse.max_pages_limit`).
const MOST: usize = 1 << 20;

fn small_appends_at_once_are_all_there(two: &Two<'_>) {
    race(two, &[16; 40]);
}

fn appends_of_all_sizes_to_a_mebibyte_are_whole(two: &Two<'_>) {
    race(two, &[16, 17, 4096, 4097, 65_536, 131_073, MOST - 4096, 100, MOST - 1, 1 << 18]);
}

fn appends_of_a_mebibyte_from_anywhere_in_memory_are_whole(two: &Two<'_>) {
    race(two, &[MOST, MOST - 4095, MOST, MOST - 1, 1, MOST, MOST - 1, MOST, MOST]);
}

/// Both append a record of each size at the same time; all must be there and whole, each one's in order.
fn race(two: &Two<'_>, sizes: &[usize]) {
    two.given("f", b"");
    let append = |actor: &Actor, own: u8| {
        let fd = actor.open("f", O_WRONLY | O_APPEND).unwrap();
        for (number, size) in sizes.iter().enumerate() {
            actor.write(fd, &record(own, number, *size)).unwrap();
        }
    };
    two.together(|a| append(a, b'a'), |b| append(b, b'b'));
    for actor in [&two.a, &two.b] {
        let reader = actor.open("f", O_RDONLY).unwrap();
        let bytes = actor.all(reader).unwrap();
        let mut rest = bytes.as_slice();
        let mut next = [0, 0];
        while !rest.is_empty() {
            let own = rest[0];
            assert!(matches!(own, b'a' | b'b'), "no record begins {} from the end", rest.len());
            let number = &mut next[usize::from(own - b'a')];
            assert!(*number < sizes.len(), "a record too many");
            let expected = record(own, *number, sizes[*number]);
            assert!(rest.starts_with(&expected), "record {number} of {} is torn", char::from(own));
            rest = &rest[expected.len()..];
            *number += 1;
        }
        assert_eq!(next, [sizes.len(); 2], "records are missing");
    }
}

/// Who wrote it and which it is, then bytes that depend on both.
fn record(own: u8, number: usize, size: usize) -> Vec<u8> {
    let mut bytes = format!("{}{number:04}{size:08}", char::from(own)).into_bytes();
    let fill = if own == b'a' { b'0' } else { b'A' };
    bytes.resize(size, fill + (number % 10) as u8);
    bytes
}

fn an_append_after_a_truncation_is_at_the_new_end(two: &Two<'_>) {
    two.given("f", b"0123456789");
    let fd = two.b.open("f", O_WRONLY | O_APPEND).unwrap();
    two.b.write(fd, b"b").unwrap();
    two.a.truncate("f", 3).unwrap();
    two.b.write(fd, b"b").unwrap();
    assert_eq!(two.a.text("f").unwrap(), "012b");
    two.a.put("f", b"").unwrap();
    two.b.write(fd, b"c").unwrap();
    assert_eq!(two.a.text("f").unwrap(), "c");
}

fn an_append_does_not_heed_the_offset(two: &Two<'_>) {
    two.given("f", b"");
    let fd = two.a.open("f", O_WRONLY | O_APPEND).unwrap();
    two.a.write(fd, b"one ").unwrap();
    two.b.append("f", b"two ").unwrap();
    two.a.seek(fd, 0, libc::SEEK_SET).unwrap();
    two.a.write(fd, b"three").unwrap();
    assert_eq!(two.b.text("f").unwrap(), "one two three");
}
