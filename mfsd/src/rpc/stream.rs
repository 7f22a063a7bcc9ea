//! One stream: the greeting, then requests side by side, within the limits of its peer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mfs::telemetry::metrics as m;
use mfs::types::op::{Operation, ReadDir};
use mfs::types::{RequestId, Verifier};
use mfs::wire::{
    ClientMessage, MAX_IO, ProtocolCode, Purpose, Refusal, Request, ServerMessage, Undecodable,
    features,
};
use mfs_proto::v1;
use tokio::sync::Semaphore;
use tonic::{Status, Streaming};

use super::files::FilesService;
use super::ledger;
use super::run::{Outbox, Outgoing, Permits, Responder};
use super::session::{Session, Share};
use super::session_table::Attachment;
use super::tree::Tree;
use crate::peer::Peer;

/// Bytes that one entry of a listing with attributes takes, roughly: 40 of a name, 60 of a file id, 100
/// of attributes, and the structures around them.
const LISTED_ENTRY: usize = 512;

/// Largest value, or list of names, of extended attributes.
const XATTR: usize = 64 << 10;

/// Requests of no more than so many units wait for no room.
const SMALL: usize = 2;

/// One stream of a peer.
pub(super) struct Conversation<T: Tree> {
    service: Arc<FilesService<T>>,
    peer: Peer,
    outbox: Outbox,
    /// One permit for each request that is not answered yet.
    in_flight: Arc<Semaphore>,
}

/// What comes of a message.
enum Next {
    Go,
    Stop,
}

// === impl Conversation ===

impl<T: Tree> Conversation<T> {
    pub(super) fn new(service: Arc<FilesService<T>>, peer: Peer, outbox: Outbox) -> Self {
        let in_flight = Arc::new(Semaphore::new(service.limits().in_flight));
        Self { service, peer, outbox, in_flight }
    }

    /// Holds the conversation to its end.
    pub(super) async fn hold(self, mut inbound: Streaming<v1::Request>) {
        match self.open(&mut inbound).await {
            Ok(attachment) => self.serve(&attachment, &mut inbound).await,
            Err(Some(refusal)) => self.refuse_stream(refusal),
            Err(None) => {}
        }
    }

    /// Takes the greeting and answers it. `None`: the peer is gone.
    async fn open(
        &self,
        inbound: &mut Streaming<v1::Request>,
    ) -> Result<Attachment<T>, Option<Refusal>> {
        let limit = self.service.limits().greeting;
        let first = tokio::select! {
            () = self.service.stop.cancelled() => return Err(Some(stopping())),
            first = tokio::time::timeout(limit, inbound.message()) => first,
        };
        let first = first.map_err(|_elapsed| {
            let message = format!("no greeting came within {} s", limit.as_secs());
            Some(Refusal::new(ProtocolCode::Malformed, message))
        })?;
        let Ok(Some(first)) = first else { return Err(None) };
        let hello = match ClientMessage::try_from(first) {
            Ok(ClientMessage::Hello(hello)) => hello,
            Ok(_) => return Err(Some(out_of_place("the first message of a stream is `hello`"))),
            Err(error) => return Err(Some(error.into())),
        };
        let control = hello.purpose == Purpose::Control;
        let (attachment, welcome) = self.service.greet(&self.peer, hello).await.map_err(Some)?;
        let remembers = control && welcome.features & features::LEASES != 0;
        let takes_parts = welcome.features & features::LISTING_PARTS != 0;
        let sees_lengths = welcome.features & features::LENGTHS != 0;
        let keeps_handles = welcome.features & features::HANDLES != 0;
        let settles = welcome.features & features::SETTLES != 0;
        self.send(ServerMessage::Welcome(Box::new(welcome)));
        if control {
            let client = ledger::name_of(&attachment.session.owner);
            self.service.dispatch.coherence.greeted(client);
            if !settles {
                self.service.dispatch.settling.settled(client);
            }
        }
        if remembers {
            let (session, outbox) = (&attachment.session, &self.outbox);
            session.takes_parts.store(takes_parts, Ordering::Release);
            session.sees_lengths.store(sees_lengths, Ordering::Release);
            session.keeps_handles.store(keeps_handles, Ordering::Release);
            self.service.remember(session, &self.peer, outbox).await.map_err(Some)?;
        }
        Ok(attachment)
    }

    async fn serve(&self, attachment: &Attachment<T>, inbound: &mut Streaming<v1::Request>) {
        let over = async {
            tokio::select! {
                () = attachment.session.ended.cancelled() => {}
                () = self.service.stop.cancelled() => {}
                () = self.outbox.closed() => {}
            }
        };
        tokio::pin!(over);
        loop {
            let message = async {
                // First the place for it: nothing is read that could not be kept.
                let count = Arc::clone(&self.in_flight).acquire_owned().await.ok();
                (Permits { _count: count, bytes: None }, inbound.message().await)
            };
            let (permits, message) = tokio::select! {
                () = &mut over => return,
                message = message => message,
            };
            let next = match message {
                Ok(Some(message)) => {
                    tokio::select! {
                        () = &mut over => return,
                        next = self.take(&attachment.session, permits, message) => next,
                    }
                }
                // The client has no more to say; what it asked for is still answered.
                Ok(None) => Next::Stop,
                Err(status) => {
                    tracing::debug!(peer = %self.peer.node.short(), "a stream broke: {status}");
                    Next::Stop
                }
            };
            if matches!(next, Next::Stop) {
                return;
            }
        }
    }

