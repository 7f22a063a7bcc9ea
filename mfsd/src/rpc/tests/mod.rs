//! The service over real streams, with a tree in memory behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mfs::types::op::{
    Create, LockFamily, LockKind, LockRange, Lookup, Open, Operation, Outcome, Read, Release,
    SetLock, Taking, Write,
};
use mfs::types::{
    Access, Caller, Epoch, Errno, FileId, FileName, Incarnation, LockOwner, NodeId, NodeName,
    NodeNumber, OpenFlags, OpenId, RequestId, Sequence, SessionId, Slot,
};
use mfs::wire::{
    ClientMessage, Failure, Hello, ProtocolCode, Purpose, Refusal, Reply, Request, ServerMessage,
    Versions, Welcome, features,
};
use mfs_proto::v1;
use mfs_proto::v1::files_client::FilesClient;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Endpoint, Server, Uri};

use super::fake::{FakeTree, PANICS, PATIENCE, SLOW};
use super::{FilesService, FilesSettings, Instance, Limits};
use crate::peer::{Origin, Peer};

mod handles;
mod leases;
mod write_back;

/// A running service and the way to dial it.
struct Daemon {
    tree: FakeTree,
    service: Arc<FilesService<FakeTree>>,
    dials: mpsc::UnboundedSender<std::io::Result<DuplexStream>>,
}

/// One stream of a client.
struct Client {
    outbound: mpsc::UnboundedSender<v1::Request>,
    inbound: tonic::Streaming<v1::Reply>,
    epoch: Epoch,
    next: u64,
}

const FILE: &[u8] = b"file";

// === impl Daemon ===

impl Daemon {
    fn start(lease_term: Duration, limits: Limits) -> Self {
        Self::start_on(FakeTree::default(), lease_term, limits, None)
    }

    /// Serves a tree; says who may hold leases in a file.
    fn start_on(
        tree: FakeTree,
        lease_term: Duration,
        limits: Limits,
        ledger: Option<PathBuf>,
    ) -> Self {
        let settings = FilesSettings {
            node: NodeId::from_digest([1; 32]),
            name: NodeName::parse("n1").expect("a name"),
            number: NodeNumber::new(1).expect("not 0"),
            root: "/".into(),
            instance: Instance::begin().expect("/proc"),
            lease_term,
            limits,
            intents: ledger.as_ref().map(|ledger| ledger.with_file_name("intents")),
            writers: ledger.as_ref().map(|ledger| ledger.with_file_name("writers")),
            ledger,
        };
        let service = FilesService::new(settings, tree.clone(), Box::new(|_| false));
        tokio::spawn(Arc::clone(&service).run());
        let (dials, incoming) = mpsc::unbounded_channel();
        let files = InterceptedService::new(service.server(), |mut request: tonic::Request<()>| {
            let node = NodeId::from_digest([9; 32]);
            request.extensions_mut().insert(Peer { node, origin: Origin::Remote, connection: 1 });
            Ok(request)
        });
        let server = Server::builder().add_service(files);
        tokio::spawn(server.serve_with_incoming(UnboundedReceiverStream::new(incoming)));
        Self { tree, service, dials }
    }

    /// A stream that is not greeted yet.
    async fn dial(&self) -> Client {
        let dials = self.dials.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let dialled = dials.send(Ok(theirs)).map_err(std::io::Error::other);
            async move { dialled.map(|()| hyper_util::rt::TokioIo::new(ours)) }
        });
        let endpoint = Endpoint::from_static("http://node");
        let channel = endpoint.connect_with_connector(connector).await.expect("connected");
        let mut client = FilesClient::new(channel);
        let (outbound, requests) = mpsc::unbounded_channel();
        let stream = client.operate(UnboundedReceiverStream::new(requests)).await;
        let inbound = stream.expect("a stream").into_inner();
        Client { outbound, inbound, epoch: Epoch::FIRST, next: 1 }
    }

    async fn greeted(&self, session: Option<SessionId>) -> (Client, Welcome) {
        self.greeted_with(hello(session)).await
    }

    async fn greeted_with(&self, hello: Hello) -> (Client, Welcome) {
        let mut client = self.dial().await;
        client.send(ClientMessage::Hello(hello));
        match client.receive().await {
            Some(ServerMessage::Welcome(welcome)) => {
                client.epoch = welcome.epoch;
                (client, *welcome)
            }
            other => panic!("not welcome: {other:?}"),
        }
    }
}

