//! Mappings: what is stored through one is seen by reads and by mappings of the other, and the other way round.

use libc::{O_APPEND, O_RDONLY, O_RDWR, O_WRONLY};
use rustix::io::Errno;

use super::actor::{Actor, EXCLUSIVE, FREE, Family};
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_synchronised_store_is_read_by_the_other,
        a_store_is_read_by_the_other_without_msync,
        a_synchronised_store_is_seen_through_an_existing_mapping,
        a_store_is_seen_through_an_existing_mapping_without_msync,
        a_write_is_seen_through_an_existing_mapping,
        a_write_is_seen_through_a_new_mapping,
        a_store_is_there_once_the_mapping_is_gone,
        a_private_store_stays_private,
        a_private_mapping_shows_what_it_has_not_changed,
        stores_by_turns_in_one_page_lose_nothing,
        a_page_cut_off_is_gone_from_the_mapping,
        a_mapping_of_an_extended_file_has_the_new_bytes,
        a_mapping_shows_what_each_way_to_extend_a_file_adds,
        a_mapping_of_a_removed_file_is_still_shared;
    BETWEEN_MOUNTS:
        stores_under_a_lock_lose_nothing;
    THROUGH_MFSD:
        a_store_behind_the_old_end_stays;
}

const PAGE: usize = 4096;

fn a_synchronised_store_is_read_by_the_other(two: &Two<'_>) {
    two.given("f", &[b'.'; 2 * PAGE]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.pread(reader, 4, 0).unwrap(), b"....");
    let writer = two.a.open("f", O_RDWR).unwrap();
    let map = two.a.map(writer, 2 * PAGE).unwrap();
    for text in [b"one", b"two", b"six"] {
        two.a.store(map, text, 100);
        two.a.msync(map).unwrap();
        assert_eq!(two.b.pread(reader, 3, 100).unwrap(), text);
    }
}

fn a_store_is_read_by_the_other_without_msync(two: &Two<'_>) {
    two.given("f", &[b'.'; 2 * PAGE]);
    let reader = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.pread(reader, 3, 100).unwrap(), b"...");
    let writer = two.a.open("f", O_RDWR).unwrap();
    let map = two.a.map(writer, 2 * PAGE).unwrap();
    for text in [b"one", b"two", b"six"] {
        two.a.store(map, text, 100);
        two.b.maps_to(text.to_vec(), |b| b.pread(reader, 3, 100).unwrap());
    }
}

fn a_synchronised_store_is_seen_through_an_existing_mapping(two: &Two<'_>) {
    stores_are_seen_through_mappings(two, true);
}

fn a_store_is_seen_through_an_existing_mapping_without_msync(two: &Two<'_>) {
    stores_are_seen_through_mappings(two, false);
}

fn stores_are_seen_through_mappings(two: &Two<'_>, synchronised: bool) {
    two.given("f", &[b'.'; 2 * PAGE]);
    let [(a, ours), (b, theirs)] = [&two.a, &two.b].map(|actor| {
        let fd = actor.open("f", O_RDWR).unwrap();
        (actor, actor.map(fd, 2 * PAGE).unwrap())
    });
    assert_eq!(b.load(theirs, 3, PAGE), b"...");
    assert_eq!(a.load(ours, 3, PAGE), b"...");
    for text in [b"one", b"two", b"six"] {
        a.store(ours, text, PAGE);
        if synchronised {
            a.msync(ours).unwrap();
        }
        b.maps_to(text.to_vec(), |b| b.load(theirs, 3, PAGE));
    }
}

fn a_write_is_seen_through_an_existing_mapping(two: &Two<'_>) {
    two.given("f", &[b'.'; PAGE]);
    let fd = two.b.open("f", O_RDONLY).unwrap();
    let map = two.b.map_private(fd, PAGE).unwrap();
    let shared = two.b.open("f", O_RDWR).unwrap();
    let shared = two.b.map(shared, PAGE).unwrap();
    assert_eq!(two.b.load(map, 3, 0), b"...");
    assert_eq!(two.b.load(shared, 3, 0), b"...");
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.pwrite(writer, b"new", 0).unwrap();
    two.b.maps_to(b"new".to_vec(), |b| b.load(shared, 3, 0));
}

