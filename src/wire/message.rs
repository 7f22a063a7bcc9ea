//! The messages of a stream: what a client sends, what a server sends.

use std::time::Duration;

use mfs_proto::v1;

use super::error::{Malformed, Problem, Undecodable};
use super::outcome::{version_of, with_version};
use super::{Hello, Recall, ReturnLease, Welcome};
use crate::types::op::{Operation, Outcome};
use crate::types::{Caller, Epoch, Errno, Leases, RequestId, Sequence, SessionId, Slot, Verifier};

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Opens the stream.
    Hello(Hello),
    /// Asks for an operation.
    Request(Request),
    /// Gives leases back.
    Return(ReturnLease),
    /// Gives up a request that waits.
    Cancel(RequestId),
    /// Says that the client lives.
    Renew(RequestId),
    /// Ends the session.
    Goodbye,
}

/// One operation that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client; the reply carries it.
    pub id: RequestId,
    /// Set exactly if the operation is once-only ([`Operation::is_once_only`]).
    pub once: Option<(Slot, Sequence)>,
    /// Where a once-only request was sent first, if that was in a session which is over; few have it.
    pub first: Option<Box<Origin>>,
    /// The epoch of the welcome.
    pub epoch: Epoch,
    /// On whose behalf, as the peer says.
    pub caller: Caller,
    /// How long the client waits from now on; `None`: no limit.
    pub deadline: Option<Duration>,
    /// What to do.
    pub operation: Operation,
}

/// Where a once-only request was sent for the first time: tells it from all others of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The session.
    pub session: SessionId,
    /// Its slot there.
    pub slot: Slot,
    /// Its place in the slot.
    pub sequence: Sequence,
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// The stream is open.
    Welcome(Box<Welcome>),
    /// A request is answered.
    Reply(Reply),
    /// The server asks for leases back.
    Recall(Recall),
    /// The whole stream is refused.
    Refused(Refusal),
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The request's.
    pub id: RequestId,
    /// Differs from an earlier one when acknowledged writes may have been lost.
    pub verifier: Verifier,
    /// Leases granted with it.
    pub leases: Leases,
    /// What it brought.
    pub result: Result<Outcome, Failure>,
}

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The file system says no.
    #[error(transparent)]
    File(#[from] Errno),
    /// The protocol says no; the operation was not executed.
    #[error(transparent)]
    Protocol(#[from] Refusal),
}

/// A refusal of the protocol, with a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What a program decides by.
    pub code: ProtocolCode,
    /// What was refused, and what to do.
    pub message: String,
}

/// Declares the codes and both translations from one table.
macro_rules! protocol_codes {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a message was not executed at all.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProtocolCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ProtocolCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }

        impl From<ProtocolCode> for v1::ProtocolCode {
            fn from(code: ProtocolCode) -> Self {
                match code { $(ProtocolCode::$name => Self::$name,)+ }
            }
        }

        impl ProtocolCode {
            /// A code of a later version means what `UnknownOperation` means: the two cannot do this
            /// together.
            fn from_wire(code: i32) -> Self {
                match v1::ProtocolCode::try_from(code) {
                    $(Ok(v1::ProtocolCode::$name) => Self::$name,)+
                    Ok(v1::ProtocolCode::Unspecified) | Err(_) => Self::UnknownOperation,
                }
            }
        }
    };
}

protocol_codes! {
    /// A field is missing, out of its range, or contradicts another.
    Malformed,
    /// No protocol version in common.
    UnsupportedVersion,
    /// The operation is none that the server knows.
    UnknownOperation,
    /// The session does not exist, or belongs to another client.
    UnknownSession,
    /// The epoch is over.
    StaleEpoch,
    /// The session has no such open file.
    UnknownOpen,
    /// The peer may not do that.
    NotAuthorised,
    /// A limit of the server is reached.
    Limit,
    /// The sequence number is lower than the last one of its slot, or the slot does not exist.
    BadSequence,
    /// The node does not serve that export.
    UnknownExport,
    /// The server is stopping; nothing was done.
    Stopping,
    /// Sent in a session that is over; nobody knows whether it was done.
    OutcomeUnknown,
}

