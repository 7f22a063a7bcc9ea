//! Leases over real streams: granted with answers, asked back before a change is made.

use mfs::lease::Touch;
use mfs::types::op::{GetAttr, GetXattr, Opened, Read, ReadDir, Release, SetAttributes, Unlink};
use mfs::types::{InodeNo, Leases, SetAttr, XattrName};
use mfs::wire::{Recall, ReturnLease};

use super::super::fake::{ROOT, UNWATCHED};
use super::*;

const OTHER: &[u8] = b"other";
const BOTH: Leases = Leases::DIRECTORY.union(Leases::ATTRIBUTES);

fn remembering() -> Hello {
    Hello { features: features::LEASES | features::LISTING_PARTS, ..hello(None) }
}

fn get(name: &'static [u8]) -> GetAttr {
    GetAttr { file: file(name), open: None }
}

fn chmod(name: &'static [u8], mode: u16) -> SetAttributes {
    let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
    SetAttributes { file: file(name), open: None, set }
}

fn unlink(name: &'static [u8]) -> Unlink {
    Unlink { parent: file(ROOT), name: FileName::parse(name).expect("a name") }
}

fn mode_of(reply: &Reply) -> u16 {
    match &reply.result {
        Ok(Outcome::Attr(attr)) => attr.mode,
        other => panic!("no attributes: {other:?}"),
    }
}

// === impl Client ===

impl Client {
    /// The whole reply.
    async fn told(&mut self, operation: impl Into<Operation>) -> Reply {
        let request = self.ask(operation);
        let reply = self.reply().await;
        assert_eq!(reply.id, request.id);
        reply
    }

    async fn recalled(&mut self) -> Recall {
        match self.receive().await {
            Some(ServerMessage::Recall(recall)) => recall,
            other => panic!("not a recall: {other:?}"),
        }
    }

    fn give_back(&self, recall: Recall) {
        let lease = ReturnLease { recall: recall.id, files: recall.files };
        self.send(ClientMessage::Return(lease));
    }

    /// Waits until all that was sent before has been taken.
    pub(super) async fn settle(&mut self) {
        let id = RequestId::new(1 << 40).expect("not 0");
        self.send(ClientMessage::Renew(id));
        assert_eq!(self.reply().await.id, id);
    }
}

/// A daemon with a file, whose number is the second value.
async fn daemon_with_file() -> (Daemon, InodeNo) {
    daemon_of(Daemon::start(TERM, Limits::default())).await
}

async fn daemon_of(daemon: Daemon) -> (Daemon, InodeNo) {
    let (mut maker, _) = daemon.greeted(None).await;
    let made = maker.call(create(FILE, 1)).await;
    let Ok(Outcome::Opened(Opened { entry, .. })) = made else { panic!("not made: {made:?}") };
    maker.send(ClientMessage::Goodbye);
    assert_eq!(maker.receive().await, None);
    (daemon, entry.attr.ino)
}

fn impatient() -> Daemon {
    Daemon::start(TERM, Limits { patience: Duration::from_millis(1), ..Limits::default() })
}

#[tokio::test]
async fn answers_grant_what_they_tell() {
    let (daemon, _) = daemon_with_file().await;
    let (mut client, welcome) = daemon.greeted_with(remembering()).await;
    assert_eq!(welcome.features, features::LEASES | features::LISTING_PARTS);
    assert_eq!(client.told(lookup(FILE)).await.leases, BOTH);
    let none = client.told(lookup(OTHER)).await;
    assert_eq!(none.result, Err(Failure::File(Errno::NoEnt)));
    assert_eq!(none.leases, Leases::DIRECTORY, "that there is no such name");
    assert_eq!(client.told(get(FILE)).await.leases, Leases::ATTRIBUTES);
    let name = XattrName::parse(&b"user.x"[..]).expect("a name");
    let none = client.told(GetXattr { file: file(FILE), name }).await;
    assert_eq!(none.result, Err(Failure::File(Errno::NoData)));
    assert_eq!(none.leases, Leases::ATTRIBUTES, "that there is no such attribute");
    assert_eq!(client.told(open(ROOT, 1)).await.leases, Leases::ATTRIBUTES);
    let list = ReadDir { open: id(1), cookie: 0, limit: 100, attributes: true };
    assert_eq!(client.told(list.clone()).await.leases, BOTH);
    // An entry whose changes nobody notices: its attributes may not be remembered, those of the others may.
    client.told(create(UNWATCHED, 2)).await;
    let told = client.told(list).await;
    assert_eq!(told.leases, BOTH);
    assert_eq!(unleased(&told), [(file(FILE), false), (file(UNWATCHED), true)]);
    assert_eq!(client.told(lookup(UNWATCHED)).await.leases, Leases::DIRECTORY);
    assert_eq!(client.told(get(UNWATCHED)).await.leases, Leases::empty());
}

