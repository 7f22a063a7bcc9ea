//! Answers of operations.

use bytes::Bytes;
use mfs_proto::v1;
use mfs_proto::v1::reply::Body;

use super::error::{Malformed, Problem, Undecodable};
use super::field;
use crate::types::XattrName;
use crate::types::op::{Outcome, ReadData};

/// Largest value, or list of names, of extended attributes: XATTR_SIZE_MAX, XATTR_LIST_MAX.
pub(super) const MAX_XATTR: usize = 64 << 10;

/// Longest target of a symbolic link, bytes: PATH_MAX without the NUL.
pub(super) const MAX_TARGET: usize = 4095;

impl From<Outcome> for Body {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done(()) => Self::Done(v1::Done {}),
            Outcome::Entry(entry) => Self::Entry(entry.into()),
            Outcome::Opened(opened) => Self::Opened(opened.into()),
            Outcome::Attr(attr) => Self::Attr(attr.into()),
            Outcome::Target(target) => Self::Target(target),
            // Its version goes with the reply.
            Outcome::Data(ReadData { data, version: _ }) => Self::Data(data),
            Outcome::Written(written) => Self::Written(written.into()),
            Outcome::Listing(listing) => Self::Listing(listing.into()),
            Outcome::StatFs(stat) => Self::StatFs(stat.into()),
            Outcome::Value(value) => Self::Value(value),
            Outcome::Names(names) => {
                let names = names.iter().map(|name| name.as_bytes().clone()).collect();
                Self::Names(v1::Names { names })
            }
            Outcome::Offset(offset) => Self::Offset(offset),
            Outcome::Copied(bytes) => Self::Copied(bytes),
            Outcome::Lock(lock) => Self::Lock(lock.into()),
        }
    }
}

impl TryFrom<Body> for Outcome {
    type Error = Undecodable;

    fn try_from(body: Body) -> Result<Self, Undecodable> {
        Ok(match body {
            Body::Welcome(_) | Body::Recall(_) | Body::ProtocolError(_) | Body::Error(_) => {
                return Err(Malformed::new("reply.body", Problem::Contradiction).into());
            }
            Body::Done(v1::Done {}) => Self::Done(()),
            Body::Entry(entry) => Self::Entry(entry.try_into()?),
            Body::Opened(opened) => Self::Opened(opened.try_into()?),
            Body::Attr(attr) => Self::Attr(attr.try_into()?),
            Body::Target(target) => Self::Target(decode_target("reply.target", target)?),
            Body::Data(data) => {
                field::length_at_most("reply.data", data.len(), super::MAX_IO as usize)?;
                Self::Data(ReadData { data, version: None })
            }
            Body::Written(written) => Self::Written(written.try_into()?),
            Body::Listing(listing) => Self::Listing(listing.try_into()?),
            Body::StatFs(stat) => Self::StatFs(stat.into()),
            Body::Value(value) => {
                field::length_at_most("reply.value", value.len(), MAX_XATTR)?;
                Self::Value(value)
            }
            Body::Names(names) => Self::Names(decode_names(names)?),
            Body::Offset(offset) => Self::Offset(offset),
            Body::Copied(bytes) => Self::Copied(bytes),
            Body::Lock(lock) => Self::Lock(lock.try_into()?),
        })
    }
}

/// The version that an answer tells, if it is of data that was read.
pub(super) fn version_of(outcome: &Outcome) -> Option<v1::DataVersion> {
    match outcome {
        Outcome::Data(read) => read.version.map(Into::into),
        _ => None,
    }
}

/// An answer with the version that came beside it.
pub(super) fn with_version(
    outcome: Outcome,
    version: Option<v1::DataVersion>,
) -> Result<Outcome, Malformed> {
    match outcome {
        Outcome::Data(read) => {
            let version = version.map(TryInto::try_into).transpose()?;
            Ok(Outcome::Data(ReadData { version, ..read }))
        }
        other => Ok(other),
    }
}

/// The target of a symbolic link.
pub(super) fn decode_target(field: &'static str, target: Bytes) -> Result<Bytes, Malformed> {
    if target.is_empty() {
        return Err(Malformed::missing(field));
    }
    field::length_at_most(field, target.len(), MAX_TARGET)?;
    if target.contains(&0) {
        return Err(Malformed::new(field, Problem::Nul));
    }
    Ok(target)
}

fn decode_names(names: v1::Names) -> Result<Vec<XattrName>, Malformed> {
    // With the NUL after each, as listxattr(2) counts.
    let length = names.names.iter().map(|name| name.len() + 1).sum();
    field::length_at_most("names.names", length, MAX_XATTR)?;
    names.names.into_iter().map(|name| field::xattr_name("names.names", name)).collect()
}
