//! What must not pass: each rule that is written at a field, broken alone.

use mfs::types::{Caller, FileId, FileName, OpenProof};
use mfs::wire::{ClientMessage, MAX_IO, Malformed, Problem, ServerMessage, Undecodable};
use mfs_proto::v1;
use mfs_proto::v1::request::Body;

/// A request that is right but for its body.
fn around(body: Body, once: bool) -> v1::Request {
    v1::Request {
        request_id: 1,
        sequence: u64::from(once),
        epoch: 1,
        caller: Some(v1::Caller::from(Caller::user(1000, 1000, &[1000]))),
        body: Some(body),
        ..Default::default()
    }
}

#[track_caller]
fn refused(request: v1::Request) -> Malformed {
    match ClientMessage::try_from(request) {
        Err(Undecodable::Malformed(malformed)) => malformed,
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn names(field: &str, request: v1::Request) {
    let malformed = refused(request);
    assert_eq!(malformed.field, field, "{malformed}");
    assert!(malformed.to_string().contains(field));
}

fn id() -> bytes::Bytes {
    vec![1; 40].into()
}

fn lookup(parent: bytes::Bytes, name: &[u8]) -> v1::Request {
    around(Body::Lookup(v1::Lookup { parent, name: name.to_vec().into(), keep: false }), false)
}

fn open() -> v1::Open {
    v1::Open {
        file: id(),
        open: 1,
        access: v1::Access::Read as i32,
        flags: 0,
        proof: bytes::Bytes::new(),
    }
}

fn set_lock() -> v1::SetLock {
    v1::SetLock {
        open: 1,
        owner: 1,
        family: v1::LockFamily::Range as i32,
        kind: v1::LockKind::Shared as i32,
        start: 0,
        end: u64::MAX,
        wait: false,
        pid: 0,
        by_description: false,
        parked: bytes::Bytes::new(),
        namespace: 0,
    }
}

#[test]
fn the_request_around_these_tests_is_right() {
    assert!(ClientMessage::try_from(lookup(id(), b"name")).is_ok());
    assert!(ClientMessage::try_from(around(Body::Open(open()), false)).is_ok());
    assert!(ClientMessage::try_from(around(Body::SetLock(set_lock()), true)).is_ok());
}

#[test]
fn names_that_leave_the_directory() {
    let long = vec![b'x'; FileName::MAX_LEN + 1];
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"../etc", b"a\0b", &long] {
        names("lookup.name", lookup(id(), name));
    }
}

#[test]
fn file_ids_that_are_none() {
    names("lookup.parent", lookup(bytes::Bytes::new(), b"name"));
    names("lookup.parent", lookup(vec![1; FileId::MAX_LEN + 1].into(), b"name"));
}

#[test]
fn envelopes_that_lack_something() {
    let right = || lookup(id(), b"name");
    names("request.request_id", v1::Request { request_id: 0, ..right() });
    names("request.epoch", v1::Request { epoch: 0, ..right() });
    names("request.caller", v1::Request { caller: None, ..right() });
    let none = ClientMessage::try_from(v1::Request { body: None, ..right() });
    assert_eq!(none, Err(Undecodable::UnknownBody));
}

#[test]
fn slots_belong_to_once_only_operations_and_to_no_others() {
    names("request.sequence", around(Body::SetLock(set_lock()), false));
    names("request.sequence", v1::Request { sequence: 1, ..lookup(id(), b"name") });
    let first = |session, slot, sequence, request| v1::Request {
        first_session: session,
        first_slot: slot,
        first_sequence: sequence,
        ..request
    };
    let lock = || around(Body::SetLock(set_lock()), true);
    names("request.first_session", first(1, 1, 1, lookup(id(), b"name")));
    names("request.first_session", first(1, 1, 0, lock()));
    names("request.first_session", first(0, 1, 1, lock()));
    names("request.first_session", first(0, 1, 0, lock()));
}

/// setfsuid(2) and chown(2) take the highest number for "no change": as a caller it would be root.
#[test]
fn callers_that_would_stay_root() {
    let caller = |change: fn(&mut v1::Caller)| {
        let mut request = lookup(id(), b"name");
        change(request.caller.as_mut().expect("set above"));
        request
    };
    names("caller.uid", caller(|caller| caller.uid = u32::MAX));
    names("caller.gid", caller(|caller| caller.gid = u32::MAX));
    names("caller.groups", caller(|caller| caller.groups = vec![5, u32::MAX]));
    names("caller.groups", caller(|caller| caller.groups = vec![5; Caller::MAX_GROUPS + 1]));
    names("caller.umask", caller(|caller| caller.umask = 0o1000));
}

#[test]
fn flags_that_are_not_known() {
    let flags = v1::Open { flags: 1 << 31, ..open() };
    names("open.flags", around(Body::Open(flags), false));
    let rename = v1::Rename {
        parent: id(),
        name: "a".into(),
        new_parent: id(),
        new_name: "b".into(),
        flags: 8,
    };
    names("rename.flags", around(Body::Rename(rename), true));
    let mode = v1::CheckAccess { file: id(), mode: 8 };
    names("check_access.mode", around(Body::CheckAccess(mode), false));
    let fallocate = v1::Fallocate { open: 1, mode: 1 << 6, offset: 0, length: 1 };
    names("fallocate.mode", around(Body::Fallocate(fallocate), true));
}

#[test]
fn enumerations_that_are_not_known() {
    for access in [0, 4, -1] {
        names("open.access", around(Body::Open(v1::Open { access, ..open() }), false));
    }
    let lock = v1::SetLock { kind: 0, ..set_lock() };
    names("set_lock.kind", around(Body::SetLock(lock), true));
    let lock = v1::SetLock { family: 9, ..set_lock() };
    names("set_lock.family", around(Body::SetLock(lock), true));
    let seek = v1::Seek { open: 1, offset: 0, whence: 3 };
    names("seek.whence", around(Body::Seek(seek), false));
}

#[test]
fn numbers_beyond_their_range() {
    let read = v1::Read { open: 1, offset: 0, size: MAX_IO + 1, pages: false };
    assert_eq!(
        refused(around(Body::Read(read), false)).problem,
        Problem::OutOfRange { value: u64::from(MAX_IO) + 1, limit: u64::from(MAX_IO) }
    );
    let data = vec![0; MAX_IO as usize + 1].into();
    names(
        "write.data",
        around(
            Body::Write(v1::Write { open: 1, offset: 0, data, pages: false, known: None }),
            true,
        ),
    );
    for limit in [0, 4_097] {
        let list = v1::ReadDir { open: 1, cookie: 0, limit, attributes: false };
        names("read_dir.limit", around(Body::ReadDir(list), false));
    }
    let proof = vec![0; OpenProof::MAX_LEN + 1].into();
    names("open.proof", around(Body::Open(v1::Open { proof, ..open() }), false));
    let make = v1::MakeDir { parent: id(), name: "d".into(), mode: 0o10000 };
    names("make_dir.mode", around(Body::MakeDir(make), true));
    names("release.open", around(Body::Release(v1::Release { open: 0 }), false));
    let lock = v1::SetLock { start: 5, end: 4, ..set_lock() };
    names("set_lock.end", around(Body::SetLock(lock), true));
    let value = vec![0; (64 << 10) + 1].into();
    let xattr = v1::SetXattr { file: id(), name: "user.a".into(), value, mode: 1 };
    names("set_xattr.value", around(Body::SetXattr(xattr), true));
}

#[test]
fn attributes_that_cannot_be_set() {
    let set = |set: v1::SetAttr| {
        let body = v1::SetAttributes { file: id(), open: 0, set: Some(set) };
        around(Body::SetAttributes(body), true)
    };
    names("set.mode", set(v1::SetAttr { mode: Some(0o17777), ..Default::default() }));
    names("set.uid", set(v1::SetAttr { uid: Some(u32::MAX), ..Default::default() }));
    names("set.gid", set(v1::SetAttr { gid: Some(u32::MAX), ..Default::default() }));
    let time = v1::SetTime { now: false, seconds: 0, nanos: 1_000_000_000 };
    names("set.mtime", set(v1::SetAttr { mtime: Some(time), ..Default::default() }));
    let none = v1::SetAttributes { file: id(), open: 0, set: None };
    names("set_attributes.set", around(Body::SetAttributes(none), true));
}

#[test]
fn nodes_and_links_of_the_wrong_kind() {
    for kind in [v1::FileKind::Directory, v1::FileKind::Symlink, v1::FileKind::Unspecified] {
        let make = v1::MakeNode {
            parent: id(),
            name: "n".into(),
            kind: kind as i32,
            mode: 0,
            device_major: 0,
            device_minor: 0,
        };
        names("make_node.kind", around(Body::MakeNode(make), true));
    }
    for target in [vec![], vec![b'x'; 4096], b"a\0b".to_vec()] {
        let link = v1::MakeSymlink { parent: id(), name: "l".into(), target: target.into() };
        names("make_symlink.target", around(Body::MakeSymlink(link), true));
    }
}

#[test]
fn greetings_that_say_nothing() {
    let hello = v1::Hello {
        min_version: 1,
        max_version: 1,
        incarnation: 1,
        purpose: v1::Purpose::Control as i32,
        ..Default::default()
    };
    let of = |hello| v1::Request { body: Some(Body::Hello(hello)), ..Default::default() };
    assert!(ClientMessage::try_from(of(hello.clone())).is_ok());
    names("hello.min_version", of(v1::Hello { min_version: 0, ..hello.clone() }));
    names("hello.max_version", of(v1::Hello { min_version: 2, ..hello.clone() }));
    names("hello.incarnation", of(v1::Hello { incarnation: 0, ..hello.clone() }));
    names("hello.purpose", of(v1::Hello { purpose: 0, ..hello.clone() }));
    names("hello.software", of(v1::Hello { software: "x".repeat(129), ..hello }));
}

#[test]
fn replies_of_a_broken_server() {
    use v1::reply::Body;
    let refused = |request_id, body| {
        let reply = v1::Reply { request_id, verifier: 0, leases: 0, version: None, body };
        ServerMessage::try_from(reply).expect_err("refused")
    };
    assert_eq!(refused(1, None), Undecodable::UnknownBody);
    let unnamed = refused(0, Some(Body::Done(v1::Done {})));
    assert!(unnamed.to_string().contains("reply.request_id"), "{unnamed}");
    let long = refused(1, Some(Body::Data(vec![0; MAX_IO as usize + 1].into())));
    assert!(long.to_string().contains("reply.data"), "{long}");
    let entry = v1::Entry { file: id(), attr: None };
    let bare = refused(1, Some(Body::Entry(entry)));
    assert!(bare.to_string().contains("entry.attr"), "{bare}");
    let root = v1::Attr { ino: 1 << 63, kind: 1, ..Default::default() };
    let large = refused(1, Some(Body::Attr(root)));
    assert!(large.to_string().contains("attr.ino"), "{large}");
}

/// Errors and codes of later versions have a meaning here, too.
#[test]
fn what_a_later_server_says_is_understood_as_far_as_possible() {
    use mfs::types::Errno;
    use mfs::wire::{Failure, ProtocolCode};
    use v1::reply::Body;
    let result = |body| {
        let (leases, body) = (u32::MAX, Some(body));
        let reply = v1::Reply { request_id: 1, verifier: 0, leases, version: None, body };
        match ServerMessage::try_from(reply) {
            Ok(ServerMessage::Reply(reply)) => reply.result.expect_err("a failure"),
            other => panic!("not a reply: {other:?}"),
        }
    };
    assert_eq!(result(Body::Error(9_999)), Failure::File(Errno::Io));
    let message = format!("la\x1b[2Jt\ne{}", "r".repeat(5_000));
    let error = v1::ProtocolError { code: 9_999, message };
    match result(Body::ProtocolError(error)) {
        Failure::Protocol(refusal) => {
            assert_eq!(refusal.code, ProtocolCode::UnknownOperation);
            assert!(refusal.message.starts_with("la[2Jterr"), "nothing that a terminal obeys");
            assert_eq!(refusal.message.len(), 1_000);
        }
        Failure::File(errno) => panic!("{errno}"),
    }
}