fn a_write_is_seen_through_a_new_mapping(two: &Two<'_>) {
    two.given("f", &[b'.'; PAGE]);
    let fd = two.b.open("f", O_RDWR).unwrap();
    assert_eq!(two.b.pread(fd, 3, 0).unwrap(), b"...");
    let writer = two.a.open("f", O_RDWR).unwrap();
    for text in [b"one", b"two"] {
        two.a.pwrite(writer, text, 0).unwrap();
        let opened = two.b.open("f", O_RDWR).unwrap();
        let map = two.b.map(opened, PAGE).unwrap();
        two.b.maps_to(text.to_vec(), |b| b.load(map, 3, 0));
        two.b.unmap(map).unwrap();
        two.b.close(opened).unwrap();
    }
}

fn a_store_is_there_once_the_mapping_is_gone(two: &Two<'_>) {
    two.given("f", &[b'.'; PAGE]);
    assert_eq!(two.b.get("f").unwrap()[..3], *b"...");
    let writer = two.a.open("f", O_RDWR).unwrap();
    let map = two.a.map(writer, PAGE).unwrap();
    two.a.store(map, b"new", 0);
    two.a.unmap(map).unwrap();
    two.a.close(writer).unwrap();
    two.b.maps_to(b"new".to_vec(), |b| b.get("f").unwrap()[..3].to_vec());
}

fn a_private_store_stays_private(two: &Two<'_>) {
    two.given("f", &[b'.'; PAGE]);
    let fd = two.a.open("f", O_RDWR).unwrap();
    let map = two.a.map_private(fd, PAGE).unwrap();
    two.a.store(map, b"mine", 0);
    assert_eq!(two.b.get("f").unwrap()[..4], *b"....");
    let writer = two.b.open("f", O_RDWR).unwrap();
    two.b.pwrite(writer, b"THEIRS", 0).unwrap();
    assert_eq!(two.a.load(map, 6, 0), b"mine..");
    assert_eq!(two.a.get("f").unwrap()[..6], *b"THEIRS");
}

fn a_private_mapping_shows_what_it_has_not_changed(two: &Two<'_>) {
    two.given("f", &[b'.'; 2 * PAGE]);
    let fd = two.b.open("f", O_RDWR).unwrap();
    let map = two.b.map_private(fd, 2 * PAGE).unwrap();
    two.b.store(map, b"mine", 0);
    assert_eq!(two.b.load(map, 3, PAGE), b"...");
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.pwrite(writer, b"new", PAGE).unwrap();
    // As Linux does on one machine; POSIX leaves it open.
    two.b.maps_to(b"new".to_vec(), |b| b.load(map, 3, PAGE));
    assert_eq!(two.b.load(map, 4, 0), b"mine");
}

fn stores_by_turns_in_one_page_lose_nothing(two: &Two<'_>) {
    two.given("f", &[0; PAGE]);
    let maps = [&two.a, &two.b].map(|actor| {
        let fd = actor.open("f", O_RDWR).unwrap();
        (actor, actor.map(fd, PAGE).unwrap())
    });
    for turn in 0..12_u8 {
        let (actor, map) = maps[usize::from(turn % 2)];
        actor.maps_to(vec![turn], |actor| actor.load(map, 1, 0));
        actor.store(map, &[turn + 1], 0);
        actor.store(map, b"x", 100 + usize::from(turn));
    }
    let (a, map) = maps[0];
    a.maps_to(vec![b'x'; 12], |a| a.load(map, 12, 100));
}

/// A number that both count up under a lock, and beside it in the same page a byte that each has for itself.
fn stores_under_a_lock_lose_nothing(two: &Two<'_>) {
    const TURNS: u8 = 40;
    two.given("f", &[0; PAGE]);
    let count = |actor: &Actor, own: usize| {
        let fd = actor.open("f", O_RDWR).unwrap();
        let map = actor.map(fd, PAGE).unwrap();
        for turn in 1..=TURNS {
            actor.store(map, &[turn], own);
            actor.lock(Family::Description, fd, EXCLUSIVE).unwrap();
            let number = actor.load(map, 1, 0)[0];
            actor.store(map, &[number + 1], 0);
            actor.lock(Family::Description, fd, FREE).unwrap();
            assert_eq!(actor.load(map, 1, own), [turn], "what nobody else changes");
        }
    };
    two.together(|a| count(a, 8), |b| count(b, 9));
    let bytes = two.steady().get("f").unwrap();
    assert_eq!((bytes[0], &bytes[8..10]), (2 * TURNS, &[TURNS; 2][..]));
}

