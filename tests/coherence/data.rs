//! What one writes, the other reads: through descriptors that were open before, over what was read before.

use std::time::Duration;

use libc::{O_DIRECT, O_RDONLY, O_RDWR, O_WRONLY};
use mfs_tests::eventually;

use super::actor::Actor;
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_same_size_overwrite_is_seen_through_an_open_descriptor,
        every_read_through_an_open_descriptor_is_anew,
        a_new_open_reads_what_was_just_written,
        read_modify_write_by_turns_in_one_page_loses_nothing,
        writers_side_by_side_in_one_page_keep_their_bytes,
        an_overwrite_inside_a_large_file_is_seen,
        a_shrink_over_pages_that_were_read_is_seen,
        shrinking_and_extending_leaves_zeros,
        an_extension_of_a_page_that_was_read_is_seen,
        a_write_beyond_the_end_leaves_zeros_between,
        a_punched_hole_reads_as_zeros,
        a_file_that_is_written_anew_is_read_anew,
        what_is_copied_within_the_kernel_is_new,
        what_is_sent_is_new,
        reads_past_the_cache_are_new_too,
        a_write_at_the_end_of_a_reader_goes_on_there,
        both_see_their_own_writes_and_the_others;
    THROUGH_MFSD:
        what_others_appended_is_copied_and_mapped_a_moment_later;
}

const PAGE: usize = 4096;

fn a_same_size_overwrite_is_seen_through_an_open_descriptor(two: &Two<'_>) {
    two.given("f", b"one");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.pread(reader, 10, 0).unwrap(), b"one");
    let writer = two.a.open("f", O_WRONLY).unwrap();
    for text in [b"two", b"six", b"ten"] {
        two.a.pwrite(writer, text, 0).unwrap();
        assert_eq!(two.b.pread(reader, 10, 0).unwrap(), text);
    }
}

fn every_read_through_an_open_descriptor_is_anew(two: &Two<'_>) {
    two.given("f", b"");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    for turn in 0..12_u8 {
        let text = vec![b'a' + turn; 5 + usize::from(turn) * 700];
        // Opened and closed for each: close(2) is no condition, nor is its absence.
        let writer = two.a.open("f", O_WRONLY).unwrap();
        two.a.pwrite(writer, &text, 0).unwrap();
        if turn % 2 == 0 {
            two.a.close(writer).unwrap();
        }
        assert!(two.b.all(reader).unwrap() == text, "turn {turn}");
    }
}

fn a_new_open_reads_what_was_just_written(two: &Two<'_>) {
    two.given("f", b"");
    for turn in 0..6 {
        let [writer, reader] = by_turns(two, turn);
        let text = format!("turn {turn} {}", "x".repeat(turn * 1000));
        let fd = writer.open("f", O_WRONLY).unwrap();
        writer.pwrite(fd, text.as_bytes(), 0).unwrap();
        assert_eq!(reader.text("f").unwrap(), text);
    }
}

/// The one whose turn it is, and the other.
fn by_turns<'t>(two: &'t Two<'_>, turn: usize) -> [&'t Actor; 2] {
    if turn.is_multiple_of(2) { [&two.a, &two.b] } else { [&two.b, &two.a] }
}

fn read_modify_write_by_turns_in_one_page_loses_nothing(two: &Two<'_>) {
    two.given("f", &[0; PAGE]);
    let fds = [two.a.open("f", O_RDWR).unwrap(), two.b.open("f", O_RDWR).unwrap()];
    for turn in 0..16 {
        let (actor, fd) = (by_turns(two, turn)[0], fds[turn % 2]);
        let mut page = actor.pread(fd, PAGE, 0).unwrap();
        assert_eq!(usize::from(page[0]), turn, "the other's turn is missing");
        page[0] += 1;
        page[100 + turn] = b'x';
        actor.pwrite(fd, &page, 0).unwrap();
    }
    let page = two.a.pread(fds[0], PAGE, 0).unwrap();
    assert_eq!(page[100..116], [b'x'; 16]);
}

fn writers_side_by_side_in_one_page_keep_their_bytes(two: &Two<'_>) {
    two.given("f", &[0; PAGE]);
    let fill = |actor: &Actor, first: usize| {
        let fd = actor.open("f", O_RDWR).unwrap();
        for at in (first..200).step_by(2) {
            actor.pwrite(fd, &[first as u8 + 1], at).unwrap();
            if at % 16 == first {
                assert_eq!(actor.pread(fd, 1, at).unwrap(), [first as u8 + 1]);
            }
        }
    };
    two.together(|a| fill(a, 0), |b| fill(b, 1));
    let expected: Vec<u8> = [1, 2].repeat(100);
    for actor in [&two.a, &two.b] {
        assert_eq!(actor.get("f").unwrap()[..200], expected);
    }
}

