//! Accepts connections from the network: TLS handshake with a deadline, or, with the transport
//! `plaintext`, the preface in which a peer says who it is.
//!
//! The certificate is taken anew for each handshake, so that a renewal needs no restart. Joining is
//! always done over TLS.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use mfs::clock;
use mfs::config::{Config, Transport};
use mfs::identity::Credentials;
use mfs::net::plaintext;
use mfs::sync::Mutex;
use mfs::telemetry::metrics;
use rustls::pki_types::UnixTime;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;
use tracing::{debug, info, warn};

use crate::connections::{Admission, Connections};
use crate::peer::{self, Connection, Origin, Peer};

/// A peer that has not said who it is by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Most handshakes at a time.
const MAX_HANDSHAKES: usize = 256;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1_024;

/// What a handshake needs.
#[derive(Clone)]
pub(crate) struct Door {
    /// Who this node is, now.
    pub(crate) credentials: watch::Receiver<Arc<Credentials>>,
    /// Whether a peer may come without TLS.
    pub(crate) transport: Transport,
    /// Where those that got in are entered.
    pub(crate) connections: Arc<Connections>,
}

/// A connection whose peer is known, or known to be a stranger.
pub(crate) struct PeerStream {
    stream: Stream,
    connection: Connection,
    _admission: Admission,
}

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// The refusals that were told to the administrator: each reason once for each address.
#[derive(Debug, Default)]
struct Refusals {
    told: Mutex<HashSet<(IpAddr, String)>>,
}

/// Most refusals that are remembered; beyond it none is told twice or anew.
const MAX_REFUSALS: usize = 1_024;

/// Binds the port on each address, on one interface only if one is named.
pub(crate) fn bind(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    config.listen.iter().map(|address| bind_one(*address, config)).collect()
}

fn bind_one(address: SocketAddr, config: &Config) -> anyhow::Result<TcpListener> {
    let interface = config.interface.as_deref();
    let bound = match bind_socket(address, interface) {
        // A machine without IPv6 still has an "everywhere".
        Err(e) if address.ip().is_unspecified() && is_no_ipv6(&e) => {
            bind_socket((Ipv4Addr::UNSPECIFIED, address.port()).into(), interface)
        }
        bound => bound,
    };
    bound.map_err(|error| {
        let why = why_not(address, interface, &error);
        let place = config.place_of(if is_no_interface(&error) { "interface" } else { "listen" });
        anyhow::anyhow!("{place}: cannot listen on {address} (TCP): {why}")
    })
}

/// Why an address is not to be had, and what to do.
fn why_not(address: SocketAddr, interface: Option<&str>, error: &io::Error) -> String {
    let (ip, port) = (address.ip(), address.port());
    match error.raw_os_error() {
        _ if is_no_interface(error) => format!(
            "there is no network interface {:?} now: `ip link` shows those that there are",
            interface.unwrap_or_default()
        ),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => {
            format!("this machine has no address {ip} now: `ip address` shows those that it has")
        }
        _ => format!(
            "{error}: `ss -ltnp sport = :{port}` shows who does; `listen` says where to listen instead"
        ),
    }
}

fn is_no_interface(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_socket(address: SocketAddr, interface: Option<&str>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // [::] is to take IPv4 too, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(interface.map(str::as_bytes))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop`; the connections come out of the stream that is returned, as tonic takes them.
pub(crate) fn accept(
    listeners: Vec<TcpListener>,
    door: &Door,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> ReceiverStream<io::Result<PeerStream>> {
    let (sender, receiver) = mpsc::channel(16);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let refusals = Arc::new(Refusals::default());
    for listener in listeners {
        let (door, sender, stop) = (door.clone(), sender.clone(), stop.clone());
        let (handshakes, handshake_tasks) = (handshakes.clone(), tasks.clone());
        let refusals = refusals.clone();
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (stream, remote) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors: wait until some are free, or this loop spins.
                        warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let Ok(permit) = handshakes.clone().try_acquire_owned() else {
                    metrics::SERVER_CONNECTIONS_REFUSED.add_one();
                    debug!(%remote, "too many handshakes at a time: connection dropped");
                    continue;
                };
                let number = peer::number_connection();
                let (door, sender) = (door.clone(), sender.clone());
                let (stop, refusals) = (stop.clone(), refusals.clone());
                handshake_tasks.spawn(async move {
                    let met = tokio::select! {
                        () = stop.cancelled() => return,
                        met = tokio::time::timeout(HANDSHAKE_TIMEOUT, door.meet(stream, remote, number)) => met,
                    };
                    drop(permit);
                    match met {
                        // The server has stopped taking connections when this fails.
                        Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                        Ok(Err(error)) => refusals.tell(remote.ip().to_canonical(), &error),
                        Err(_) => {
                            metrics::SERVER_CONNECTIONS_REFUSED.add_one();
                            debug!(%remote, "no handshake within {HANDSHAKE_TIMEOUT:?}");
                        }
                    }
                });
            }
        });
    }
    ReceiverStream::new(receiver)
}

// === impl Refusals ===

impl Refusals {
    fn tell(&self, from: IpAddr, error: &anyhow::Error) {
        metrics::SERVER_CONNECTIONS_REFUSED.add_one();
        let why = format!("{error:#}");
        let mut told = self.told.lock();
        if told.len() < MAX_REFUSALS && told.insert((from, why.clone())) {
            info!("connections from {from} are refused: {why}");
        } else {
            debug!("connection from {from} refused: {why}");
        }
    }
}

// === impl Door ===

impl Door {
    /// Finds out who the peer is.
    async fn meet(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        number: u64,
    ) -> anyhow::Result<PeerStream> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            anyhow::bail!("the peer hung up before the handshake");
        }
        if self.transport == Transport::Plaintext && first == plaintext::FIRST_BYTE {
            return self.meet_plain(stream, remote, number).await;
        }
        let credentials = self.credentials.borrow().clone();
        let tls = TlsAcceptor::from(credentials.server_config()).accept(stream).await?;
        let now = clock::time_of_day().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        // Looked at again with the trust of now, for a removal during the handshake.
        let credentials = self.credentials.borrow().clone();
        let peer = credentials.peer_of(tls.get_ref().1.peer_certificates(), now)?;
        let node = peer.map(|certificate| certificate.node);
        let admission = self.connections.admit(node, tls.get_ref().0)?;
        let peer = node.map(|node| Peer { node, origin: Origin::Remote, connection: number });
        let connection = Connection { peer, remote };
        Ok(PeerStream { stream: Stream::Tls(Box::new(tls)), connection, _admission: admission })
    }

    /// Believes what the peer says of itself, as `transport = "plaintext"` means. Nodes that were
    /// removed are still refused.
    async fn meet_plain(
        &self,
        mut stream: TcpStream,
        remote: SocketAddr,
        number: u64,
    ) -> anyhow::Result<PeerStream> {
        let node = plaintext::read_preface(&mut stream).await?;
        if self.credentials.borrow().identity().trust().is_removed(node) {
            anyhow::bail!("node {} was removed from the cluster", node.short());
        }
        let admission = self.connections.admit(Some(node), &stream)?;
        let peer = Some(Peer { node, origin: Origin::Remote, connection: number });
        let connection = Connection { peer, remote };
        Ok(PeerStream { stream: Stream::Plain(stream), connection, _admission: admission })
    }
}

// === impl PeerStream ===

impl Connected for PeerStream {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Plain(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
