//! What is remembered, when it may be used, and what own changes and recalls leave of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mfs::client::{Answered, Returns, SessionLeases};
use mfs::types::op::{DirEntry, Entry, Listing, Opened};
use mfs::types::{
    Attr, Errno, FileId, FileKind, FileName, InodeNo, Leases, OpenFlags, OpenProof, RenameFlags,
    Timestamp, XattrName,
};

use super::{Changing, Collecting, NodeCache};

const BOTH: Leases = Leases::ATTRIBUTES.union(Leases::DIRECTORY);
const NOW: Duration = Duration::from_secs(100);
const USER: u32 = 1_000;

fn ino(number: u64) -> InodeNo {
    InodeNo::new(number).expect("not 0")
}

fn name(text: &str) -> FileName {
    FileName::parse(text.as_bytes().to_vec()).expect("a name")
}

fn xattr(text: &str) -> XattrName {
    XattrName::parse(text.as_bytes().to_vec()).expect("a name")
}

fn entry(number: u64, size: u64) -> Entry {
    let file = FileId::from_bytes(Bytes::from(format!("file {number}"))).expect("an id");
    let time = Timestamp::default();
    let attr = Attr {
        ino: ino(number),
        kind: FileKind::Regular,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        size,
        blocks: 0,
        block_size: 4_096,
        rdev: (0, 0),
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
    };
    Entry { file, attr }
}

fn answer<T>(result: Result<T, Errno>, leases: Leases) -> Answered<T> {
    Answered { result, leases, is_final: true }
}

/// A node with which a session has just begun.
fn node(trusts_root: bool) -> Arc<NodeCache> {
    let node = Arc::new(NodeCache::default());
    begin(&node, trusts_root, false);
    node
}

fn begin(node: &NodeCache, trusts_root: bool, is_resumed: bool) {
    let term = Duration::from_secs(10);
    let (returns, _) = Returns::new();
    node.began(&SessionLeases {
        term,
        trusts_root,
        is_resumed,
        settles: false,
        root: entry(1, 0),
        returns,
    });
    node.extended(NOW, NOW);
}

fn look_up(node: &NodeCache, text: &str, result: Result<Entry, Errno>) {
    let stamp = node.stamp();
    node.note_lookup(NOW, stamp, ino(1), &name(text), &answer(result, BOTH));
}

fn found(node: &NodeCache, text: &str) -> Option<Result<u64, Errno>> {
    let found = node.entry(NOW, USER, ino(1), &name(text))?;
    Some(found.map(|entry| entry.attr.ino.get()))
}

/// Lists the root in two stretches, as files 10, 11, ...
fn list(node: &NodeCache, names: &[&str]) {
    let mut collecting = None;
    fetch(node, names, 0..names.len() / 2, &mut collecting);
    fetch(node, names, names.len() / 2..names.len(), &mut collecting);
}

fn fetch(
    node: &NodeCache,
    names: &[&str],
    range: std::ops::Range<usize>,
    collecting: &mut Option<Collecting>,
) {
    let of = |index: usize| {
        let entry = entry(10 + index as u64, 0);
        let (kind, ino, cookie) = (FileKind::Regular, entry.attr.ino, index as u64 + 1);
        DirEntry {
            name: name(names[index]),
            kind,
            ino,
            cookie,
            entry: Some(entry),
            unleased: false,
        }
    };
    let end = range.end == names.len();
    if range.start == 0 {
        *collecting = Some(Collecting::default());
    }
    let listing = Listing { entries: range.map(of).collect(), end };
    let stamp = node.stamp();
    node.note_listing(NOW, stamp, ino(1), &listing, BOTH, collecting);
}

