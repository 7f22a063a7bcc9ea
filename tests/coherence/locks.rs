//! Locks of all kinds, with what is kept under them.

use libc::{O_RDONLY, O_RDWR};

use super::actor::{Actor, EXCLUSIVE, FREE, Family, SHARED, wait_until_asleep};
use super::stage::{Two, at_once, cases};

cases! {
    EVERYWHERE:
        an_exclusive_lock_excludes_the_other,
        shared_locks_go_together,
        a_counter_under_locks_of_processes_loses_nothing,
        a_counter_under_locks_of_descriptions_loses_nothing,
        a_counter_under_flock_loses_nothing,
        four_processes_count_under_one_lock,
        who_waits_for_a_lock_gets_it_and_sees_what_was_written,
        locks_go_with_the_close_of_their_file,
        locks_go_with_the_holder_that_is_killed,
        ranges_are_locked_apart,
        the_holder_of_a_lock_is_found,
        the_families_do_not_see_each_other,
        an_upgrade_waits_for_the_other_reader,
        a_lock_on_a_removed_file_still_excludes;
}

/// Rounds of counting in one round of a case.
const TIMES: usize = 12;

fn an_exclusive_lock_excludes_the_other(two: &Two<'_>) {
    two.given("f", b"");
    for family in Family::ALL {
        let ours = two.a.open("f", O_RDWR).unwrap();
        let theirs = two.b.open("f", O_RDWR).unwrap();
        two.a.lock(family, ours, EXCLUSIVE).unwrap();
        assert!(!two.b.is_free(family, theirs, EXCLUSIVE), "{family:?}");
        assert!(!two.b.is_free(family, theirs, SHARED), "{family:?}");
        two.a.lock(family, ours, FREE).unwrap();
        assert!(two.b.is_free(family, theirs, EXCLUSIVE), "{family:?}");
    }
}

fn shared_locks_go_together(two: &Two<'_>) {
    two.given("f", b"");
    for family in Family::ALL {
        let ours = two.a.open("f", O_RDWR).unwrap();
        let theirs = two.b.open("f", O_RDWR).unwrap();
        two.a.lock(family, ours, SHARED).unwrap();
        assert!(two.b.is_free(family, theirs, SHARED), "{family:?}");
        assert!(!two.b.is_free(family, theirs, EXCLUSIVE), "{family:?}");
        two.a.lock(family, ours, FREE).unwrap();
    }
}

fn a_counter_under_locks_of_processes_loses_nothing(two: &Two<'_>) {
    two.given("f", b"0");
    two.together(|a| count(a, Family::Process), |b| count(b, Family::Process));
    assert_eq!(two.a.text("f").unwrap(), (2 * TIMES).to_string());
}

fn a_counter_under_locks_of_descriptions_loses_nothing(two: &Two<'_>) {
    two.given("f", b"0");
    two.together(|a| count(a, Family::Description), |b| count(b, Family::Description));
    assert_eq!(two.b.text("f").unwrap(), (2 * TIMES).to_string());
}

fn a_counter_under_flock_loses_nothing(two: &Two<'_>) {
    two.given("f", b"0");
    two.together(|a| count(a, Family::Flock), |b| count(b, Family::Flock));
    assert_eq!(two.a.text("f").unwrap(), (2 * TIMES).to_string());
}

fn four_processes_count_under_one_lock(two: &Two<'_>) {
    two.given("f", b"0");
    let (a, b) = (two.beside_a(), two.beside_b());
    let count = |actor: &Actor| count(actor, Family::Process);
    std::thread::scope(|threads| {
        threads.spawn(|| at_once(&a, count, &b, count));
        two.together(count, count);
    });
    assert_eq!(two.b.text("f").unwrap(), (4 * TIMES).to_string());
}

/// Adds one to the number in the file, again and again, under the lock.
fn count(actor: &Actor, family: Family) {
    let fd = actor.open("f", O_RDWR).unwrap();
    for _ in 0..TIMES {
        actor.lock(family, fd, EXCLUSIVE).unwrap();
        let text = String::from_utf8(actor.pread(fd, 20, 0).unwrap()).unwrap();
        let number: usize = text.parse().unwrap();
        actor.pwrite(fd, (number + 1).to_string().as_bytes(), 0).unwrap();
        actor.lock(family, fd, FREE).unwrap();
    }
}

fn who_waits_for_a_lock_gets_it_and_sees_what_was_written(two: &Two<'_>) {
    two.given("f", b"before");
    let watcher = two.beside_b();
    let pid = two.b.pid();
    for family in Family::ALL {
        let ours = two.a.open("f", O_RDWR).unwrap();
        let theirs = two.b.open("f", O_RDWR).unwrap();
        two.a.pwrite(ours, b"before", 0).unwrap();
        two.a.lock(family, ours, EXCLUSIVE).unwrap();
        let (_, seen) = two.together(
            |a| {
                wait_until_asleep(&watcher, pid);
                a.pwrite(ours, b"after!", 0).unwrap();
                a.lock(family, ours, FREE).unwrap();
            },
            |b| {
                b.lock(family, theirs, EXCLUSIVE).unwrap();
                b.pread(theirs, 10, 0).unwrap()
            },
        );
        assert_eq!(seen, b"after!", "{family:?}");
        two.b.lock(family, theirs, FREE).unwrap();
    }
}

