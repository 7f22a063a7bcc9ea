//! Stories of one file's pages.

use mfs::types::Timestamp;

use super::*;

const FIRST: Range = 0..4096;
const NONE: Bytes = Bytes::new();
const LATE: Duration = Duration::from_secs(1);

fn begun(file: &mut FilePages, range: Range) -> Fill {
    match file.begin(InodeNo::FIRST, &range) {
        Start::Now(fill) => fill,
        Start::After(_) => panic!("it waits"),
    }
}

/// A file with a page under a lease.
fn held() -> FilePages {
    let mut file = FilePages::default();
    let began = begun(&mut file, FIRST);
    assert!(!file.end(Duration::ZERO, &began, Leases::DATA_READ, &NONE));
    file
}

#[test]
fn what_comes_without_a_lease_is_dropped() {
    let mut file = FilePages::default();
    let began = begun(&mut file, FIRST);
    assert!(file.end(Duration::ZERO, &began, Leases::empty(), &NONE));
    assert!(matches!(file.next(LATE), Step::Drop(_, ranges) if ranges == [FIRST]));
    assert!(matches!(file.next(LATE), Step::Return(returned) if returned.is_empty()));
    assert!(file.is_idle());
}

#[test]
fn a_lease_is_kept_for_a_moment_and_returned_when_all_is_dropped() {
    let (mut file, (returns, _)) = (held(), Returns::new());
    assert!(file.recall(7, Leases::DATA_READ, &returns));
    assert!(matches!(file.next(Duration::ZERO), Step::Sleep(LEAST)));
    assert!(matches!(file.next(LATE), Step::Drop(_, ranges) if ranges == [WHOLE]));
    // What comes meanwhile is answered, and dropped before the return.
    let began = begun(&mut file, FIRST);
    assert!(matches!(file.next(LATE), Step::Wait));
    assert!(matches!(file.begin(InodeNo::FIRST, &FIRST), Start::After(_)));
    assert!(file.end(LATE, &began, Leases::DATA_READ, &NONE), "a grant that was overtaken");
    assert!(matches!(file.next(LATE), Step::Drop(_, ranges) if ranges == [FIRST]));
    // A page that is being dropped must not wait for its own return.
    let again = begun(&mut file, FIRST);
    assert!(!file.end(LATE, &again, Leases::empty(), &NONE));
    assert!(matches!(file.next(LATE), Step::Drop(..)));
    assert!(matches!(file.next(LATE), Step::Return(given) if given.len() == 1));
    assert!(file.is_idle() && !file.is_leased());
}

