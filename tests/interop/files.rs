//! Files through the bare protocol.

use std::fs;

use mfs_proto::v1;
use mfs_proto::v1::reply::Body as Answer;
use mfs_proto::v1::request::Body as Ask;

use crate::daemon::{Daemon, hello};

fn lookup(parent: &bytes::Bytes, name: &'static str) -> Ask {
    Ask::Lookup(v1::Lookup { parent: parent.clone(), name: name.into(), keep: false })
}

#[tokio::test]
async fn a_file_is_made_written_read_listed_and_removed() {
    let daemon = Daemon::found().await;
    let (mut stream, welcome) = daemon.greeted().await;
    assert_eq!(
        (welcome.version, welcome.max_io, welcome.name.as_str()),
        (1, (1 << 20) + 4096, "interop")
    );
    let root = welcome.root.expect("a root").file;

    let create = Ask::Create(v1::Create {
        parent: root.clone(),
        name: "hello.txt".into(),
        open: 1,
        mode: 0o666,
        access: v1::Access::ReadWrite as i32,
        flags: 0,
    });
    let Answer::Opened(opened) = stream.call(create, true).await else { panic!("not made") };
    let created = opened.entry.expect("an entry");
    assert_eq!(created.attr.expect("attributes").mode, 0o644, "the umask is applied");

    let write = Ask::Write(v1::Write {
        open: 1,
        offset: 0,
        data: "hello, node".into(),
        pages: false,
        known: None,
    });
    let Answer::Written(written) = stream.call(write, true).await else { panic!("not written") };
    assert_eq!((written.size, written.offset), (11, 0));
    assert_eq!(fs::read(daemon.tree().join("hello.txt")).unwrap(), b"hello, node");

    let read = Ask::Read(v1::Read { open: 1, offset: 7, size: 100, pages: false });
    assert_eq!(stream.call(read, false).await, Answer::Data("node".into()));

    let Answer::Entry(found) = stream.call(lookup(&root, "hello.txt"), false).await else {
        panic!("not found")
    };
    assert_eq!(found.file, created.file, "a file has one id");
    assert_eq!(found.attr.expect("attributes").size, 11);

    let open = Ask::Open(v1::Open {
        file: root.clone(),
        open: 2,
        access: v1::Access::Read as i32,
        flags: 0,
        proof: bytes::Bytes::new(),
    });
    assert!(matches!(stream.call(open, false).await, Answer::Opened(_)));
    let list = Ask::ReadDir(v1::ReadDir { open: 2, cookie: 0, limit: 100, attributes: true });
    let Answer::Listing(listing) = stream.call(list, false).await else { panic!("not listed") };
    let names: Vec<_> = listing.entries.iter().map(|entry| &entry.name[..]).collect();
    assert_eq!((names, listing.end), (vec![&b"hello.txt"[..]], true));

    for open in [1, 2] {
        let release = Ask::Release(v1::Release { open });
        assert_eq!(stream.call(release, false).await, Answer::Done(v1::Done {}));
    }
    let unlink = Ask::Unlink(v1::Unlink { parent: root.clone(), name: "hello.txt".into() });
    assert_eq!(stream.call(unlink, true).await, Answer::Done(v1::Done {}));
    let none = v1::ErrorCode::NoEnt as i32;
    assert_eq!(stream.call(lookup(&root, "hello.txt"), false).await, Answer::Error(none));
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_a_sentence() {
    let daemon = Daemon::found().await;

    let mut stream = daemon.stream().await;
    let later = v1::Hello { min_version: 41, max_version: 42, ..hello() };
    stream.send(v1::Request { body: Some(Ask::Hello(later)), ..Default::default() });
    let Some(Answer::ProtocolError(error)) = stream.receive().await.and_then(|r| r.body) else {
        panic!("not refused")
    };
    assert_eq!(error.code(), v1::ProtocolCode::UnsupportedVersion);
    assert!(error.message.contains("41 to 42"), "{}", error.message);
    assert!(stream.receive().await.is_none(), "the stream ends");

    let (mut stream, welcome) = daemon.greeted().await;
    let root = welcome.root.expect("a root").file;
    let Answer::ProtocolError(error) = stream.call(lookup(&root, "../etc"), false).await else {
        panic!("not refused")
    };
    assert_eq!(error.code(), v1::ProtocolCode::Malformed);
    assert!(error.message.contains("lookup.name"), "{}", error.message);

    // A file id of one's own making, and one that was altered, name nothing.
    let mut altered = root.to_vec();
    *altered.last_mut().expect("not empty") ^= 1;
    for forged in [vec![0; 40], altered] {
        let stale = v1::ErrorCode::Stale as i32;
        let answer = stream.call(lookup(&forged.into(), "x"), false).await;
        assert_eq!(answer, Answer::Error(stale));
    }
    let Answer::ProtocolError(error) =
        stream.call(Ask::Read(v1::Read { open: 9, offset: 0, size: 1, pages: false }), false).await
    else {
        panic!("not refused")
    };
    assert_eq!(error.code(), v1::ProtocolCode::UnknownOpen);
}