fn hello(session: Option<SessionId>) -> Hello {
    Hello {
        versions: Versions::OURS,
        features: 0,
        incarnation: Incarnation::FIRST,
        session,
        last_epoch: None,
        purpose: Purpose::Control,
        export: None,
        software: "test 1".to_owned(),
    }
}

// === impl Client ===

impl Client {
    fn send(&self, message: ClientMessage) {
        self.outbound.send(message.into()).expect("the stream stands");
    }

    async fn receive(&mut self) -> Option<ServerMessage> {
        let next = tokio::time::timeout(PATIENCE, self.inbound.message()).await;
        let message = next.expect("no message came").expect("the stream broke")?;
        Some(ServerMessage::try_from(message).expect("well formed"))
    }

    async fn reply(&mut self) -> Reply {
        match self.receive().await {
            Some(ServerMessage::Reply(reply)) => reply,
            other => panic!("not a reply: {other:?}"),
        }
    }

    /// Sends an operation; once-only ones use slot 0 and the request's id as sequence.
    fn ask(&mut self, operation: impl Into<Operation>) -> Request {
        let operation = operation.into();
        let id = RequestId::new(self.next).expect("not 0");
        self.next += 1;
        let sequence = Sequence::new(id.get()).expect("not 0");
        let request = Request {
            id,
            once: operation.is_once_only().then_some((Slot(0), sequence)),
            first: None,
            epoch: self.epoch,
            caller: Caller::root(),
            deadline: None,
            operation,
        };
        self.send(ClientMessage::Request(request.clone()));
        request
    }

    async fn call(&mut self, operation: impl Into<Operation>) -> Result<Outcome, Failure> {
        let request = self.ask(operation);
        let reply = self.reply().await;
        assert_eq!(reply.id, request.id);
        reply.result
    }
}

// === operations ===

fn id(number: u64) -> OpenId {
    OpenId::new(number).expect("not 0")
}

fn file(name: &'static [u8]) -> FileId {
    FileId::from_bytes(Bytes::from_static(name)).expect("an id")
}

fn create(name: &'static [u8], open: u64) -> Create {
    Create {
        parent: file(b"/"),
        name: FileName::parse(name).expect("a name"),
        open: id(open),
        mode: 0o644,
        access: Access::ReadWrite,
        flags: OpenFlags::empty(),
    }
}

fn open(name: &'static [u8], open: u64) -> Open {
    let (access, flags) = (Access::Read, OpenFlags::empty());
    Open { file: file(name), open: id(open), access, flags, proof: None }
}

fn write(open: u64, data: &'static [u8]) -> Write {
    Write { open: id(open), offset: 0, data: Bytes::from_static(data), pages: false, known: None }
}

fn lookup(name: &'static [u8]) -> Lookup {
    Lookup { parent: file(b"/"), name: FileName::parse(name).expect("a name"), keep: false }
}

fn lock(open: u64, owner: u64, kind: LockKind, wait: bool) -> SetLock {
    SetLock {
        open: id(open),
        owner: LockOwner(owner),
        family: LockFamily::Range,
        kind,
        range: LockRange::ALL,
        wait,
        taking: Taking::default(),
    }
}

fn refused(result: Result<Outcome, Failure>) -> Refusal {
    match result {
        Err(Failure::Protocol(refusal)) => refusal,
        other => panic!("not refused by the protocol: {other:?}"),
    }
}

