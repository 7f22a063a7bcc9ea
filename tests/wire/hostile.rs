//! Bytes of a hostile peer: decoding ends, with a value or a refusal, and takes memory in proportion.

use mfs::wire::{ClientMessage, ServerMessage};
use mfs_proto::v1;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::values;

/// Takes bytes as both sides would. What is taken is encoded again without loss.
fn take(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(request) = v1::Request::decode(bytes)
        && let Ok(message) = ClientMessage::try_from(request)
    {
        let again = v1::Request::from(message.clone());
        prop_assert_eq!(ClientMessage::try_from(again), Ok(message));
    }
    if let Ok(reply) = v1::Reply::decode(bytes)
        && let Ok(message) = ServerMessage::try_from(reply)
    {
        let again = v1::Reply::from(message.clone());
        prop_assert_eq!(ServerMessage::try_from(again), Ok(message));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        take(&bytes)?;
    }

    /// Nearly right messages get further than noise.
    #[test]
    fn damaged_requests_are_taken_or_refused(
        message in values::client_message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = v1::Request::from(message).encode_to_vec();
        for (index, byte) in damage {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        take(&bytes)?;
        let cut = cut.index(bytes.len() + 1);
        take(&bytes[..cut])?;
    }

    #[test]
    fn damaged_replies_are_taken_or_refused(
        message in values::server_message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = v1::Reply::from(message).encode_to_vec();
        for (index, byte) in damage {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        take(&bytes)?;
    }
}

/// A field of millions of numbers of one byte each is the worst a message of 2 MiB can hold.
#[test]
fn a_message_full_of_groups_is_refused() {
    let mut request = v1::Request {
        request_id: 1,
        epoch: 1,
        body: Some(v1::request::Body::Release(v1::Release { open: 1 })),
        ..Default::default()
    };
    request.caller = Some(v1::Caller { groups: vec![1; 2_000_000], ..Default::default() });
    let bytes = request.encode_to_vec();
    assert!(bytes.len() < mfs::wire::MAX_MESSAGE);
    let decoded = v1::Request::decode(&bytes[..]).expect("protobuf");
    let refused = ClientMessage::try_from(decoded).expect_err("refused");
    assert!(refused.to_string().contains("caller.groups"), "{refused}");
}
