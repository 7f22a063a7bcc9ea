//! Opens that clients make by themselves, over real streams: granted, asked back, and then told.

use mfs::types::op::{Read, SetAttributes, Unlink};
use mfs::types::{Leases, SetAttr};
use mfs::wire::{Recall, ReturnLease};

use super::super::fake::{ROOT, UNWATCHED};
use super::super::tree::Tree as _;
use super::*;

const BOTH: Leases = Leases::ATTRIBUTES.union(Leases::HANDLE);

/// A client of this incarnation that opens files by itself.
async fn opener(daemon: &Daemon, incarnation: Incarnation) -> Client {
    let features = features::LEASES | features::HANDLES;
    let (client, welcome) =
        daemon.greeted_with(Hello { features, incarnation, ..hello(None) }).await;
    assert_eq!(welcome.features, features);
    client
}

/// A daemon with a file that the first of two clients may open by itself.
async fn world() -> (Daemon, Client, Client) {
    let daemon = Daemon::start(TERM, Limits::default());
    let mut first = opener(&daemon, Incarnation::FIRST).await;
    let second = opener(&daemon, Incarnation::FIRST.next()).await;
    first.call(create(FILE, 1)).await.expect("it is new");
    assert_eq!(leases(&mut first, open(FILE, 2)).await, BOTH);
    assert!(daemon.tree.is_guarded(FILE));
    (daemon, first, second)
}

async fn leases(client: &mut Client, operation: impl Into<Operation>) -> Leases {
    let request = client.ask(operation);
    let reply = client.reply().await;
    assert_eq!(reply.id, request.id);
    reply.leases
}

/// The recall of an open. What else is asked for is given back.
async fn recalled(client: &mut Client) -> Recall {
    loop {
        match client.receive().await {
            Some(ServerMessage::Recall(recall))
                if recall.files.iter().any(|(_, leases)| leases.contains(Leases::HANDLE)) =>
            {
                return recall;
            }
            Some(ServerMessage::Recall(recall)) => give_back(client, recall),
            other => panic!("not a recall: {other:?}"),
        }
    }
}

fn give_back(client: &Client, recall: Recall) {
    client.send(ClientMessage::Return(ReturnLease { recall: recall.id, files: recall.files }));
}

fn writing(open: Open) -> Open {
    Open { access: Access::Write, ..open }
}

/// As a client tells of what it has opened by itself.
fn leased(open: Open) -> Open {
    Open { flags: OpenFlags::LEASED, ..open }
}

fn chmod(mode: u16) -> SetAttributes {
    let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
    SetAttributes { file: file(FILE), open: None, set }
}

#[tokio::test]
async fn an_open_for_reading_may_be_repeated_without_asking() {
    let (daemon, mut first, mut second) = world().await;
    assert_eq!(leases(&mut second, open(FILE, 1)).await, BOTH, "any number of clients may");
    assert_eq!(leases(&mut first, open(FILE, 3)).await, BOTH, "and as often as they like");
    first.call(create(UNWATCHED, 4)).await.expect("it is new");
    assert_eq!(leases(&mut second, open(UNWATCHED, 3)).await, Leases::empty());
    assert_eq!(leases(&mut second, open(ROOT, 4)).await, Leases::ATTRIBUTES, "a directory");
    let incarnation = Incarnation::FIRST.next().next();
    let plain = Hello { features: features::LEASES, incarnation, ..hello(None) };
    let (mut plain, _) = daemon.greeted_with(plain).await;
    assert_eq!(leases(&mut plain, open(FILE, 1)).await, Leases::ATTRIBUTES, "it does not know how");
}

#[tokio::test]
async fn who_wants_to_write_waits_until_nobody_reads_unasked() {
    let (daemon, mut first, mut second) = world().await;
    let write = second.ask(writing(open(FILE, 1)));
    let recall = recalled(&mut first).await;
    assert!(daemon.tree.is_guarded(FILE));
    give_back(&first, recall);
    assert_eq!(second.reply().await.id, write.id);
    assert!(!daemon.tree.is_guarded(FILE));
    // What it has itself it gives back, too. An open to write is over a moment after its answer.
    let mut number = 2;
    while !leases(&mut second, open(FILE, number)).await.contains(Leases::HANDLE) {
        number += 1;
        assert!(number < 1_000, "it is never granted again");
    }
    let write = second.ask(writing(open(FILE, number + 1)));
    let recall = recalled(&mut second).await;
    give_back(&second, recall);
    assert_eq!(second.reply().await.id, write.id);
}

/// Else the kernel would have the thread wait that does it, for a return that may need such a thread.
#[tokio::test]
async fn who_cuts_a_file_off_has_returned_what_it_opens_unasked() {
    let (daemon, mut first, _second) = world().await;
    let cut_off = |flags, access, id| Open { access, flags, ..open(FILE, id) };
    let size = SetAttr { size: Some(1), ..SetAttr::default() };
    let set = SetAttributes { file: file(FILE), open: None, set: size };
    let cuts: [Operation; 3] = [
        cut_off(OpenFlags::TRUNCATE, Access::Write, 3).into(),
        cut_off(OpenFlags::TRUNCATE, Access::Read, 4).into(),
        set.into(),
    ];
    for (cut, id) in cuts.into_iter().zip(5..) {
        let asked = first.ask(cut);
        let recall = recalled(&mut first).await;
        assert!(daemon.tree.is_guarded(FILE));
        give_back(&first, recall);
        assert_eq!(first.reply().await.id, asked.id);
        assert!(!daemon.tree.is_guarded(FILE));
        assert!(leases(&mut first, open(FILE, id)).await.contains(Leases::HANDLE));
    }
}