/// The files that a listing names, and whether their attributes may not be remembered.
fn unleased(reply: &Reply) -> Vec<(FileId, bool)> {
    let Ok(Outcome::Listing(listing)) = &reply.result else { panic!("no listing: {reply:?}") };
    let listed = listing.entries.iter();
    let files = listed.map(|listed| {
        let entry = listed.entry.as_ref().expect("it has attributes");
        (entry.file.clone(), listed.unleased)
    });
    let mut files: Vec<_> = files.collect();
    files.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    files
}

#[tokio::test]
async fn who_takes_no_parts_of_listings_is_granted_the_attributes_of_all_or_none() {
    let (daemon, _) = daemon_with_file().await;
    let whole = Hello { features: features::LEASES, ..hello(None) };
    let (mut client, welcome) = daemon.greeted_with(whole).await;
    assert_eq!(welcome.features, features::LEASES);
    client.told(open(ROOT, 1)).await;
    let list = ReadDir { open: id(1), cookie: 0, limit: 100, attributes: true };
    assert_eq!(client.told(list.clone()).await.leases, BOTH);
    client.told(create(UNWATCHED, 2)).await;
    let told = client.told(list).await;
    assert_eq!(told.leases, Leases::DIRECTORY);
    assert_eq!(unleased(&told), [(file(FILE), false), (file(UNWATCHED), false)]);
}

#[tokio::test]
async fn who_does_not_say_that_it_answers_recalls_is_granted_nothing() {
    let (daemon, _) = daemon_with_file().await;
    let (mut client, welcome) = daemon.greeted(None).await;
    assert_eq!(welcome.features, 0);
    assert_eq!(client.told(lookup(FILE)).await.leases, Leases::empty());
    // Nor over a stream for bulk, where it would not hear of a recall.
    let (mut bulk, _) = daemon
        .greeted_with(Hello {
            purpose: Purpose::Bulk,
            incarnation: Incarnation::FIRST.next(),
            ..remembering()
        })
        .await;
    assert_eq!(bulk.told(lookup(FILE)).await.leases, Leases::empty());
    // Where local changes are not noticed, nobody is.
    daemon.tree.stop_watching();
    let (mut client, welcome) = daemon.greeted_with(remembering()).await;
    assert_eq!(welcome.features, 0);
    assert_eq!(client.told(lookup(FILE)).await.leases, Leases::empty());
}

#[tokio::test]
async fn a_change_is_made_when_what_was_remembered_is_given_back() {
    let (daemon, ino) = daemon_with_file().await;
    let (mut reader, _) = daemon.greeted_with(remembering()).await;
    let (mut writer, _) = daemon.greeted_with(remembering()).await;
    assert_eq!(mode_of(&reader.told(get(FILE)).await), 0o644);
    let change = writer.ask(chmod(FILE, 0o600));
    let recall = reader.recalled().await;
    assert_eq!(recall.files, [(ino, Leases::ATTRIBUTES)]);
    // It is answered meanwhile, with the old state, and may not remember it.
    let meanwhile = reader.told(get(FILE)).await;
    assert_eq!((mode_of(&meanwhile), meanwhile.leases), (0o644, Leases::empty()));
    writer.settle().await; // the change is not made: its answer would have come before
    reader.give_back(recall);
    let changed = writer.reply().await;
    assert_eq!((changed.id, mode_of(&changed)), (change.id, 0o600));
    assert_eq!(changed.leases, Leases::ATTRIBUTES, "who changed it knows it");
    assert_eq!(mode_of(&reader.told(get(FILE)).await), 0o600);
}

