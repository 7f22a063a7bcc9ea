//! One execution of an operation, and everybody who waits for its answer.
//!
//! A request that comes again over a new stream joins the execution that its first coming began, and gets
//! the same answer; so nothing is executed twice.

use mfs::failpoint::{self, Point};
use mfs::sync::Mutex;
use mfs::telemetry::metrics::{SERVER_REPLIES_FAILED, SERVER_REPLIES_SENT};
use mfs::types::op::{Operation, Outcome};
use mfs::types::{Leases, RequestId, Verifier};
use mfs::wire::{Failure, Refusal, Reply, ServerMessage};
use mfs_proto::v1;
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

/// What an operation brought.
pub(super) type Answer = Result<Outcome, Failure>;

/// The way back to one request's sender. Dropped without an answer, the sender learns nothing: so only
/// where its stream is gone.
#[derive(Debug)]
pub(super) struct Responder {
    pub(super) id: RequestId,
    /// [`mfs::types::op::Operation::index`], for the figures; `None` for what is no operation.
    pub(super) operation: Option<usize>,
    pub(super) verifier: Verifier,
    pub(super) outbox: Outbox,
    pub(super) permits: Permits,
}

/// Where the messages of one stream go.
pub(super) type Outbox = mpsc::UnboundedSender<Outgoing>;

/// A message on its way to the transport.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) message: Result<v1::Reply, Status>,
    /// What it answers, by name; empty if no operation.
    pub(super) operation: &'static str,
    /// Given back when the transport takes the message, so that a peer that does not read its answers
    /// cannot make this node keep more of them.
    pub(super) permits: Permits,
}

/// A request's share of the limits on requests in flight.
#[derive(Debug, Default)]
pub(super) struct Permits {
    pub(super) _count: Option<OwnedSemaphorePermit>,
    pub(super) bytes: Option<OwnedSemaphorePermit>,
}

/// One execution.
#[derive(Debug)]
pub(super) struct Run {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Running(SmallVec<[Responder; 1]>),
    Finished(Answer),
}

// === impl Responder ===

impl Responder {
    /// Sends the answer, and the leases that were granted with it. That the stream is gone is no error: the
    /// client asks again over another one.
    pub(super) fn send(self, answer: Answer, leases: Leases) {
        let Self { id, operation, verifier, outbox, permits } = self;
        if let Some(operation) = operation {
            SERVER_REPLIES_SENT.add_one(operation);
            if answer.is_err() {
                SERVER_REPLIES_FAILED.add_one(operation);
            }
        }
        let name = operation.map_or("", operation_name);
        failpoint::reach(Point::Reply, || name);
        let reply = Reply { id, verifier, leases, result: answer };
        let message = Ok(ServerMessage::Reply(reply).into());
        let _ = outbox.send(Outgoing { message, operation: name, permits });
    }

    /// Answers that it is done.
    pub(super) fn done(self) {
        self.send(Ok(Outcome::Done(())), Leases::empty());
    }

    /// Answers with a refusal of the protocol.
    pub(super) fn refuse(self, refusal: Refusal) {
        self.send(Err(Failure::Protocol(refusal)), Leases::empty());
    }
}

fn operation_name(index: usize) -> &'static str {
    Operation::NAMES.get(index).copied().unwrap_or_default()
}

// === impl Run ===

impl Run {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::Running(SmallVec::new())) }
    }

    /// Lets `responder` have the answer, now or when there is one.
    pub(super) fn join(&self, responder: Responder) {
        let answer = match &mut *self.state.lock() {
            State::Running(waiting) => return waiting.push(responder),
            State::Finished(answer) => answer.clone(),
        };
        // What was granted with it then may have been asked back since.
        responder.send(answer, Leases::empty());
    }

    /// Gives the answer to all who wait, with its leases, and to all who will come. The first answer counts.
    pub(super) fn finish(&self, answer: Answer, leases: Leases) {
        let mut state = self.state.lock();
        let State::Running(waiting) = &mut *state else { return };
        let waiting = std::mem::take(waiting);
        *state = State::Finished(answer.clone());
        drop(state);
        for responder in waiting {
            responder.send(answer.clone(), leases);
        }
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