#[tokio::test]
async fn what_was_opened_unasked_is_told_before_it_is_removed_or_forbidden() {
    let (_daemon, mut first, mut second) = world().await;
    let forbid = second.ask(chmod(0));
    let recall = recalled(&mut first).await;
    first.call(leased(open(FILE, 3))).await.expect("it is allowed still");
    give_back(&first, recall);
    assert_eq!(second.reply().await.id, forbid.id);
    first.call(leased(open(FILE, 4))).await.expect_err("it is not any more");

    second.call(chmod(0o644)).await.expect("it may");
    assert!(leases(&mut first, open(FILE, 5)).await.contains(Leases::HANDLE));
    let name = FileName::parse(FILE).expect("a name");
    let remove = second.ask(Unlink { parent: file(ROOT), name });
    let recall = recalled(&mut first).await;
    first.call(leased(open(FILE, 6))).await.expect("it is there still");
    give_back(&first, recall);
    // Of a file that only its name tells, who removes it is asked, too.
    let Some(ServerMessage::Recall(own)) = second.receive().await else { panic!("not a recall") };
    give_back(&second, own);
    assert_eq!(second.reply().await.id, remove.id);
}

/// Permissions that local processes take away are seen too late for what was opened unasked by then: it was
/// allowed.
#[tokio::test]
async fn what_was_opened_unasked_stays_open_until_the_lease_is_returned() {
    let (daemon, mut first, mut second) = world().await;
    daemon.tree.forbid_locally(FILE);
    let recall = recalled(&mut first).await;
    first.call(open(FILE, 3)).await.expect_err("nobody may open it");
    second.call(leased(open(FILE, 1))).await.expect_err("it has no lease");
    first.call(leased(open(FILE, 5))).await.expect("it was open");
    let run = OpenFlags::LEASED | OpenFlags::EXECUTE;
    first.call(Open { flags: run, ..open(FILE, 8) }).await.expect_err("nor opened to be run");
    give_back(&first, recall);
    first.settle().await;
    first.call(leased(open(FILE, 6))).await.expect_err("the lease is returned");
    first.call(writing(leased(open(FILE, 7)))).await.expect_err("it was not opened for that");
}

/// Of the lease the next daemon knows nothing.
#[tokio::test]
async fn what_was_opened_unasked_and_cannot_be_told_in_time_is_let_open_by_its_proof() {
    let (daemon, mut first, _second) = world().await;
    let Ok(Outcome::Opened(opened)) = first.call(open(FILE, 3)).await else { panic!("it may") };
    daemon.tree.forbid_locally(FILE);
    let mut next = opener(&daemon, Incarnation::FIRST.next().next()).await;
    next.call(leased(open(FILE, 1))).await.expect_err("it has no lease");
    let told = Open { proof: opened.proof, ..leased(open(FILE, 2)) };
    next.call(told).await.expect("it was open");
}

/// Who reads them, without opening anything and without a message, must not go on either.
#[tokio::test]
async fn who_wants_to_write_beside_waits_until_nobody_keeps_pages() {
    let (daemon, mut first, mut second) = world().await;
    assert_eq!(leases(&mut second, open(FILE, 1)).await, BOTH);
    let page = Read { open: id(1), offset: 0, size: 8, pages: true };
    assert_eq!(leases(&mut second, page).await, Leases::DATA_READ);
    let ino = daemon.tree.number_of(&file(FILE)).expect("it has one");
    daemon.service.dispatch.coherence.writer_waits(&[ino]);
    let recall = recalled(&mut first).await;
    give_back(&first, recall);
    first.settle().await;
    let recall = recalled(&mut second).await;
    assert_eq!(recall.files, [(ino, Leases::HANDLE | Leases::DATA_READ)]);
    for leases in [Leases::HANDLE, Leases::DATA_READ] {
        assert!(daemon.tree.is_guarded(FILE));
        let lease = ReturnLease { recall: recall.id, files: vec![(ino, leases)] };
        second.send(ClientMessage::Return(lease));
        second.settle().await;
    }
    assert!(!daemon.tree.is_guarded(FILE));
}

/// Else the thread that makes it would wait for that in the kernel.
#[tokio::test]
async fn who_makes_a_file_that_is_there_waits_as_who_opens_it_to_write() {
    let (daemon, mut first, mut second) = world().await;
    let make = second.ask(create(FILE, 1));
    let recall = recalled(&mut first).await;
    assert!(daemon.tree.is_guarded(FILE));
    give_back(&first, recall);
    assert_eq!(second.reply().await.id, make.id);
    assert!(!daemon.tree.is_guarded(FILE));
}