fn an_overwrite_inside_a_large_file_is_seen(two: &Two<'_>) {
    let mut bytes: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
    two.given("f", &bytes);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert!(two.b.all(reader).unwrap() == bytes);
    let writer = two.a.open("f", O_WRONLY).unwrap();
    for at in [0, 4095, 500_000, (1 << 20) - 3] {
        two.a.pwrite(writer, b"new", at).unwrap();
        bytes[at..at + 3].copy_from_slice(b"new");
        assert_eq!(two.b.pread(reader, 3, at).unwrap(), b"new", "at {at}");
    }
    assert!(two.b.all(reader).unwrap() == bytes);
}

fn a_shrink_over_pages_that_were_read_is_seen(two: &Two<'_>) {
    two.given("f", &[b'x'; 3 * PAGE]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.all(reader).unwrap().len(), 3 * PAGE);
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.ftruncate(writer, PAGE + 10).unwrap();
    assert_eq!(two.b.pread(reader, PAGE, 2 * PAGE).unwrap(), b"");
    assert_eq!(two.b.pread(reader, PAGE, PAGE).unwrap(), b"xxxxxxxxxx");
    assert_eq!(two.b.all(reader).unwrap().len(), PAGE + 10);
}

fn shrinking_and_extending_leaves_zeros(two: &Two<'_>) {
    two.given("f", &[b'x'; 3 * PAGE]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert!(two.b.all(reader).unwrap() == [b'x'; 3 * PAGE]);
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.ftruncate(writer, 10).unwrap();
    two.a.ftruncate(writer, 3 * PAGE).unwrap();
    let mut expected = vec![0; 3 * PAGE];
    expected[..10].fill(b'x');
    assert!(two.b.all(reader).unwrap() == expected, "old bytes came back");
    assert!(two.a.get("f").unwrap() == expected, "old bytes came back where they were cut off");
}

fn an_extension_of_a_page_that_was_read_is_seen(two: &Two<'_>) {
    two.given("f", b"begin");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.pread(reader, PAGE, 0).unwrap(), b"begin");
    assert_eq!(two.b.pread(reader, PAGE, 5).unwrap(), b"");
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.pwrite(writer, b" and end", 5).unwrap();
    assert_eq!(two.b.pread(reader, PAGE, 5).unwrap(), b" and end");
    two.a.ftruncate(writer, 20).unwrap();
    assert_eq!(two.b.pread(reader, PAGE, 0).unwrap(), b"begin and end\0\0\0\0\0\0\0");
}

fn a_write_beyond_the_end_leaves_zeros_between(two: &Two<'_>) {
    two.given("f", b"x");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.all(reader).unwrap(), b"x");
    let writer = two.a.open("f", O_WRONLY).unwrap();
    two.a.pwrite(writer, b"y", 2 * PAGE).unwrap();
    let bytes = two.b.all(reader).unwrap();
    assert_eq!((bytes.len(), bytes[0], bytes[2 * PAGE]), (2 * PAGE + 1, b'x', b'y'));
    assert!(bytes[1..2 * PAGE].iter().all(|byte| *byte == 0));
}