#[tokio::test]
async fn who_changes_is_not_asked() {
    let (daemon, _) = daemon_with_file().await;
    let (mut client, _) = daemon.greeted_with(remembering()).await;
    client.told(get(FILE)).await;
    assert_eq!(client.told(chmod(FILE, 0o600)).await.leases, Leases::ATTRIBUTES);
    assert_eq!(client.told(create(OTHER, 1)).await.leases, BOTH);
}

#[tokio::test]
async fn the_victim_of_a_name_is_asked_back_too() {
    let (daemon, ino) = daemon_with_file().await;
    let (mut reader, _) = daemon.greeted_with(remembering()).await;
    let (mut writer, _) = daemon.greeted(None).await;
    // Only the attributes of the file, not the name that leads to it.
    reader.told(get(FILE)).await;
    let removal = writer.ask(unlink(FILE));
    let recall = reader.recalled().await;
    assert_eq!(recall.files, [(ino, Leases::ATTRIBUTES)]);
    assert!(daemon.tree.contents(FILE).is_some());
    reader.give_back(recall);
    let removed = writer.reply().await;
    assert_eq!((removed.id, removed.result), (removal.id, Ok(Outcome::Done(()))));
    assert_eq!(daemon.tree.contents(FILE), None);
}

#[tokio::test]
async fn many_changes_that_wait_keep_nobody_from_reading() {
    let (daemon, _) =
        daemon_of(Daemon::start(TERM, Limits { running: 2, ..Limits::default() })).await;
    let (mut reader, _) = daemon.greeted_with(remembering()).await;
    let (mut writer, _) = daemon.greeted_with(remembering()).await;
    reader.told(get(FILE)).await;
    let mut changes = Vec::new();
    for slot in 0..20 {
        let mut request = writer.ask(get(FILE));
        writer.reply().await;
        request.operation = chmod(FILE, 0o600 + slot).into();
        request.once = Some((Slot(u32::from(slot)), Sequence::FIRST));
        changes.push(request.id);
        writer.send(ClientMessage::Request(request));
    }
    let recall = reader.recalled().await;
    // All sessions here are of one peer, and so of one lane, which is two wide.
    for client in [&mut reader, &mut writer] {
        assert_eq!(mode_of(&client.told(get(FILE)).await), 0o644);
    }
    reader.give_back(recall);
    for _ in 0..changes.len() {
        let reply = writer.reply().await;
        assert!(changes.contains(&reply.id) && reply.result.is_ok());
    }
}

#[tokio::test]
async fn a_change_does_not_wait_longer_than_the_term_of_who_says_nothing() {
    let (daemon, _) = daemon_of(Daemon::start(Duration::from_secs(2), Limits::default())).await;
    let (mut silent, first) = daemon.greeted_with(remembering()).await;
    let (mut writer, _) = daemon.greeted(None).await;
    silent.told(get(FILE)).await;
    let change = writer.ask(chmod(FILE, 0o600));
    silent.recalled().await;
    let changed = writer.reply().await;
    assert_eq!((changed.id, mode_of(&changed)), (change.id, 0o600));
    // It was silent, and not deaf: it goes on with what it has open.
    let greeting = Hello { session: Some(first.session), ..remembering() };
    assert!(daemon.greeted_with(greeting).await.1.resumed);
}

