//! What a client writes back that it stored under a lease, which it lost or not.

use mfs::types::op::{Read, Written};
use mfs::types::{DataVersion, Leases};
use mfs::wire::ReturnLease;

use super::*;

fn remembering(session: Option<SessionId>) -> Hello {
    Hello { features: features::LEASES, ..hello(session) }
}

fn open_to_write() -> Open {
    Open { access: Access::ReadWrite, ..open(FILE, 1) }
}

fn stored(data: &'static [u8], known: DataVersion) -> Write {
    Write { pages: true, known: Some(known), ..write(1, data) }
}

/// A client that has got the lease to store into pages of the file, its session, and the version.
async fn storer(daemon: &Daemon) -> (Client, SessionId, DataVersion) {
    let (mut client, welcome) = daemon.greeted_with(remembering(None)).await;
    client.call(create(FILE, 9)).await.expect("made");
    client.call(Release { open: id(9) }).await.expect("released");
    client.call(open_to_write()).await.expect("opened");
    let request = client.ask(Read { open: id(1), offset: 0, size: 8, pages: true });
    let reply = client.reply().await;
    assert_eq!((reply.id, reply.leases), (request.id, Leases::DATA_WRITE));
    let Ok(Outcome::Data(read)) = reply.result else { panic!("not read: {reply:?}") };
    (client, welcome.session, read.version.expect("it comes with the lease"))
}

/// The client of a session over a new stream: it holds nothing any more.
async fn come_back(daemon: &Daemon, client: Client, session: SessionId) -> Client {
    let next = client.next;
    drop(client);
    let (client, _) = daemon.greeted_with(remembering(Some(session))).await;
    Client { next, ..client }
}

/// Another client that has the file open for writing.
async fn other(daemon: &Daemon) -> Client {
    let hello = Hello { incarnation: Incarnation::FIRST.next(), ..hello(None) };
    let (mut client, _) = daemon.greeted_with(hello).await;
    client.call(open_to_write()).await.expect("opened");
    client
}

async fn written(client: &mut Client, write: Write) -> Written {
    match client.call(write).await {
        Ok(Outcome::Written(written)) => written,
        other => panic!("not written: {other:?}"),
    }
}

#[tokio::test]
async fn what_others_have_changed_after_the_lease_was_lost_is_not_overwritten() {
    let daemon = daemon();
    let (client, session, known) = storer(&daemon).await;
    let mut other = other(&daemon).await;
    let change = other.ask(write(1, b"theirs"));
    let mut client = come_back(&daemon, client, session).await;
    assert_eq!(other.reply().await.id, change.id);
    let apart = Some(Bytes::from_static(b"/apart-09090909"));
    let first = written(&mut client, stored(b"mine", known)).await;
    assert_eq!(first, Written { size: 4, offset: 0, apart: apart.clone(), ..Written::default() });
    let second = written(&mut client, stored(b"mine", known)).await;
    assert_eq!(second.apart, apart, "one copy");
    // Whoever changes it through his own words does so.
    assert_eq!(
        written(&mut client, write(1, b"said")).await,
        Written { size: 4, offset: 0, ..Written::default() }
    );
}

#[tokio::test]
async fn what_nobody_else_has_changed_is_written() {
    let daemon = daemon();
    let (client, session, known) = storer(&daemon).await;
    let mut client = come_back(&daemon, client, session).await;
    let first = written(&mut client, stored(b"one", known)).await;
    let version = first.version.expect("it is the client's own");
    assert_eq!((first.apart, version.size), (None, 3));
    // It does not know yet what became of the first.
    assert_eq!(written(&mut client, stored(b"two", known)).await.apart, None);
    assert_eq!(written(&mut client, stored(b"three", version)).await.apart, None);
}

#[tokio::test]
async fn what_is_written_before_the_lease_is_returned_is_in_order() {
    let daemon = daemon();
    let (mut client, _, known) = storer(&daemon).await;
    let mut other = other(&daemon).await;
    let change = other.ask(write(1, b"theirs"));
    let Some(ServerMessage::Recall(recall)) = client.receive().await else { panic!("not asked") };
    assert!(recall.files[0].1.contains(Leases::DATA_WRITE), "{recall:?}");
    assert_eq!(written(&mut client, stored(b"mine", known)).await.apart, None);
    let lease = ReturnLease { recall: recall.id, files: recall.files };
    client.send(ClientMessage::Return(lease));
    assert_eq!(other.reply().await.id, change.id);
}

/// All that is known of a client of the daemon before is the version that it knows.
#[tokio::test]
async fn of_a_client_that_is_not_known_the_version_tells() {
    let daemon = daemon();
    let (mut maker, _) = daemon.greeted(None).await;
    maker.call(create(FILE, 1)).await.expect("made");
    let made = written(&mut maker, write(1, b"12345")).await;
    assert_eq!(made.version, None, "it stores nothing");
    let mut client = other(&daemon).await;
    let time = |seconds| mfs::types::Timestamp { seconds, nanos: 0 };
    let version = |size: u64| {
        let time = time(size.cast_signed());
        DataVersion { ctime: time, mtime: time, size }
    };
    assert_eq!(written(&mut client, stored(b"6", version(5))).await.apart, None);
    assert_eq!(written(&mut client, stored(b"7", version(5))).await.apart, None, "it is its own");
    let (mut stranger, _) = daemon
        .greeted_with(Hello { incarnation: Incarnation::FIRST.next().next(), ..remembering(None) })
        .await;
    stranger.call(open_to_write()).await.expect("opened");
    assert!(written(&mut stranger, stored(b"8", version(5))).await.apart.is_some());
    assert!(written(&mut client, stored(b"8", version(5))).await.apart.is_none(), "not a change");
}