fn a_punched_hole_reads_as_zeros(two: &Two<'_>) {
    two.given("f", &[b'x'; 3 * PAGE]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert!(two.b.all(reader).unwrap() == [b'x'; 3 * PAGE]);
    let writer = two.a.open("f", O_RDWR).unwrap();
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    two.a.fallocate(writer, punch, 100, PAGE).unwrap();
    let bytes = two.b.all(reader).unwrap();
    assert!(bytes[100..100 + PAGE].iter().all(|byte| *byte == 0), "the other still sees it");
    assert_eq!((bytes[99], bytes[100 + PAGE], bytes.len()), (b'x', b'x', 3 * PAGE));
}

fn a_file_that_is_written_anew_is_read_anew(two: &Two<'_>) {
    two.given("f", b"the first text, a long one");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    for text in ["the second", "3rd", "the fourth text, longer than the first one"] {
        two.a.put("f", text.as_bytes()).unwrap();
        assert_eq!(two.b.all(reader).unwrap(), text.as_bytes());
        assert_eq!(two.b.text("f").unwrap(), text);
    }
}

fn what_is_copied_within_the_kernel_is_new(two: &Two<'_>) {
    two.given("from", &[b'a'; 2 * PAGE]);
    two.given("to", b"");
    let fds = ["from", "to"].map(|name| two.b.open(name, O_RDWR).unwrap());
    assert_eq!(two.b.copy(fds[0], fds[1], 2 * PAGE), Ok(2 * PAGE as i64));
    let writer = two.a.open("from", O_WRONLY).unwrap();
    two.a.pwrite(writer, &[b'b'; PAGE], 0).unwrap();
    assert_eq!(two.b.copy(fds[0], fds[1], 2 * PAGE), Ok(2 * PAGE as i64));
    let expected = [vec![b'b'; PAGE], vec![b'a'; PAGE]].concat();
    for actor in [&two.a, &two.b] {
        assert!(actor.get("to").unwrap() == expected, "an old copy through {actor:?}");
    }
}

fn what_is_sent_is_new(two: &Two<'_>) {
    two.given("f", &[b'a'; 2 * PAGE]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert!(two.b.sent(reader, 2 * PAGE).unwrap() == [b'a'; 2 * PAGE]);
    let writer = two.a.open("f", O_WRONLY).unwrap();
    two.a.pwrite(writer, &[b'b'; 2 * PAGE], 0).unwrap();
    assert!(two.b.sent(reader, 2 * PAGE).unwrap() == [b'b'; 2 * PAGE], "old bytes were sent");
}

fn reads_past_the_cache_are_new_too(two: &Two<'_>) {
    two.given("f", &[b'a'; PAGE]);
    let cached = two.b.open("f", O_RDONLY).unwrap();
    let direct = two.b.open("f", O_RDONLY | O_DIRECT).unwrap();
    let writer = two.a.open("f", O_WRONLY).unwrap();
    for byte in [b'b', b'c', b'd'] {
        two.a.pwrite(writer, &[byte], 0).unwrap();
        assert_eq!(two.b.pread_aligned(direct, PAGE, 0).unwrap()[0], byte);
        assert_eq!(two.b.pread(cached, 1, 0).unwrap(), [byte]);
    }
}

/// As tail -f does: a reader at the end reads what comes.
fn a_write_at_the_end_of_a_reader_goes_on_there(two: &Two<'_>) {
    two.given("f", b"");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    let writer = two.a.open("f", O_WRONLY).unwrap();
    let mut length = 0;
    for turn in 0..8 {
        assert_eq!(two.b.pread(reader, PAGE, length).unwrap(), b"");
        let line = format!("line {turn}\n");
        two.a.write(writer, line.as_bytes()).unwrap();
        assert_eq!(two.b.pread(reader, PAGE, length).unwrap(), line.as_bytes());
        length += line.len();
    }
}

fn both_see_their_own_writes_and_the_others(two: &Two<'_>) {
    two.given("f", &[0; 2]);
    let count = |actor: &Actor, own: usize| {
        let fd = actor.open("f", O_RDWR).unwrap();
        let mut last = 0;
        for turn in 1..=30 {
            actor.pwrite(fd, &[turn], own).unwrap();
            let now = actor.pread(fd, 2, 0).unwrap();
            assert_eq!(now[own], turn, "an own write was lost");
            assert!(now[1 - own] >= last, "the other's went back to {} from {last}", now[1 - own]);
            last = now[1 - own];
        }
    };
    two.together(|a| count(a, 0), |b| count(b, 1));
    assert_eq!(two.a.get("f").unwrap(), [30, 30]);
}

/// The kernel goes by the length that it knows, and asks nobody: neither of the two looks at the file.
fn what_others_appended_is_copied_and_mapped_a_moment_later(two: &Two<'_>) {
    two.given("f", &[b'o'; PAGE]);
    two.given("to", b"");
    let from = two.b.open("f", O_RDWR).unwrap();
    let to = two.b.open("to", O_RDWR).unwrap();
    for end in (PAGE..8 * PAGE).step_by(PAGE) {
        two.a.append("f", &[b'n'; PAGE]).unwrap();
        let copied = || two.b.copy_range((from, end), (to, end), PAGE);
        eventually("it is copied", Duration::from_secs(60), || copied() == Ok(PAGE));
        let map = two.b.map(from, end + PAGE).unwrap();
        assert_eq!(two.b.load(map, 1, end + PAGE - 1), b"n");
        two.b.unmap(map).unwrap();
    }
}
