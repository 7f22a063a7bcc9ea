//! One connection of a session: dialled, greeted, and from then on messages in both directions.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mfs_proto::v1;
use mfs_proto::v1::files_client::FilesClient;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};

use super::reach::Loss;
use super::session::Lane;
use crate::failpoint::{self, Point};
use crate::membership::Member;
use crate::net::connect::HANDSHAKE_TIMEOUT;
use crate::net::{ConnectError, Connector, Fate, IoStream, Observed};
use crate::sync::Mutex;
use crate::telemetry::metrics;
use crate::types::{Epoch, ExportId, Incarnation, Leases, RequestId, SessionId, Verifier};
use crate::wire::{
    ClientMessage, Failure, Hello, MAX_MESSAGE, ProtocolCode, Recall, Refusal, Reply,
    ServerMessage, Versions, Welcome,
};

/// Between pings on a connection, and how long one may remain without an answer. It finds peers whose
/// kernel acknowledges while mfsd stands still.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Why a connection ended at a fail point.
const CUT: &str = "it was cut at a fail point";

/// HTTP/2 settings, as measured for bulk data (design: frames of 1 MiB, windows of 4 and 8 MiB).
const MAX_FRAME: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// What a connection tells.
#[derive(Debug)]
pub(super) enum Told {
    /// It is up.
    Up(Arc<Welcome>),
    /// A reply came.
    Reply(Reply),
    /// The server asks for leases back.
    Recall(Recall),
    /// It is over; nothing follows.
    Down(Loss),
}

/// Tells connections apart: what an old one still says is not listened to.
pub(super) type Generation = u64;

/// Where connections report.
pub(super) type Reports = mpsc::UnboundedSender<(Lane, Generation, Told)>;

/// How this client presents itself.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    pub(super) incarnation: Incarnation,
    pub(super) export: Option<ExportId>,
    pub(super) software: String,
}

/// A connection that is up, or being made. Dropping it cuts it.
#[derive(Debug)]
pub(super) struct OpenLane {
    lane: Lane,
    pub(super) generation: Generation,
    reports: Reports,
    requests: mpsc::UnboundedSender<ClientMessage>,
    task: tokio::task::JoinHandle<()>,
}

// === impl Greeting ===

impl Greeting {
    /// The greeting of a connection, to go on with a session if there is one.
    pub(super) fn hello(
        &self,
        purpose: Lane,
        features: u64,
        session: Option<(SessionId, Epoch)>,
    ) -> Hello {
        Hello {
            versions: Versions::OURS,
            features,
            incarnation: self.incarnation,
            session: session.map(|(session, _)| session),
            last_epoch: session.map(|(_, epoch)| epoch),
            purpose,
            export: self.export,
            software: self.software.clone(),
        }
    }
}

// === impl OpenLane ===

impl OpenLane {
    /// Begins to make a connection; the greeting decides what it is for.
    pub(super) fn begin(
        connector: Arc<dyn Connector>,
        member: Member,
        hello: Hello,
        generation: Generation,
        reports: Reports,
        fate: Fate,
    ) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let lane = hello.purpose;
        let told = reports.clone();
        let task = tokio::spawn(async move {
            let report = |news| drop(told.send((lane, generation, news)));
            let greeting = greet(&*connector, &member, hello, outgoing, fate.clone());
            let loss = match greeting.await {
                Ok((welcome, replies, _channel)) => {
                    let _held = metrics::CLIENT_CONNECTIONS.hold();
                    report(Told::Up(welcome));
                    listen(replies, report, &fate).await
                }
                Err(loss) => loss,
            };
            report(Told::Down(loss));
        });
        Self { lane, generation, reports, requests, task }
    }

    /// Hands a message over to be sent. If the connection is over, its end is reported anyway.
    pub(super) fn send(&self, message: ClientMessage) {
        let operation = match &message {
            ClientMessage::Request(request) => request.operation.name(),
            _ => "",
        };
        if failpoint::cuts(Point::Send, || operation) {
            return self.break_off();
        }
        drop(self.requests.send(message));
        if failpoint::cuts(Point::Sent, || operation) {
            self.break_off();
        }
    }

    /// Cuts the connection, as if it broke.
    fn break_off(&self) {
        self.task.abort();
        let loss = Loss::Ended(CUT.to_owned());
        drop(self.reports.send((self.lane, self.generation, Told::Down(loss))));
    }

    /// Says goodbye and lets the connection end by itself, within `limit`.
    pub(super) async fn finish(mut self, limit: Duration) {
        self.send(ClientMessage::Goodbye);
        let (closed, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.requests, closed));
        drop(tokio::time::timeout(limit, &mut self.task).await);
    }
}