#[test]
fn attributes_of_a_listing_are_known_but_those_that_were_not_granted() {
    let node = node(true);
    let listed = |number, unleased| {
        let entry = Some(entry(number, 0));
        let (name, kind) = (name(&format!("f{number}")), FileKind::Regular);
        DirEntry { name, kind, ino: ino(number), cookie: number, entry, unleased }
    };
    let listing = Listing { entries: vec![listed(10, false), listed(11, true)], end: true };
    let (stamp, mut collecting) = (node.stamp(), Some(Collecting::default()));
    node.note_listing(NOW, stamp, ino(1), &listing, BOTH, &mut collecting);
    assert!(node.attr(NOW, 0, ino(10)).is_some());
    assert!(node.attr(NOW, 0, ino(11)).is_none());
    assert_eq!(node.listing(NOW, 0, ino(1)).map(|listing| listing.len()), Some(2));
}

#[test]
fn what_was_granted_is_known_until_it_is_recalled() {
    let node = node(true);
    look_up(&node, "a", Ok(entry(2, 7)));
    look_up(&node, "b", Err(Errno::NoEnt));
    assert_eq!(found(&node, "a"), Some(Ok(2)));
    assert_eq!(found(&node, "b"), Some(Err(Errno::NoEnt)));
    assert_eq!(found(&node, "c"), None);
    node.recall(&[(ino(2), Leases::ATTRIBUTES)]);
    assert_eq!(found(&node, "a"), None);
    assert_eq!(found(&node, "b"), Some(Err(Errno::NoEnt)));
    node.recall(&[(ino(1), Leases::DIRECTORY)]);
    assert_eq!(found(&node, "b"), None);
}

#[test]
fn an_answer_without_a_lease_or_from_before_a_recall_is_not_remembered() {
    let node = node(true);
    let stamp = node.stamp();
    node.note_attr(NOW, stamp, &answer(Ok(entry(2, 7).attr), Leases::empty()));
    assert_eq!(node.attr(NOW, USER, ino(2)), None);
    let stamp = node.stamp();
    node.recall(&[(ino(2), BOTH)]);
    node.note_attr(NOW, stamp, &answer(Ok(entry(2, 7).attr), BOTH));
    assert_eq!(node.attr(NOW, USER, ino(2)), None);
}

#[test]
fn after_the_term_and_without_a_connection_nothing_is_known() {
    let node = node(true);
    look_up(&node, "a", Ok(entry(2, 7)));
    let late = NOW + Duration::from_secs(10);
    assert_eq!(node.attr(late, USER, ino(2)), None);
    node.extended(late, late);
    assert_eq!(node.attr(late, USER, ino(2)), None, "a new term does not bring back old values");
    begin(&node, true, true);
    look_up(&node, "a", Ok(entry(2, 7)));
    node.lost();
    assert_eq!(found(&node, "a"), None);
    begin(&node, true, true);
    assert_eq!(found(&node, "a"), None);
}

#[test]
fn root_is_told_only_where_it_is_root() {
    for trusted in [true, false] {
        let node = node(trusted);
        look_up(&node, "a", Ok(entry(2, 7)));
        assert_eq!(node.entry(NOW, 0, ino(1), &name("a")).is_some(), trusted);
        assert!(found(&node, "a").is_some());
    }
}

#[test]
fn who_was_let_open_a_file_may_open_it_again_until_that_is_recalled() {
    let node = node(true);
    let leases = Leases::ATTRIBUTES | Leases::HANDLE;
    let proof = OpenProof::from_bytes(Bytes::from_static(b"proof"));
    let opened = |number| Opened { entry: entry(number, 7), proof: proof.clone() };
    let open = |number, uid, proven, leases| {
        let opened = Opened { proof: opened(number).proof.filter(|_| proven), ..opened(number) };
        let asked = (uid, OpenFlags::SYNC);
        node.note_open(NOW, node.stamp(), asked, &answer(Ok(opened), leases));
    };
    let known = |number, uid| node.openable(NOW, uid, ino(number)).map(|(_, known)| known);
    open(2, USER, true, leases);
    let Some(proven) = known(2, USER) else { panic!("it was let open it") };
    assert_eq!((Some(proven.proof), proven.flags), (proof.clone(), OpenFlags::SYNC));
    assert_eq!(known(2, USER + 1), None, "another was not asked for");
    open(3, USER, false, leases);
    assert_eq!(known(3, USER), None, "nothing would show it");
    open(4, USER, true, Leases::ATTRIBUTES);
    assert_eq!(known(4, USER), None, "the home wants to know");
    node.recall(&[(ino(2), Leases::HANDLE)]);
    open(2, USER + 1, true, leases);
    assert_eq!(known(2, USER), None, "it was let open it under another lease");
    assert!(known(2, USER + 1).is_some());
}

