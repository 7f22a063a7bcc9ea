//! A daemon of its own for one test: founded, served from a directory, and ended with the test.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mfs_proto::v1;
use mfs_proto::v1::files_client::FilesClient;
use mfs_proto::v1::local_client::LocalClient;
use mfs_tests::binary;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// The longest that anything here may take; only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running mfsd; killed when dropped.
pub(crate) struct Daemon {
    process: Child,
    place: TempDir,
}

/// One stream to the file service.
pub(crate) struct Conversation {
    pub(crate) outbound: mpsc::UnboundedSender<v1::Request>,
    inbound: Streaming<v1::Reply>,
    epoch: u64,
    next: u64,
}

// === impl Daemon ===

impl Daemon {
    /// Starts mfsd and founds a cluster of one.
    pub(crate) async fn found() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let tree = place.path().join("tree");
        fs::create_dir(&tree).expect("a directory");
        let address = mfs_tests::loopback();
        let config = format!(
            "name = \"interop\"\nlisten = [\"{address}\"]\naddresses = [\"{}\"]\nbeacon = false\n\
             [export]\npath = {:?}\n",
            address.ip(),
            tree.to_str().expect("UTF-8")
        );
        fs::write(place.path().join("mfsd.toml"), config).expect("written");
        let log = fs::File::create(place.path().join("log")).expect("a file");
        let process = Command::new(binary("mfsd"))
            .arg("--config")
            .arg(place.path().join("mfsd.toml"))
            .arg("--state")
            .arg(place.path().join("state"))
            .arg("--runtime")
            .arg(place.path().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mfsd starts");
        let daemon = Self { process, place };
        let channel = daemon.channel().await;
        let request = v1::InitRequest { token_uses: 1, token_seconds: 60, ..Default::default() };
        let founded = LocalClient::new(channel).init(request).await;
        founded.unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
        daemon
    }

    /// The directory that is served.
    pub(crate) fn tree(&self) -> PathBuf {
        self.place.path().join("tree")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// A connection to the local socket, as soon as there is one.
    async fn channel(&self) -> Channel {
        let socket = self.place.path().join("run/mfsd.sock");
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
        let endpoint = endpoint.expect("an address");
        let connected = tokio::time::timeout(PATIENCE, async {
            loop {
                match endpoint.connect().await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        connected.await.unwrap_or_else(|_| panic!("mfsd does not answer:\n{}", self.log()))
    }

    /// A stream to the file service that is not greeted yet.
    pub(crate) async fn stream(&self) -> Conversation {
        let (outbound, requests) = mpsc::unbounded_channel();
        let mut client = FilesClient::new(self.channel().await)
            .max_decoding_message_size(2 << 20)
            .max_encoding_message_size(2 << 20);
        let stream = client.operate(UnboundedReceiverStream::new(requests)).await;
        let inbound = stream.unwrap_or_else(|e| panic!("{e}\n{}", self.log())).into_inner();
        Conversation { outbound, inbound, epoch: 0, next: 1 }
    }

    /// A stream with a session of its own.
    pub(crate) async fn greeted(&self) -> (Conversation, v1::Welcome) {
        let mut stream = self.stream().await;
        stream.send(v1::Request {
            body: Some(v1::request::Body::Hello(hello())),
            ..Default::default()
        });
        let reply = stream.receive().await.expect("an answer");
        let Some(v1::reply::Body::Welcome(welcome)) = reply.body else {
            panic!("not welcome: {reply:?}")
        };
        stream.epoch = welcome.epoch;
        (stream, welcome)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The greeting of a client that begins.
pub(crate) fn hello() -> v1::Hello {
    v1::Hello {
        min_version: 1,
        max_version: 1,
        incarnation: 1,
        purpose: v1::Purpose::Control as i32,
        software: "a plain client".to_owned(),
        ..Default::default()
    }
}

// === impl Conversation ===

impl Conversation {
    pub(crate) fn send(&self, request: v1::Request) {
        self.outbound.send(request).expect("the stream stands");
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn receive(&mut self) -> Option<v1::Reply> {
        let next = tokio::time::timeout(PATIENCE, self.inbound.message()).await;
        next.expect("no answer").expect("the stream broke")
    }

    /// Asks for an operation as root; `once` gives it the next place in slot 0.
    pub(crate) async fn call(&mut self, body: v1::request::Body, once: bool) -> v1::reply::Body {
        let request_id = self.next;
        self.next += 1;
        self.send(v1::Request {
            request_id,
            sequence: if once { request_id } else { 0 },
            epoch: self.epoch,
            caller: Some(v1::Caller { capabilities: 0x7ff, umask: 0o22, ..Default::default() }),
            body: Some(body),
            ..Default::default()
        });
        let reply = self.receive().await.expect("an answer");
        assert_eq!(reply.request_id, request_id);
        reply.body.expect("an answer")
    }
}