#[tokio::test]
async fn who_greets_again_has_forgotten_and_is_not_waited_for() {
    let (daemon, _) = daemon_with_file().await;
    let (mut reader, first) = daemon.greeted_with(remembering()).await;
    let (mut writer, _) = daemon.greeted(None).await;
    reader.told(get(FILE)).await;
    let change = writer.ask(chmod(FILE, 0o600));
    let old = reader.recalled().await;
    drop(reader);
    let greeting = Hello { session: Some(first.session), ..remembering() };
    let (mut reader, _) = daemon.greeted_with(greeting).await;
    assert_eq!(writer.reply().await.id, change.id);
    // What it is granted now, the answer to the old recall does not take back.
    let now = reader.told(get(FILE)).await;
    assert_eq!((mode_of(&now), now.leases), (0o600, Leases::ATTRIBUTES));
    reader.give_back(old);
    reader.settle().await;
    writer.ask(chmod(FILE, 0o640));
    reader.recalled().await;
}

#[tokio::test]
async fn a_session_that_talks_and_does_not_give_back_is_ended() {
    let (daemon, _) = daemon_of(impatient()).await;
    let (mut deaf, welcome) = daemon.greeted_with(remembering()).await;
    let (mut writer, _) = daemon.greeted(None).await;
    deaf.told(get(FILE)).await;
    writer.ask(chmod(FILE, 0o600));
    deaf.recalled().await;
    // It goes on asking, which a client that keeps the rules does not before it has given back.
    while let Some(message) = {
        let _ = deaf.outbound.send(ClientMessage::Renew(RequestId::FIRST).into());
        deaf.receive().await
    } {
        assert!(matches!(message, ServerMessage::Reply(_)), "{message:?}");
    }
    let (_, again) =
        daemon.greeted_with(Hello { session: Some(welcome.session), ..remembering() }).await;
    assert!(!again.resumed);
}

#[tokio::test]
async fn a_goodbye_gives_everything_back() {
    let (daemon, _) = daemon_with_file().await;
    let (mut reader, _) = daemon.greeted_with(remembering()).await;
    let (mut writer, _) = daemon.greeted(None).await;
    reader.told(lookup(FILE)).await;
    reader.send(ClientMessage::Goodbye);
    assert_eq!(reader.receive().await, None);
    assert_eq!(mode_of(&writer.told(chmod(FILE, 0o600)).await), 0o600);
}

#[tokio::test]
async fn local_changes_are_asked_back_and_not_waited_for() {
    let (daemon, ino) = daemon_with_file().await;
    let (mut reader, _) = daemon.greeted_with(remembering()).await;
    reader.told(get(FILE)).await;
    daemon.tree.change_locally(FILE);
    let recall = reader.recalled().await;
    assert_eq!(recall.files, [(ino, Leases::ATTRIBUTES)]);
    reader.give_back(recall);
    assert_eq!(reader.told(lookup(FILE)).await.leases, BOTH);
    // Something was missed: everything is asked back.
    daemon.tree.change_locally(b"missed");
    let mut files: Vec<Touch> = reader.recalled().await.files;
    files.sort_by_key(|(ino, _)| *ino);
    let root = InodeNo::new(2).expect("not 0");
    assert_eq!(files, [(root, Leases::DIRECTORY), (ino, Leases::ATTRIBUTES)]);
}

#[tokio::test]
async fn a_repeated_answer_grants_nothing() {
    let (daemon, _) = daemon_with_file().await;
    let (mut client, _) = daemon.greeted_with(remembering()).await;
    let request = client.ask(chmod(FILE, 0o600));
    assert_eq!(client.reply().await.leases, Leases::ATTRIBUTES);
    client.send(ClientMessage::Request(request));
    let again = client.reply().await;
    assert_eq!((mode_of(&again), again.leases), (0o600, Leases::empty()));
}