impl Drop for OpenLane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects and greets.
async fn greet(
    connector: &dyn Connector,
    member: &Member,
    hello: Hello,
    outgoing: mpsc::UnboundedReceiver<ClientMessage>,
    fate: Fate,
) -> Result<(Arc<Welcome>, Streaming<v1::Reply>, Channel), Loss> {
    let stream = connector.connect(member, hello.purpose).await?;
    let wanted = member.id;
    let handshake = async {
        let channel = channel_over(Box::new(Observed::new(stream, fate.clone()))).await?;
        let first = tokio_stream::once(ClientMessage::Hello(hello));
        let messages = first.chain(UnboundedReceiverStream::new(outgoing)).map(v1::Request::from);
        let mut client = FilesClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let mut replies =
            client.operate(messages).await.map_err(|status| ended(&fate, &status))?.into_inner();
        let answer = replies.message().await.map_err(|status| ended(&fate, &status))?;
        let answer = answer.ok_or(Loss::Ended("it hung up at the greeting".to_owned()))?;
        match ServerMessage::try_from(answer) {
            Ok(ServerMessage::Welcome(welcome)) if welcome.node == wanted => {
                Ok((Arc::new(*welcome), replies, channel))
            }
            Ok(ServerMessage::Welcome(welcome)) => Err(ConnectError::Untrusted(format!(
                "node {} answers where node {} was expected",
                welcome.node.short(),
                wanted.short()
            ))
            .into()),
            Ok(ServerMessage::Refused(refusal)) => Err(Loss::Refused(refusal)),
            Ok(_) => Err(Loss::Ended("it did not greet".to_owned())),
            Err(malformed) => Err(Loss::Ended(malformed.to_string())),
        }
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Err(Loss::Ended(_))) if fate.is_refusal() => Err(ConnectError::Untrusted(
            "the node broke the connection off because of this node's certificate".to_owned(),
        )
        .into()),
        Ok(Err(Loss::Ended(sentence))) => Err(ConnectError::Unfinished(sentence).into()),
        Ok(other) => other,
        Err(_) => {
            Err(ConnectError::Unfinished(format!("no greeting in {HANDSHAKE_TIMEOUT:?}")).into())
        }
    }
}

/// HTTP/2 over a stream that is up.
async fn channel_over(stream: Box<dyn IoStream>) -> Result<Channel, Loss> {
    // A channel would dial anew when its stream breaks; it gets this one only, since the session must
    // know of each connection.
    let stream = Mutex::new(Some(stream));
    let connect = tower::service_fn(move |_: Uri| {
        let stream = stream.lock().take().map(TokioIo::new);
        async move { stream.ok_or(io::Error::from(io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static("http://node.mfs")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connect)
        .await
        .map_err(|error| Loss::Ended(sentence(&error)))
}

/// Reports replies until the connection is over.
async fn listen(mut replies: Streaming<v1::Reply>, report: impl Fn(Told), fate: &Fate) -> Loss {
    loop {
        let reply = match replies.message().await {
            Ok(Some(reply)) => reply,
            Ok(None) => return Loss::Ended("it hung up".to_owned()),
            Err(status) => return ended(fate, &status),
        };
        if failpoint::cuts(Point::Received, || "") {
            return Loss::Ended(CUT.to_owned());
        }
        let id = RequestId::new(reply.request_id);
        let verifier = Verifier(reply.verifier);
        match (ServerMessage::try_from(reply), id) {
            (Ok(ServerMessage::Reply(reply)), _) => report(Told::Reply(reply)),
            (Ok(ServerMessage::Refused(refusal)), _) => return Loss::Ended(refusal.to_string()),
            (Ok(ServerMessage::Recall(recall)), _) => report(Told::Recall(recall)),
            (Ok(ServerMessage::Welcome(_)), _) => {}
            // Only its own request is concerned, if it says which.
            (Err(malformed), Some(id)) => {
                let refusal = Refusal::new(ProtocolCode::Malformed, malformed.to_string());
                let leases = Leases::empty();
                let result = Err(Failure::Protocol(refusal));
                report(Told::Reply(Reply { id, verifier, leases, result }));
            }
            (Err(malformed), None) => return Loss::Ended(malformed.to_string()),
        }
        // Lets other tasks of the thread run: replies may come faster than they can be taken.
        tokio::task::coop::consume_budget().await;
    }
}

/// Why a stream ended.
fn ended(fate: &Fate, status: &tonic::Status) -> Loss {
    if fate.is_silence() { Loss::Silent } else { Loss::Ended(sentence(status)) }
}

/// An error with its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        sentence.push_str(": ");
        sentence.push_str(&cause.to_string());
        source = cause.source();
    }
    sentence
}