fn a_page_cut_off_is_gone_from_the_mapping(two: &Two<'_>) {
    two.given("f", &[b'.'; 2 * PAGE]);
    let fd = two.b.open("f", O_RDWR).unwrap();
    let map = two.b.map(fd, 2 * PAGE).unwrap();
    assert_eq!(two.b.load(map, 1, PAGE), b".");
    two.a.truncate("f", 10).unwrap();
    two.b.maps_to(Err(Errno::FAULT), |b| b.probe(map, PAGE));
    two.b.maps_to(vec![b'.', 0], |b| b.load(map, 2, 9));
}

fn a_mapping_of_an_extended_file_has_the_new_bytes(two: &Two<'_>) {
    two.given("f", &[b'.'; PAGE]);
    let fd = two.b.open("f", O_RDWR).unwrap();
    let map = two.b.map(fd, 2 * PAGE).unwrap();
    assert_eq!(two.b.load(map, 1, 0), b".");
    assert_eq!(two.b.probe(map, PAGE), Err(Errno::FAULT));
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.pwrite(writer, b"more", PAGE).unwrap();
    two.b.maps_to(Ok(()), |b| b.probe(map, PAGE));
    two.b.maps_to(b"more".to_vec(), |b| b.load(map, 4, PAGE));
}

fn a_mapping_shows_what_each_way_to_extend_a_file_adds(two: &Two<'_>) {
    two.given("f", &[b'.'; PAGE]);
    let fd = two.b.open("f", O_RDONLY).unwrap();
    let map = two.b.map_private(fd, 6 * PAGE).unwrap();
    assert_eq!(two.b.load(map, 1, 0), b".");
    let writer = two.a.open("f", O_RDWR).unwrap();
    let seen_to = |end: usize, last: &[u8]| {
        two.b.maps_to(Ok(()), |b| b.probe(map, end - 1));
        two.b.maps_to(last.to_vec(), |b| b.load(map, 1, end - 1));
        assert_eq!(two.b.probe(map, end), Err(Errno::FAULT), "not beyond the end");
    };
    let appender = two.a.open("f", O_WRONLY | O_APPEND).unwrap();
    two.a.write(appender, &[b'a'; PAGE]).unwrap();
    seen_to(2 * PAGE, b"a");
    two.a.ftruncate(writer, 3 * PAGE).unwrap();
    seen_to(3 * PAGE, &[0]);
    two.a.fallocate(writer, 0, 3 * PAGE, PAGE).unwrap();
    seen_to(4 * PAGE, &[0]);
    two.a.truncate("f", 5 * PAGE).unwrap();
    seen_to(5 * PAGE, &[0]);
}

fn a_store_behind_the_old_end_stays(two: &Two<'_>) {
    two.given("f", &[b'.'; 100]);
    let fd = two.b.open("f", O_RDWR).unwrap();
    let map = two.b.map(fd, PAGE).unwrap();
    two.b.maps_to(b".".to_vec(), |b| b.load(map, 1, 0));
    let writer = two.a.open("f", O_RDWR).unwrap();
    two.a.pwrite(writer, &[b'-'; 100], 100).unwrap();
    // The kernel writes back no more than what lies before the end that it knows.
    two.b.maps_to(b"-".to_vec(), |b| b.load(map, 1, 199));
    two.b.store(map, b"kept", 150);
    two.b.msync(map).unwrap();
    assert_eq!(two.a.pread(writer, 4, 150).unwrap(), b"kept");
    assert_eq!(two.a.get("f").unwrap().len(), 200);
}

fn a_mapping_of_a_removed_file_is_still_shared(two: &Two<'_>) {
    two.given("f", &[b'.'; PAGE]);
    let writer = two.a.open("f", O_RDWR).unwrap();
    let ours = two.a.map(writer, PAGE).unwrap();
    let reader = two.b.open("f", O_RDONLY).unwrap();
    two.b.unlink("f").unwrap();
    two.a.store(ours, b"new", 0);
    two.a.msync(ours).unwrap();
    assert_eq!(two.b.pread(reader, 3, 0).unwrap(), b"new");
}