/// Longest sentence of a refusal, characters.
const MAX_SENTENCE: usize = 1_000;

// === impl ClientMessage ===

impl From<ClientMessage> for v1::Request {
    fn from(message: ClientMessage) -> Self {
        use v1::request::Body;
        let mut request = Self::default();
        let body = match message {
            ClientMessage::Hello(hello) => Body::Hello(hello.into()),
            ClientMessage::Return(lease) => Body::ReturnLease(lease.into()),
            ClientMessage::Cancel(id) => Body::Cancel(v1::Cancel { request_id: id.get() }),
            ClientMessage::Renew(id) => {
                request.request_id = id.get();
                Body::Renew(v1::Renew {})
            }
            ClientMessage::Goodbye => Body::Goodbye(v1::Goodbye {}),
            ClientMessage::Request(Request {
                id,
                once,
                first,
                epoch,
                caller,
                deadline,
                operation,
            }) => {
                request.request_id = id.get();
                if let Some((slot, sequence)) = once {
                    request.slot = slot.0;
                    request.sequence = sequence.get();
                }
                if let Some(first) = first {
                    request.first_session = first.session.get();
                    request.first_slot = first.slot.0;
                    request.first_sequence = first.sequence.get();
                }
                request.epoch = epoch.get();
                request.caller = Some(caller.into());
                request.deadline_ms = deadline.map_or(0, encode_deadline);
                operation.into()
            }
        };
        request.body = Some(body);
        request
    }
}

impl TryFrom<v1::Request> for ClientMessage {
    type Error = Undecodable;

    fn try_from(request: v1::Request) -> Result<Self, Undecodable> {
        use v1::request::Body;
        let id = || request_id("request.request_id", request.request_id);
        Ok(match request.body.ok_or(Undecodable::UnknownBody)? {
            Body::Hello(hello) => Self::Hello(hello.try_into()?),
            Body::ReturnLease(lease) => Self::Return(lease.try_into()?),
            Body::Cancel(cancel) => {
                Self::Cancel(request_id("cancel.request_id", cancel.request_id)?)
            }
            Body::Renew(v1::Renew {}) => Self::Renew(id()?),
            Body::Goodbye(v1::Goodbye {}) => Self::Goodbye,
            body => {
                let operation = Operation::try_from(body)?;
                let first = (request.first_session, request.first_slot, request.first_sequence);
                Self::Request(Request {
                    id: id()?,
                    once: decode_once(&operation, request.slot, request.sequence)?,
                    first: decode_first(&operation, first)?,
                    epoch: Epoch::new(request.epoch).ok_or(Malformed::missing("request.epoch"))?,
                    caller: request
                        .caller
                        .ok_or(Malformed::missing("request.caller"))?
                        .try_into()?,
                    deadline: decode_deadline(request.deadline_ms),
                    operation,
                })
            }
        })
    }
}

/// Whole milliseconds, rounded up: what is left of a deadline must not become "no limit".
fn encode_deadline(left: Duration) -> u32 {
    let ms = left.as_nanos().div_ceil(1_000_000).max(1);
    u32::try_from(ms).unwrap_or(u32::MAX)
}

fn decode_deadline(ms: u32) -> Option<Duration> {
    (ms != 0).then(|| Duration::from_millis(u64::from(ms)))
}

/// Slot and sequence belong to once-only operations and to no others: a remembered reply costs memory.
fn decode_once(
    operation: &Operation,
    slot: u32,
    sequence: u64,
) -> Result<Option<(Slot, Sequence)>, Malformed> {
    match (operation.is_once_only(), Sequence::new(sequence)) {
        (true, Some(sequence)) => Ok(Some((Slot(slot), sequence))),
        (true, None) => Err(Malformed::missing("request.sequence")),
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Malformed::new("request.sequence", Problem::Contradiction)),
    }
}

/// Where an operation was sent first: only of one that is once-only.
fn decode_first(
    operation: &Operation,
    (session, slot, sequence): (u64, u32, u64),
) -> Result<Option<Box<Origin>>, Malformed> {
    let field = "request.first_session";
    match (SessionId::new(session), Sequence::new(sequence)) {
        (None, None) if slot == 0 => Ok(None),
        (Some(session), Some(sequence)) if operation.is_once_only() => {
            Ok(Some(Box::new(Origin { session, slot: Slot(slot), sequence })))
        }
        _ => Err(Malformed::new(field, Problem::Contradiction)),
    }
}