const TERM: Duration = Duration::from_secs(10);

fn daemon() -> Daemon {
    Daemon::start(TERM, Limits::default())
}

// === tests ===

#[tokio::test]
async fn files_are_made_written_and_found() {
    let daemon = daemon();
    let (mut client, welcome) = daemon.greeted(None).await;
    assert!(!welcome.resumed);
    assert!(matches!(client.call(create(FILE, 1)).await, Ok(Outcome::Opened(_))));
    assert!(matches!(client.call(write(1, b"abc")).await, Ok(Outcome::Written(_))));
    assert!(matches!(client.call(lookup(FILE)).await, Ok(Outcome::Entry(_))));
    assert_eq!(client.call(lookup(b"none")).await, Err(Failure::File(Errno::NoEnt)));
    assert_eq!(client.call(Release { open: id(1) }).await, Ok(Outcome::Done(())));
    assert_eq!(refused(client.call(write(1, b"x")).await).code, ProtocolCode::UnknownOpen);
    assert_eq!(daemon.tree.contents(FILE), Some(b"abc".to_vec()));
}

#[tokio::test]
async fn a_repeated_write_is_answered_and_not_executed_again() {
    let daemon = daemon();
    let (mut client, welcome) = daemon.greeted(None).await;
    client.call(create(FILE, 1)).await.unwrap();
    let request = client.ask(write(1, b"abc"));
    let first = client.reply().await;
    // The stream breaks; the client could not know that the reply had come.
    drop(client);
    let (mut client, again) = daemon.greeted(Some(welcome.session)).await;
    assert!(again.resumed);
    client.send(ClientMessage::Request(request));
    assert_eq!(client.reply().await, first);
    assert_eq!(daemon.tree.contents(FILE), Some(b"abc".to_vec()));
}

#[tokio::test]
async fn what_was_begun_is_finished_when_the_stream_breaks() {
    let daemon = daemon();
    let (mut client, welcome) = daemon.greeted(None).await;
    let request = client.ask(create(SLOW, 1));
    while daemon.tree.executed() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    let (mut client, _) = daemon.greeted(Some(welcome.session)).await;
    // It comes again while the first still runs.
    client.send(ClientMessage::Request(request));
    client.send(ClientMessage::Renew(RequestId::new(99).expect("not 0")));
    assert_eq!(client.reply().await.id.get(), 99);
    daemon.tree.let_slow_ones_go();
    assert!(matches!(client.reply().await.result, Ok(Outcome::Opened(_))));
    assert_eq!(daemon.tree.executed(), 1);
    client.next = 100;
    assert!(client.call(write(1, b"abc")).await.is_ok(), "the file is open");
}

#[tokio::test]
async fn an_open_that_comes_again_is_one_open() {
    let daemon = daemon();
    let (mut client, _) = daemon.greeted(None).await;
    client.call(create(FILE, 1)).await.unwrap();
    let first = client.call(open(FILE, 2)).await;
    assert!(matches!(&first, Ok(Outcome::Opened(opened)) if opened.proof.is_some()));
    let executed = daemon.tree.executed();
    assert_eq!(client.call(open(FILE, 2)).await, first);
    assert_eq!(daemon.tree.executed(), executed, "the file was not opened again");
    assert_eq!(client.call(open(b"none", 3)).await, Err(Failure::File(Errno::NoEnt)));
    assert!(matches!(client.call(open(FILE, 3)).await, Ok(Outcome::Opened(_))));
    let in_use = refused(client.call(create(FILE, 3)).await);
    assert_eq!(in_use.code, ProtocolCode::Malformed);
}

#[tokio::test]
async fn a_panic_fails_its_request_alone() {
    let daemon = daemon();
    let (mut client, _) = daemon.greeted(None).await;
    assert_eq!(client.call(lookup(PANICS)).await, Err(Failure::File(Errno::Io)));
    assert_eq!(client.call(lookup(FILE)).await, Err(Failure::File(Errno::NoEnt)));
}

