//! What is encoded is what was meant: values survive the wire, byte for byte.

use std::collections::HashSet;

use mfs::types::Errno;
use mfs::types::op::Operation;
use mfs::wire::{ClientMessage, MAX_MESSAGE, ServerMessage};
use mfs_proto::v1;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;

use crate::values;

proptest! {
    #[test]
    fn client_messages_survive_the_wire(message in values::client_message()) {
        let bytes = v1::Request::from(message.clone()).encode_to_vec();
        let decoded = v1::Request::decode(&bytes[..]).expect("protobuf");
        prop_assert_eq!(ClientMessage::try_from(decoded), Ok(message));
    }

    #[test]
    fn server_messages_survive_the_wire(message in values::server_message()) {
        let bytes = v1::Reply::from(message.clone()).encode_to_vec();
        let decoded = v1::Reply::decode(&bytes[..]).expect("protobuf");
        prop_assert_eq!(ServerMessage::try_from(decoded), Ok(message));
    }
}

/// The strategies above would prove nothing of an operation that they never make.
#[test]
fn every_operation_is_among_the_values() {
    let mut runner = TestRunner::deterministic();
    let mut seen = HashSet::new();
    for _ in 0..4_000 {
        let operation = values::operation().new_tree(&mut runner).expect("a value").current();
        seen.insert(operation.name());
    }
    assert_eq!(seen, Operation::NAMES.iter().copied().collect());
}

#[test]
fn error_codes_have_the_names_and_numbers_of_errno() {
    let mut known = HashSet::from([v1::ErrorCode::Unspecified as i32]);
    for errno in Errno::ALL {
        let number = i32::try_from(*errno as u32).expect("small");
        let code = v1::ErrorCode::try_from(number).expect("a code of the protocol");
        assert_eq!(format!("{code:?}"), format!("{errno:?}"));
        known.insert(number);
    }
    for number in 0..1_000 {
        assert_eq!(v1::ErrorCode::try_from(number).is_ok(), known.contains(&number), "{number}");
    }
}

/// The largest messages of honest sides pass the limit of the transport.
#[test]
fn full_messages_fit_the_limit() {
    use mfs::types::op::{DirEntry, Entry, Listing, Outcome, ReadDir};
    use mfs::types::{Attr, FileId, FileKind, FileName, InodeNo, Leases, RequestId, Timestamp};
    use mfs::wire::Reply;

    let ino = InodeNo::new((1 << 63) - 1).expect("not 0");
    let time = Timestamp { seconds: 1 << 33, nanos: 999_999_999 };
    let attr = Attr {
        ino,
        kind: FileKind::Regular,
        mode: 0o7777,
        nlink: 100,
        uid: 65_534,
        gid: 65_534,
        size: 1 << 40,
        blocks: 1 << 31,
        block_size: 4096,
        rdev: (0, 0),
        atime: time,
        mtime: time,
        ctime: time,
        btime: Some(time),
    };
    // A kernel handle of ext4, xfs or btrfs and what seals it stay below 80 bytes.
    let file = FileId::from_bytes(vec![7; 80].into()).expect("an id");
    let entry = DirEntry {
        name: FileName::parse(vec![b'n'; 255]).expect("a name"),
        kind: FileKind::Regular,
        ino,
        cookie: u64::MAX,
        entry: Some(Entry { file, attr }),
        unleased: true,
    };
    let entries = vec![entry; ReadDir::MAX_ENTRIES as usize];
    let reply = ServerMessage::Reply(Reply {
        id: RequestId::FIRST,
        verifier: mfs::types::Verifier(u64::MAX),
        leases: Leases::all(),
        result: Ok(Outcome::Listing(Listing { entries, end: false })),
    });
    let length = v1::Reply::from(reply).encoded_len();
    assert!(length <= MAX_MESSAGE, "{length} bytes");
}