#[test]
fn what_is_lost_is_dropped_and_holds_nobody_up() {
    let (mut file, (returns, _)) = (held(), Returns::new());
    let began = begun(&mut file, FIRST);
    file.recall(7, Leases::DATA_READ, &returns);
    while !matches!(file.next(LATE), Step::Wait) {}
    let Start::After(mut waits) = file.begin(InodeNo::FIRST, &(8192..9000)) else { panic!() };
    assert!(file.lost());
    assert!(waits.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
    assert!(matches!(file.next(LATE), Step::Return(given) if given.is_empty()));
    // Its answer is of a time before.
    assert!(file.end(LATE, &began, Leases::DATA_READ, &NONE));
    assert!(!file.is_leased());
}

#[test]
fn what_was_read_without_a_lease_is_settled_when_it_is_dropped() {
    let mut file = FilePages::default();
    assert!(file.settle().is_none());
    let (first, second) = (begun(&mut file, FIRST), begun(&mut file, 4096..8192));
    let mut both = file.settle().expect("two are under way");
    assert!(file.end(LATE, &first, Leases::empty(), &NONE));
    assert!(matches!(file.next(LATE), Step::Drop(..)));
    // Not waited for: it is as new as whoever waits wants it.
    let third = begun(&mut file, FIRST);
    file.end(LATE, &second, Leases::empty(), &NONE);
    assert!(matches!(file.next(LATE), Step::Drop(..)));
    assert!(both.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Empty));
    file.end(LATE, &third, Leases::empty(), &NONE);
    assert!(matches!(file.next(LATE), Step::Drop(..)));
    assert!(both.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
    let _third = file.settle().expect("it is being dropped");
}

/// The first byte of each piece that was stored, and that behind it.
fn stored(file: &mut FilePages, offset: u64, data: &Bytes) -> Vec<(usize, usize)> {
    let pieces = file.stored(offset, data);
    pieces.into_iter().map(|stored| (stored.piece.start, stored.piece.end)).collect()
}

fn version(seconds: i64) -> Option<DataVersion> {
    let time = Timestamp { seconds, nanos: 0 };
    Some(DataVersion { ctime: time, mtime: time, size: 1 })
}

fn known(file: &mut FilePages) -> Option<DataVersion> {
    let all = file.stored(0, &Bytes::from_static(b"x"));
    assert_eq!((all.len(), &all[0].piece), (1, &(0..1)));
    all[0].known
}

/// A file with a page under a lease to store.
fn stored_into() -> FilePages {
    let mut file = FilePages::default();
    let began = begun(&mut file, FIRST);
    file.end(Duration::ZERO, &began, Leases::DATA_WRITE, &NONE);
    file.knows(version(1));
    file
}

#[test]
fn what_is_stored_under_a_lease_goes_with_the_latest_version_also_when_it_is_lost() {
    let mut file = stored_into();
    assert_eq!(known(&mut file), version(1));
    file.knows(version(3));
    file.knows(version(2));
    file.knows(None);
    assert_eq!(known(&mut file), version(3), "answers overtake each other");
    assert!(file.lost());
    assert_eq!(known(&mut file), version(3));
    file.knows(version(4));
    assert!(matches!(file.next(LATE), Step::Drop(_, ranges) if ranges == [WHOLE]));
    assert_eq!(known(&mut file), version(4), "it is being written back");
    assert!(matches!(file.next(LATE), Step::Return(..)));
    file.knows(version(5));
    assert_eq!(known(&mut file), None, "all of it is written");
}

#[test]
fn what_was_read_after_the_loss_is_told_from_what_was_stored_before() {
    let mut file = stored_into();
    file.lost();
    let second = begun(&mut file, 4096..8192);
    file.end(LATE, &second, Leases::empty(), &Bytes::from(vec![b'.'; 4096]));
    let mut pages = vec![b'.'; 8192];
    pages[4100] = b'x';
    let all = file.stored(0, &pages.into());
    let before = Stored { piece: 0..4096, known: version(1) };
    assert_eq!(all, [before, Stored { piece: 4100..4101, known: None }]);
}

#[test]
fn without_a_lease_to_store_there_is_no_version() {
    let mut file = held();
    file.knows(version(1));
    assert_eq!(known(&mut file), None);
}

#[test]
fn only_what_was_stored_is_written_back() {
    let mut file = FilePages::default();
    let read = begun(&mut file, 0..8192);
    file.end(LATE, &read, Leases::empty(), &Bytes::from(vec![b'.'; 4100]));
    let mut page = vec![b'.'; 4096];
    page[7..9].copy_from_slice(b"ab");
    assert_eq!(stored(&mut file, 0, &page.clone().into()), [(7, 9)]);
    assert!(matches!(file.next(LATE), Step::Drop(..)));
    page[20] = b'c';
    assert_eq!(stored(&mut file, 0, &page.clone().into()), [(20, 21)], "the rest is written");
    // Behind the end there was nothing.
    assert_eq!(stored(&mut file, 4096, &Bytes::from_static(b"....\0\0x")), [(6, 7)]);
    assert!(matches!(file.next(LATE), Step::Return(..)));
    assert_eq!(stored(&mut file, 0, &page.into()), [(0, 4096)]);
}

#[test]
fn what_is_leased_need_not_be_settled() {
    let mut file = held();
    begun(&mut file, FIRST);
    assert!(file.settle().is_none());
}

#[test]
fn ranges_are_merged() {
    assert_eq!(merged(vec![8..12, 0..4, 4..6, 9..10]), [0..6, 8..12]);
}
