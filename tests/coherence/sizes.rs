//! Sizes and times: what one writes, the other's stat knows.

use libc::{O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, SEEK_DATA, SEEK_END, SEEK_HOLE};

use super::actor::Actor;
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_write_changes_the_size_at_once,
        a_write_changes_the_times_at_once,
        an_open_descriptor_tells_the_new_size,
        the_end_is_where_the_other_put_it,
        a_truncation_changes_the_size_at_once,
        emptying_by_open_is_seen_at_once,
        space_that_is_allocated_counts_at_once,
        times_of_two_writers_never_go_back;
    BETWEEN_MOUNTS:
        holes_are_where_the_other_made_them;
}

fn a_write_changes_the_size_at_once(two: &Two<'_>) {
    two.given("f", b"12345");
    two.b.sees(Ok(5), |b| b.size("f"));
    let fd = two.a.open("f", O_WRONLY).unwrap();
    for size in [6, 4096, 4097, 100_000] {
        two.a.pwrite(fd, b"x", size - 1).unwrap();
        two.b.sees(Ok(size as u64), |b| b.size("f"));
    }
}

fn a_write_changes_the_times_at_once(two: &Two<'_>) {
    two.given("f", b"12345");
    two.maker().set_times("f", (1_000_000_000, 5)).unwrap();
    two.b.sees(Ok((1_000_000_000, 5)), |b| b.stat("f").map(|stat| stat.modified));
    let before = two.b.stat("f").unwrap();
    let fd = two.a.open("f", O_WRONLY).unwrap();
    two.a.pwrite(fd, b"54321", 0).unwrap();
    two.b.sees((true, true), |b| {
        let now = b.stat("f").unwrap();
        (now.modified > before.modified, now.changed > before.changed)
    });
    let times =
        |actor: &Actor| actor.stat("f").map(|stat| (stat.size, stat.modified, stat.changed));
    two.b.sees(times(&two.a), times);
}

fn an_open_descriptor_tells_the_new_size(two: &Two<'_>) {
    two.given("f", b"12345");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.fstat(reader).unwrap().size, 5);
    let writer = two.a.open("f", O_RDWR).unwrap();
    for size in [6, 20, 9000] {
        two.a.pwrite(writer, b"x", size - 1).unwrap();
        two.b.sees(size as u64, |b| b.fstat(reader).unwrap().size);
    }
}

fn the_end_is_where_the_other_put_it(two: &Two<'_>) {
    two.given("f", b"12345");
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.seek(reader, 0, SEEK_END), Ok(5));
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.pwrite(writer, b"678", 5).unwrap();
    two.b.sees(Ok(8), |b| b.seek(reader, 0, SEEK_END));
    two.a.ftruncate(writer, 2).unwrap();
    two.b.sees(Ok(2), |b| b.seek(reader, 0, SEEK_END));
}

fn a_truncation_changes_the_size_at_once(two: &Two<'_>) {
    two.given("f", &[b'x'; 10_000]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    for size in [5000_usize, 0, 70_000, 1] {
        two.a.truncate("f", size).unwrap();
        two.b.sees(Ok(size as u64), |b| b.size("f"));
        two.b.sees(size as u64, |b| b.fstat(reader).unwrap().size);
    }
}

fn emptying_by_open_is_seen_at_once(two: &Two<'_>) {
    two.given("f", &[b'x'; 10_000]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.pread(reader, 4, 0).unwrap(), b"xxxx");
    two.a.open("f", O_WRONLY | O_CREAT | O_TRUNC).unwrap();
    assert_eq!(two.b.pread(reader, 4, 0).unwrap(), b"");
    two.b.sees(Ok(0), |b| b.size("f"));
}

fn space_that_is_allocated_counts_at_once(two: &Two<'_>) {
    two.given("f", b"12345");
    two.b.sees(Ok(5), |b| b.size("f"));
    let fd = two.a.open("f", O_RDWR).unwrap();
    two.a.fallocate(fd, 0, 0, 9000).unwrap();
    two.b.sees(Ok(9000), |b| b.size("f"));
    two.a.fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, 9000, 5000).unwrap();
    two.b.sees(Ok(9000), |b| b.size("f"));
}

/// What is done later has the later time, whichever of them does it.
fn times_of_two_writers_never_go_back(two: &Two<'_>) {
    two.given("f", b"12345");
    let fds = [&two.a, &two.b].map(|actor| (actor, actor.open("f", O_RDWR).unwrap()));
    let mut last = (0, 0);
    for turn in 0..6 {
        let (actor, fd) = fds[turn % 2];
        actor.pwrite(fd, b"x", turn).unwrap();
        let now = actor.fstat(fd).unwrap().modified;
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
}

fn holes_are_where_the_other_made_them(two: &Two<'_>) {
    two.given("f", &vec![b'x'; 256 << 10]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.seek(reader, 0, SEEK_HOLE), Ok(256 << 10));
    let writer = two.a.open("f", O_RDWR).unwrap();
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    two.a.fallocate(writer, punch, 64 << 10, 64 << 10).unwrap();
    assert_eq!(two.b.seek(reader, 0, SEEK_HOLE), Ok(64 << 10));
    assert_eq!(two.b.seek(reader, 64 << 10, SEEK_DATA), Ok(128 << 10));
    assert_eq!(two.b.pread(reader, 4, 100 << 10).unwrap(), [0; 4]);
    two.a.pwrite(writer, b"data", 100 << 10).unwrap();
    assert_eq!(two.b.seek(reader, 64 << 10, SEEK_DATA), Ok(100 << 10));
}