    /// Takes one message after the greeting.
    async fn take(
        &self,
        session: &Arc<Session<T>>,
        permits: Permits,
        message: v1::Request,
    ) -> Next {
        let id = RequestId::new(message.request_id);
        let coherence = &self.service.dispatch.coherence;
        if session.remembers.load(Ordering::Acquire) {
            coherence.heard(session.id);
        }
        match ClientMessage::try_from(message) {
            Ok(ClientMessage::Request(request)) => self.begin(session, permits, request).await,
            Ok(ClientMessage::Renew(id)) => {
                self.responder(id, None, permits).done();
                Next::Go
            }
            Ok(ClientMessage::Cancel(id)) => {
                self.service.dispatch.cancel(session, id);
                Next::Go
            }
            Ok(ClientMessage::Return(lease)) if lease.files.is_empty() => {
                self.service.dispatch.settling.settled(ledger::name_of(&session.owner));
                Next::Go
            }
            Ok(ClientMessage::Return(lease)) => {
                self.service.dispatch.returned(session.id, lease);
                Next::Go
            }
            Ok(ClientMessage::Goodbye) => {
                for session in self.service.sessions.end(session.id) {
                    self.service.farewell(&session);
                    self.service.dispatch.close(&session);
                }
                Next::Stop
            }
            Ok(ClientMessage::Hello(_)) => {
                self.refuse_stream(out_of_place("a stream is greeted once"));
                Next::Stop
            }
            Err(error) => self.refuse(id, permits, error),
        }
    }

    async fn begin(
        &self,
        session: &Arc<Session<T>>,
        mut permits: Permits,
        request: Request,
    ) -> Next {
        m::SERVER_REQUESTS_RECEIVED.count(&request.operation);
        let limit = self.service.limits().in_flight_bytes;
        let units = cost(&request).min(limit).div_ceil(Share::UNIT);
        // Small ones are bounded by their number, and pass: behind them, what others wait for may come back.
        if units > SMALL {
            let bytes = Arc::clone(&session.share.bytes);
            permits.bytes =
                bytes.acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await.ok();
        }
        let responder = self.responder(request.id, Some(&request.operation), permits);
        let trust_root = self.service.trusts_root(&self.peer);
        self.service.dispatch.begin(session, trust_root, request, responder);
        Next::Go
    }

    /// Refuses what could not be taken: the request if it can be named, else the stream.
    fn refuse(&self, id: Option<RequestId>, permits: Permits, error: Undecodable) -> Next {
        match id {
            Some(id) => {
                self.responder(id, None, permits).refuse(error.into());
                Next::Go
            }
            None => {
                self.refuse_stream(error.into());
                Next::Stop
            }
        }
    }

    fn responder(
        &self,
        id: RequestId,
        operation: Option<&Operation>,
        permits: Permits,
    ) -> Responder {
        let verifier: Verifier = self.service.dispatch.verifier;
        let operation = operation.map(Operation::index);
        Responder { id, operation, verifier, outbox: self.outbox.clone(), permits }
    }

    fn refuse_stream(&self, refusal: Refusal) {
        tracing::info!(peer = %self.peer.node.short(), "a stream was refused: {refusal}");
        self.send(ServerMessage::Refused(refusal));
    }

    fn send(&self, message: ServerMessage) {
        let message: Result<v1::Reply, Status> = Ok(message.into());
        // The peer may be gone; the next read says so.
        let _ = self.outbox.send(Outgoing { message, operation: "", permits: Permits::default() });
    }
}

/// Bytes that a request holds until its answer has left: what it brings, and what it asks for.
fn cost(request: &Request) -> usize {
    let groups = request.caller.groups.len() * size_of::<u32>();
    let data = match &request.operation {
        Operation::Read(read) => read.size.min(MAX_IO) as usize,
        Operation::Write(write) => write.data.len(),
        Operation::ReadDir(list) => list.limit.min(ReadDir::MAX_ENTRIES) as usize * LISTED_ENTRY,
        Operation::SetXattr(_) | Operation::GetXattr(_) | Operation::ListXattr(_) => XATTR,
        _ => 0,
    };
    Share::UNIT + groups + data
}

fn out_of_place(message: &str) -> Refusal {
    Refusal::new(ProtocolCode::Malformed, message)
}

fn stopping() -> Refusal {
    Refusal::new(ProtocolCode::Stopping, "mfsd of this node is stopping: connect again later")
}