#[test]
fn a_listing_makes_absence_known() {
    let node = node(true);
    list(&node, &["a", "b", "c", "d"]);
    assert_eq!(found(&node, "a"), Some(Ok(10)));
    assert_eq!(found(&node, "z"), Some(Err(Errno::NoEnt)));
    let listing = node.listing(NOW, USER, ino(1)).unwrap();
    assert_eq!(listing.iter().map(|entry| entry.cookie).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn a_listing_during_which_names_changed_is_not_whole() {
    for recalled in [true, false] {
        let node = node(true);
        let names = ["a", "b", "c", "d"];
        let mut collecting = None;
        fetch(&node, &names, 0..2, &mut collecting);
        if recalled {
            node.recall(&[(ino(1), Leases::DIRECTORY)]);
        } else {
            let change = Changing::begin_name(node.clone(), ino(1), &name("new"));
            change.end_made(NOW, ino(1), &name("new"), &answer(Ok(entry(9, 0)), BOTH));
        }
        fetch(&node, &names, 2..4, &mut collecting);
        assert!(node.listing(NOW, USER, ino(1)).is_none());
        assert_eq!(found(&node, "z"), None);
        assert_eq!(found(&node, "d"), Some(Ok(13)), "what came is known by itself");
    }
}

#[test]
fn own_changes_are_not_seen_half_done_and_correct_the_names() {
    let node = node(true);
    list(&node, &["a", "b"]);
    let change = Changing::begin_name(node.clone(), ino(1), &name("new"));
    assert_eq!(found(&node, "a"), None, "while it is under way nothing of the directory is used");
    change.end_made(NOW, ino(1), &name("new"), &answer(Ok(entry(9, 0)), BOTH));
    assert_eq!(found(&node, "new"), Some(Ok(9)));
    assert_eq!(found(&node, "a"), Some(Ok(10)));
    assert_eq!(found(&node, "z"), Some(Err(Errno::NoEnt)), "all names are still known");
    assert!(node.listing(NOW, USER, ino(1)).is_none(), "their order is not");
    let change = Changing::begin_name(node.clone(), ino(1), &name("a"));
    change.end_removed(NOW, ino(1), &name("a"), &answer(Ok(()), BOTH));
    assert_eq!(found(&node, "a"), Some(Err(Errno::NoEnt)));
    assert_eq!(node.attr(NOW, USER, ino(10)), None, "it may have other names, and is another now");
    let change = Changing::begin_name(node.clone(), ino(1), &name("b"));
    change.end_removed(NOW, ino(1), &name("b"), &answer(Err(Errno::Perm), Leases::empty()));
    assert!(matches!(node.number_of(ino(1), &name("b")), Some(number) if number == ino(11)));
}

#[test]
fn a_renaming_moves_what_is_known() {
    let rename = |names: &[&str], from: &str, to: &str, flags| {
        let node = node(true);
        list(&node, names);
        let (from, to) = (name(from), name(to));
        let (from, to) = ((ino(1), &from), (ino(1), &to));
        let change = Changing::begin_rename(node.clone(), from, to);
        change.end_renamed(NOW, from, to, flags, &answer(Ok(()), BOTH));
        let number = |text: &str| node.number_of(ino(1), &name(text)).map(InodeNo::get);
        (number("a"), number("b"), number("c"), found(&node, "a"))
    };
    let none = RenameFlags::empty();
    let gone = Some(Err(Errno::NoEnt));
    assert_eq!(rename(&["a", "b"], "a", "c", none), (None, Some(11), Some(10), gone));
    assert_eq!(rename(&["a", "b"], "a", "b", none), (None, Some(10), None, gone));
    let exchanged = rename(&["a", "b"], "a", "b", RenameFlags::EXCHANGE);
    assert_eq!((exchanged.0, exchanged.1), (Some(11), Some(10)));
}

#[test]
fn a_change_of_which_nothing_is_heard_keeps_its_file_out_until_the_session_is_over() {
    let node = node(true);
    look_up(&node, "a", Ok(entry(2, 7)));
    drop(Changing::begin(node.clone(), &[(ino(2), Leases::ATTRIBUTES)]));
    look_up(&node, "a", Ok(entry(2, 8)));
    assert_eq!(node.attr(NOW, USER, ino(2)), None);
    begin(&node, true, true);
    look_up(&node, "a", Ok(entry(2, 8)));
    assert_eq!(node.attr(NOW, USER, ino(2)), None, "the same session may still carry it out");
    begin(&node, true, false);
    look_up(&node, "a", Ok(entry(2, 8)));
    assert_eq!(node.attr(NOW, USER, ino(2)).map(|attr| attr.size), Some(8));
}

#[test]
fn attributes_after_an_own_change_are_those_of_its_answer() {
    let node = node(true);
    look_up(&node, "a", Ok(entry(2, 7)));
    let change = Changing::begin(node.clone(), &[(ino(2), Leases::ATTRIBUTES)]);
    assert_eq!(node.attr(NOW, USER, ino(2)), None);
    change.end_attr(NOW, &answer(Ok(entry(2, 9).attr), BOTH));
    assert_eq!(node.attr(NOW, USER, ino(2)).map(|attr| attr.size), Some(9));
    let change = Changing::begin(node.clone(), &[(ino(2), Leases::ATTRIBUTES)]);
    change.end_attr(NOW, &answer(Ok(entry(2, 10).attr), Leases::empty()));
    assert_eq!(node.attr(NOW, USER, ino(2)), None);
}

#[test]
fn extended_attributes_are_known_also_where_there_are_none() {
    let node = node(true);
    let acl = xattr("system.posix_acl_access");
    let note = |name: &XattrName, result| {
        let stamp = node.stamp();
        node.note_xattr(NOW, stamp, ino(2), name, &answer(result, BOTH));
    };
    note(&acl, Err(Errno::NoData));
    assert_eq!(node.xattr(NOW, USER, ino(2), &acl), Some(Err(Errno::NoData)));
    let secret = xattr("trusted.secret");
    note(&secret, Ok(Bytes::from_static(b"x")));
    assert_eq!(node.xattr(NOW, USER, ino(2), &secret), None);
    let big = xattr("user.big");
    note(&big, Ok(Bytes::from(vec![0; 2_000])));
    assert_eq!(node.xattr(NOW, USER, ino(2), &big), None);
}

#[test]
fn the_oldest_is_evicted_and_what_is_used_stays() {
    let node = node(true);
    for number in 2..6 {
        let stamp = node.stamp();
        node.note_attr(NOW, stamp, &answer(Ok(entry(number, 0).attr), BOTH));
    }
    assert!(node.attr(NOW, USER, ino(2)).is_some());
    let full = node.bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(node.evict());
    assert!(node.attr(NOW, USER, ino(2)).is_some());
    assert_eq!(node.attr(NOW, USER, ino(3)), None);
    assert!(node.bytes.load(std::sync::atomic::Ordering::Relaxed) < full);
    while node.evict() {}
    assert_eq!(node.bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
}