fn locks_go_with_the_close_of_their_file(two: &Two<'_>) {
    two.given("f", b"");
    for family in Family::ALL {
        let ours = two.a.open("f", O_RDWR).unwrap();
        let theirs = two.b.open("f", O_RDWR).unwrap();
        two.a.lock(family, ours, EXCLUSIVE).unwrap();
        // A process loses its locks with any descriptor of the file; a description with its own last.
        let any = two.a.open("f", O_RDONLY).unwrap();
        two.a.close(any).unwrap();
        assert_eq!(two.b.is_free(family, theirs, EXCLUSIVE), family == Family::Process);
        two.a.close(ours).unwrap();
        // The kernel tells of a last close in the background: who waits gets it.
        two.b.lock(family, theirs, EXCLUSIVE).unwrap();
        two.b.lock(family, theirs, FREE).unwrap();
    }
}

fn locks_go_with_the_holder_that_is_killed(two: &Two<'_>) {
    two.given("f", b"");
    for family in Family::ALL {
        let holder = two.beside_a();
        let ours = holder.open("f", O_RDWR).unwrap();
        let theirs = two.b.open("f", O_RDWR).unwrap();
        holder.lock(family, ours, EXCLUSIVE).unwrap();
        holder.pwrite(ours, b"last words", 0).unwrap();
        assert!(!two.b.is_free(family, theirs, EXCLUSIVE));
        holder.die();
        two.b.lock(family, theirs, EXCLUSIVE).unwrap();
        assert_eq!(two.b.all(theirs).unwrap(), b"last words", "{family:?}");
        two.b.lock(family, theirs, FREE).unwrap();
    }
}

fn ranges_are_locked_apart(two: &Two<'_>) {
    two.given("f", b"0123456789");
    for family in [Family::Process, Family::Description] {
        let ours = two.a.open("f", O_RDWR).unwrap();
        let theirs = two.b.open("f", O_RDWR).unwrap();
        let theirs_may =
            |range: (i64, i64)| two.b.lock_range(family, theirs, EXCLUSIVE, range, false).is_ok();
        two.a.lock_range(family, ours, EXCLUSIVE, (0, 5), true).unwrap();
        assert!(theirs_may((5, 5)));
        assert!(!theirs_may((4, 1)));
        two.a.lock_range(family, ours, FREE, (2, 2), true).unwrap();
        assert!(theirs_may((2, 2)));
        assert!(!theirs_may((0, 3)));
        // Beyond the end of the file and to infinity, too.
        assert!(theirs_may((100, 0)));
        assert!(two.a.lock_range(family, ours, SHARED, (1000, 1), false).is_err());
        two.b.lock(family, theirs, FREE).unwrap();
        two.a.lock(family, ours, FREE).unwrap();
    }
}

fn the_holder_of_a_lock_is_found(two: &Two<'_>) {
    two.given("f", b"");
    let ours = two.a.open("f", O_RDWR).unwrap();
    let theirs = two.b.open("f", O_RDWR).unwrap();
    assert_eq!(two.b.in_the_way(theirs), Ok(None));
    two.a.lock_range(Family::Process, ours, EXCLUSIVE, (3, 4), true).unwrap();
    assert_eq!(two.b.in_the_way(theirs), Ok(Some((EXCLUSIVE, 3, 4))));
    two.a.lock(Family::Process, ours, FREE).unwrap();
    two.a.lock_range(Family::Process, ours, SHARED, (7, 0), true).unwrap();
    assert_eq!(two.b.in_the_way(theirs), Ok(Some((SHARED, 7, 0))));
    two.a.lock(Family::Process, ours, FREE).unwrap();
    assert_eq!(two.b.in_the_way(theirs), Ok(None));
}

fn the_families_do_not_see_each_other(two: &Two<'_>) {
    two.given("f", b"");
    let ours = two.a.open("f", O_RDWR).unwrap();
    let theirs = two.b.open("f", O_RDWR).unwrap();
    two.a.lock(Family::Flock, ours, EXCLUSIVE).unwrap();
    assert!(two.b.is_free(Family::Process, theirs, EXCLUSIVE));
    assert!(two.b.is_free(Family::Description, theirs, EXCLUSIVE));
    two.a.lock(Family::Flock, ours, FREE).unwrap();
    two.a.lock(Family::Process, ours, EXCLUSIVE).unwrap();
    assert!(two.b.is_free(Family::Flock, theirs, EXCLUSIVE));
    // These two are one family: whose lock it is differs, not what it excludes.
    assert!(!two.b.is_free(Family::Description, theirs, EXCLUSIVE));
}

fn an_upgrade_waits_for_the_other_reader(two: &Two<'_>) {
    two.given("f", b"");
    let ours = two.a.open("f", O_RDWR).unwrap();
    let theirs = two.b.open("f", O_RDWR).unwrap();
    for family in [Family::Process, Family::Description] {
        two.a.lock(family, ours, SHARED).unwrap();
        two.b.lock(family, theirs, SHARED).unwrap();
        assert!(two.a.try_lock(family, ours, EXCLUSIVE).is_err());
        // The refused one keeps what it had.
        two.b.lock(family, theirs, FREE).unwrap();
        assert!(!two.b.is_free(family, theirs, EXCLUSIVE));
        assert!(two.a.try_lock(family, ours, EXCLUSIVE).is_ok());
        assert!(!two.b.is_free(family, theirs, SHARED));
        two.a.lock(family, ours, FREE).unwrap();
    }
}

fn a_lock_on_a_removed_file_still_excludes(two: &Two<'_>) {
    for family in Family::ALL {
        two.given("f", b"");
        let ours = two.a.open("f", O_RDWR).unwrap();
        let theirs = two.b.open("f", O_RDWR).unwrap();
        two.a.lock(family, ours, EXCLUSIVE).unwrap();
        two.maker().unlink("f").unwrap();
        assert!(!two.b.is_free(family, theirs, EXCLUSIVE), "{family:?}");
        two.a.lock(family, ours, FREE).unwrap();
        assert!(two.b.is_free(family, theirs, EXCLUSIVE), "{family:?}");
    }
}