fn request_id(field: &'static str, id: u64) -> Result<RequestId, Malformed> {
    RequestId::new(id).ok_or(Malformed::missing(field))
}

// === impl ServerMessage ===

impl From<ServerMessage> for v1::Reply {
    fn from(message: ServerMessage) -> Self {
        use v1::reply::Body;
        let stream = |body| Self { body: Some(body), ..Self::default() };
        match message {
            ServerMessage::Welcome(welcome) => {
                let verifier = welcome.verifier.0;
                Self { verifier, ..stream(Body::Welcome((*welcome).into())) }
            }
            ServerMessage::Recall(recall) => stream(Body::Recall(recall.into())),
            ServerMessage::Refused(refusal) => stream(Body::ProtocolError(refusal.into())),
            ServerMessage::Reply(Reply { id, verifier, leases, result }) => Self {
                request_id: id.get(),
                verifier: verifier.0,
                leases: leases.bits(),
                version: result.as_ref().ok().and_then(version_of),
                body: Some(match result {
                    Ok(outcome) => outcome.into(),
                    Err(Failure::File(errno)) => Body::Error(encode_errno(errno)),
                    Err(Failure::Protocol(refusal)) => Body::ProtocolError(refusal.into()),
                }),
            },
        }
    }
}

impl TryFrom<v1::Reply> for ServerMessage {
    type Error = Undecodable;

    fn try_from(reply: v1::Reply) -> Result<Self, Undecodable> {
        use v1::reply::Body;
        let result = match reply.body.ok_or(Undecodable::UnknownBody)? {
            Body::Welcome(welcome) => return Ok(Self::Welcome(Box::new(welcome.try_into()?))),
            Body::Recall(recall) => return Ok(Self::Recall(recall.try_into()?)),
            Body::ProtocolError(refusal) if reply.request_id == 0 => {
                return Ok(Self::Refused(refusal.into()));
            }
            Body::ProtocolError(refusal) => Err(Failure::Protocol(refusal.into())),
            Body::Error(code) => Err(Failure::File(decode_errno(code))),
            body => Ok(with_version(Outcome::try_from(body)?, reply.version)?),
        };
        Ok(Self::Reply(Reply {
            id: request_id("reply.request_id", reply.request_id)?,
            verifier: Verifier(reply.verifier),
            // A kind of lease that this side does not know it cannot use.
            leases: Leases::from_bits_truncate(reply.leases),
            result,
        }))
    }
}

/// The codes of `ErrorCode` are those of `Errno` (a test in tests/wire compares the names).
const fn encode_errno(errno: Errno) -> i32 {
    (errno as u32).cast_signed()
}

/// A code that this side does not know is an I/O error, as the kernel itself treats errors.
fn decode_errno(code: i32) -> Errno {
    u32::try_from(code).ok().and_then(Errno::from_code).unwrap_or(Errno::Io)
}

// === impl Refusal ===

impl Refusal {
    /// A refusal with this code and sentence.
    pub fn new(code: ProtocolCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Refusal> for v1::ProtocolError {
    fn from(refusal: Refusal) -> Self {
        Self { code: v1::ProtocolCode::from(refusal.code) as i32, message: refusal.message }
    }
}

impl From<v1::ProtocolError> for Refusal {
    /// The sentence goes to logs and terminals: bounded, and without what could play tricks there.
    fn from(error: v1::ProtocolError) -> Self {
        let printable = error.message.chars().filter(|c| !c.is_control());
        Self {
            code: ProtocolCode::from_wire(error.code),
            message: printable.take(MAX_SENTENCE).collect(),
        }
    }
}

impl From<Undecodable> for Refusal {
    fn from(error: Undecodable) -> Self {
        let code = match error {
            Undecodable::Malformed(_) => ProtocolCode::Malformed,
            Undecodable::UnknownBody => ProtocolCode::UnknownOperation,
        };
        Self::new(code, error.to_string())
    }
}