#[tokio::test]
async fn a_slow_request_delays_no_other() {
    let daemon = daemon();
    let (mut client, _) = daemon.greeted(None).await;
    let slow = client.ask(lookup(SLOW));
    assert_eq!(client.call(lookup(FILE)).await, Err(Failure::File(Errno::NoEnt)));
    daemon.tree.let_slow_ones_go();
    assert_eq!(client.reply().await.id, slow.id);
}

#[tokio::test]
async fn a_lock_is_waited_for_and_granted() {
    let daemon = daemon();
    let (mut client, _) = daemon.greeted(None).await;
    client.call(create(FILE, 1)).await.unwrap();
    client.call(lock(1, 1, LockKind::Exclusive, false)).await.unwrap();
    assert_eq!(
        client.call(lock(1, 2, LockKind::Exclusive, false)).await,
        Err(Failure::File(Errno::Again))
    );
    let waits = client.ask(lock(1, 2, LockKind::Exclusive, true));
    client.call(lock(1, 1, LockKind::Unlock, false)).await.unwrap();
    let granted = client.reply().await;
    assert_eq!((granted.id, granted.result), (waits.id, Ok(Outcome::Done(()))));
    // A process of the node releases its lock without telling.
    client.call(lock(1, 2, LockKind::Unlock, false)).await.unwrap();
    daemon.tree.lock_locally(FILE, true);
    client.ask(lock(1, 3, LockKind::Exclusive, true));
    daemon.tree.lock_locally(FILE, false);
    assert_eq!(client.reply().await.result, Ok(Outcome::Done(())));
}

#[tokio::test]
async fn a_wait_for_a_lock_ends_when_it_is_given_up_or_over() {
    let daemon = daemon();
    let (mut client, _) = daemon.greeted(None).await;
    client.call(create(FILE, 1)).await.unwrap();
    daemon.tree.lock_locally(FILE, true);
    let waits = client.ask(lock(1, 1, LockKind::Exclusive, true));
    client.send(ClientMessage::Cancel(waits.id));
    assert_eq!(client.reply().await.result, Err(Failure::File(Errno::Intr)));
    let mut request = client.ask(lock(1, 1, LockKind::Exclusive, false));
    assert_eq!(client.reply().await.result, Err(Failure::File(Errno::Again)));
    request.once = Some((Slot(1), Sequence::FIRST));
    request.operation = lock(1, 1, LockKind::Exclusive, true).into();
    request.deadline = Some(Duration::from_millis(100));
    client.send(ClientMessage::Request(request));
    assert_eq!(client.reply().await.result, Err(Failure::File(Errno::Again)));
}

#[tokio::test]
async fn a_session_that_ends_frees_what_it_held() {
    let daemon = Daemon::start(Duration::from_millis(1), Limits::default());
    let (mut client, first) = daemon.greeted(None).await;
    client.call(create(FILE, 1)).await.unwrap();
    drop(client);
    // With a lease term of next to nothing the session goes at the next tick.
    loop {
        let (mut client, welcome) = daemon.greeted(Some(first.session)).await;
        if !welcome.resumed {
            assert_ne!(welcome.session, first.session);
            let unknown = refused(client.call(write(1, b"x")).await);
            assert_eq!(unknown.code, ProtocolCode::UnknownOpen);
            client.send(ClientMessage::Goodbye);
            assert_eq!(client.receive().await, None, "a goodbye ends the stream");
            return;
        }
    }
}

#[tokio::test]
async fn an_old_epoch_is_refused() {
    let daemon = daemon();
    let (mut client, welcome) = daemon.greeted(None).await;
    client.epoch = welcome.epoch.next();
    assert_eq!(refused(client.call(lookup(FILE)).await).code, ProtocolCode::StaleEpoch);
    assert_eq!(daemon.tree.executed(), 0);
}