#[tokio::test]
async fn a_daemon_that_starts_changes_nothing_before_those_of_the_last_one_have_come() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = || Some(dir.path().join("leases"));
    // Without one, the first daemon would take the last boot for the time of a daemon before it.
    std::fs::write(dir.path().join("leases"), "").expect("it can be written");
    let term = Duration::from_secs(3_600);
    let tree = FakeTree::default();
    let first = Daemon::start_on(tree.clone(), term, Limits::default(), ledger());
    let (first, _) = daemon_of(first).await;
    let (mut reader, _) = first.greeted_with(remembering()).await;
    reader.told(get(FILE)).await;
    first.service.stop();
    // Killed, and started again: the mount may use what it remembers until it greets.
    let second = Daemon::start_on(tree, term, Limits::default(), ledger());
    let other = Hello { incarnation: Incarnation::FIRST.next(), ..remembering() };
    let (mut writer, _) = second.greeted_with(other).await;
    assert_eq!(mode_of(&writer.told(get(FILE)).await), 0o644, "what changes nothing goes on");
    let change = writer.ask(chmod(FILE, 0o600));
    writer.settle().await;
    let (mut reader, _) = second.greeted_with(remembering()).await;
    let changed = writer.reply().await;
    assert_eq!((changed.id, mode_of(&changed)), (change.id, 0o600));
    assert_eq!(mode_of(&reader.told(get(FILE)).await), 0o600);
}

/// What a [`keeper`] holds.
const KEPT: Leases = Leases::DATA_READ.union(Leases::ATTRIBUTES);

/// A client that keeps a page of the file.
async fn keeper(daemon: &Daemon) -> Client {
    let sees = Hello { features: features::LEASES | features::LENGTHS, ..hello(None) };
    let (mut keeper, _) = daemon.greeted_with(sees).await;
    keeper.told(open(FILE, 1)).await;
    let page = Read { open: id(1), offset: 0, size: 8, pages: true };
    assert_eq!(keeper.told(page).await.leases, Leases::DATA_READ);
    keeper
}

#[tokio::test]
async fn who_makes_a_file_longer_is_answered_when_all_who_keep_pages_have_seen_it() {
    let (daemon, ino) = daemon_with_file().await;
    let mut keeper = keeper(&daemon).await;
    let other = Hello { incarnation: Incarnation::FIRST.next(), ..hello(None) };
    let (mut writer, _) = daemon.greeted_with(other).await;
    writer.told(open(FILE, 1)).await;
    let longer = writer.ask(write(1, b"longer"));
    let data = keeper.recalled().await;
    assert_eq!(data.files, [(ino, KEPT)]);
    assert_eq!(daemon.tree.contents(FILE).as_deref(), Some(&b""[..]), "not before it is returned");
    keeper.give_back(data);
    let length = keeper.recalled().await;
    assert_eq!(length.files, [(ino, Leases::LENGTH)]);
    assert_eq!(daemon.tree.contents(FILE).as_deref(), Some(&b"longer"[..]));
    // What does not make it longer is answered meanwhile.
    let again = writer.ask(get(FILE));
    assert_eq!(writer.reply().await.id, again.id);
    keeper.give_back(length);
    assert_eq!(writer.reply().await.id, longer.id);
    // It still keeps the length, though it keeps no page any more.
    writer.ask(write(1, b"still"));
    let length = keeper.recalled().await;
    keeper.give_back(length);
    writer.reply().await;
    keeper.told(Release { open: id(1) }).await;
    writer.told(write(1, b"longer")).await;
}

#[tokio::test]
async fn of_local_changes_those_who_keep_pages_are_told() {
    let (daemon, ino) = daemon_with_file().await;
    let mut keeper = keeper(&daemon).await;
    daemon.tree.change_locally(FILE);
    assert_eq!(keeper.recalled().await.files, [(ino, KEPT)]);
    assert_eq!(keeper.recalled().await.files, [(ino, Leases::LENGTH)]);
}

#[tokio::test]
async fn names_that_are_the_same_in_capitals_are_not_remembered() {
    let (daemon, _) = daemon_with_file().await;
    daemon.tree.fold_case();
    let (mut client, _) = daemon.greeted_with(remembering()).await;
    assert_eq!(client.told(lookup(FILE)).await.leases, Leases::ATTRIBUTES);
    assert_eq!(client.told(lookup(OTHER)).await.leases, Leases::empty());
}