#[tokio::test]
async fn versions_that_do_not_overlap_are_refused_by_a_sentence_that_names_both() {
    let daemon = daemon();
    let mut client = daemon.dial().await;
    let versions = Versions { min: 7, max: 9 };
    client.send(ClientMessage::Hello(Hello { versions, ..hello(None) }));
    let Some(ServerMessage::Refused(refusal)) = client.receive().await else {
        panic!("not refused")
    };
    assert_eq!(refusal.code, ProtocolCode::UnsupportedVersion);
    for part in ["7 to 9", "test 1", "mfsd", "1:"] {
        assert!(refusal.message.contains(part), "{part:?} in {:?}", refusal.message);
    }
    assert_eq!(client.receive().await, None);
}

#[tokio::test]
async fn versions_that_overlap_speak_the_highest_common_one() {
    let daemon = daemon();
    let mut client = daemon.dial().await;
    let versions = Versions { min: 1, max: 9 };
    client.send(ClientMessage::Hello(Hello { versions, features: u64::MAX, ..hello(None) }));
    let Some(ServerMessage::Welcome(welcome)) = client.receive().await else {
        panic!("not welcome")
    };
    assert_eq!((welcome.version, welcome.features), (1, features::REMEMBERING));
}

#[tokio::test]
async fn a_stream_begins_with_a_greeting() {
    let daemon = daemon();
    let mut client = daemon.dial().await;
    client.ask(lookup(FILE));
    let Some(ServerMessage::Refused(refusal)) = client.receive().await else {
        panic!("not refused")
    };
    assert_eq!(refusal.code, ProtocolCode::Malformed);
    assert_eq!(client.receive().await, None);
    assert_eq!(daemon.tree.executed(), 0);
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_the_stream_goes_on() {
    let daemon = daemon();
    let (mut client, _) = daemon.greeted(None).await;
    let request = client.ask(lookup(FILE));
    client.reply().await;
    let mut raw = v1::Request::from(ClientMessage::Request(request));
    raw.caller = None;
    client.outbound.send(raw.clone()).unwrap();
    let refusal = refused(client.reply().await.result);
    assert_eq!(refusal.code, ProtocolCode::Malformed);
    assert!(refusal.message.contains("request.caller"), "{refusal}");
    raw.body = None;
    client.outbound.send(raw).unwrap();
    assert_eq!(refused(client.reply().await.result).code, ProtocolCode::UnknownOperation);
    assert!(client.call(lookup(FILE)).await.is_err(), "the stream stands");
}

#[tokio::test]
async fn open_files_of_a_peer_are_counted() {
    let daemon = Daemon::start(TERM, Limits { opens: 2, ..Limits::default() });
    let (mut client, _) = daemon.greeted(None).await;
    client.call(create(FILE, 1)).await.unwrap();
    client.call(open(FILE, 2)).await.unwrap();
    assert_eq!(client.call(open(FILE, 3)).await, Err(Failure::File(Errno::NFile)));
    client.call(Release { open: id(1) }).await.unwrap();
    assert!(client.call(open(FILE, 3)).await.is_ok());
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_not_read_from() {
    let limits = Limits { in_flight: 4, ..Limits::default() };
    let daemon = Daemon::start(TERM, limits);
    let (mut client, _) = daemon.greeted(None).await;
    client.call(create(FILE, 1)).await.unwrap();
    let before = daemon.tree.executed();
    const ASKED: usize = 200;
    for _ in 0..ASKED {
        client.ask(Read { open: id(1), offset: 0, size: 1 << 20, pages: false });
    }
    // Another stream is served meanwhile, and takes its time, so that the first could run ahead.
    let (mut other, _) = daemon.greeted(None).await;
    for _ in 0..100 {
        let _ = other.call(lookup(FILE)).await;
    }
    let executed = daemon.tree.executed() - before - 100;
    assert!(executed < ASKED / 2, "{executed} answers of 1 MiB are kept for who does not read");
    for _ in 0..ASKED {
        assert!(client.reply().await.result.is_ok());
    }
}

#[tokio::test]
async fn a_peer_with_slow_requests_leaves_threads_to_others() {
    let daemon = Daemon::start(TERM, Limits { running: 2, ..Limits::default() });
    let (mut client, _) = daemon.greeted(None).await;
    let slow: Vec<_> = (0..5).map(|_| client.ask(lookup(SLOW)).id).collect();
    client.ask(lookup(FILE));
    while daemon.tree.executed() < 2 {
        tokio::task::yield_now().await;
    }
    // What is behind is not begun; what needs no thread is answered.
    client.send(ClientMessage::Renew(RequestId::new(99).expect("not 0")));
    assert_eq!(client.reply().await.id.get(), 99);
    assert_eq!(daemon.tree.executed(), 2);
    daemon.tree.let_slow_ones_go();
    let mut answered = Vec::new();
    for _ in 0..=slow.len() {
        answered.push(client.reply().await.id);
    }
    assert!(slow.iter().all(|id| answered.contains(id)));
}

/// Requests of a peer that is authenticated and hostile: each is answered or ends its stream, and no
/// other stream notices.
#[tokio::test]
async fn hostile_requests_harm_nobody() {
    use proptest::arbitrary::any;
    use proptest::collection::vec;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    use prost::Message;

    let daemon = daemon();
    let (mut honest, _) = daemon.greeted(None).await;
    honest.call(create(FILE, 1)).await.unwrap();
    let patterns = [
        ClientMessage::Hello(hello(None)),
        ClientMessage::Goodbye,
        ClientMessage::Cancel(RequestId::FIRST),
        ClientMessage::Request(honest.ask(lookup(FILE))),
        ClientMessage::Request(honest.ask(write(1, b"x"))),
        ClientMessage::Request(honest.ask(lock(1, 1, LockKind::Exclusive, true))),
    ];
    for _ in 0..3 {
        assert!(honest.reply().await.result.is_ok());
    }
    let mut runner = TestRunner::deterministic();
    let damage = vec((any::<usize>(), any::<u8>()), 0..5);
    for round in 0..300 {
        let (mut client, _) = daemon.greeted(None).await;
        let mut bytes = v1::Request::from(patterns[round % patterns.len()].clone()).encode_to_vec();
        for (place, byte) in damage.new_tree(&mut runner).expect("a value").current() {
            let place = place % bytes.len().max(1);
            if let Some(there) = bytes.get_mut(place) {
                *there = byte;
            }
        }
        if let Ok(request) = v1::Request::decode(&bytes[..]) {
            let _ = client.outbound.send(request);
            let _ = client.outbound.send(ClientMessage::Renew(RequestId::FIRST).into());
            while let Some(ServerMessage::Reply(reply)) = client.receive().await {
                if reply.id == RequestId::FIRST {
                    break;
                }
            }
        }
        assert!(honest.call(lookup(FILE)).await.is_ok());
    }
}

#[tokio::test]
async fn a_stopping_daemon_finishes_what_was_begun() {
    let daemon = daemon();
    let (mut client, _) = daemon.greeted(None).await;
    client.ask(create(SLOW, 1));
    while daemon.tree.executed() == 0 {
        tokio::task::yield_now().await;
    }
    daemon.service.stop();
    daemon.tree.let_slow_ones_go();
    assert!(client.reply().await.result.is_ok());
    assert_eq!(client.receive().await, None);
    let mut late = daemon.dial().await; // refused before it has greeted
    let Some(ServerMessage::Refused(refusal)) = late.receive().await else { panic!("not refused") };
    assert_eq!(refusal.code, ProtocolCode::Stopping);
}
