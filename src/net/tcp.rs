//! TCP to a peer: which address, how long, and when a connection counts as broken.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::connect::ConnectError;

/// How long the peer's kernel may take to answer the dialling of one address. A machine on a network
/// answers in milliseconds; this is two retransmissions.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long sent bytes may remain without an acknowledgement of the peer's kernel (TCP_USER_TIMEOUT,
/// tcp(7)). It breaks a connection in use to a machine that died within 2 s, also where no data is under
/// way: then the keepalive probe is what remains without an answer. A machine that is only busy
/// acknowledges, so this says nothing about its processes.
const USER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// After how much silence the kernel probes, and how often. The kernel knows whole seconds here.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// Dials the addresses, the best first, until one answers.
///
/// # Errors
/// If any address refused, the host is there: [`ConnectError::Refused`]. Else [`ConnectError::Silent`].
pub async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut failure = ConnectError::Silent("no address of it is known".to_owned());
    for &address in addresses {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream).map_err(|e| {
                    ConnectError::Silent(format!("cannot set up the connection to {address}: {e}"))
                })?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = failure.or(of_error(address, &error)),
            Err(_) => {
                failure = failure.or(ConnectError::Silent(format!(
                    "{address} did not answer within {CONNECT_TIMEOUT:?}"
                )));
            }
        }
    }
    Err(failure)
}

/// What a failed connect(2) says about the host.
fn of_error(address: SocketAddr, error: &io::Error) -> ConnectError {
    let sentence = format!("{address}: {error}");
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            ConnectError::Refused(sentence)
        }
        _ => ConnectError::Silent(sentence),
    }
}

/// No delay of small messages, and a quick end when the peer's machine falls silent.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_AFTER).with_retries(1),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = gone.local_addr().unwrap();
        drop(gone);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = listener.local_addr().unwrap();
        let stream = dial(&[refusing, listening]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listening);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_refusal_tells_that_the_host_is_there() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = gone.local_addr().unwrap();
        drop(gone);
        assert!(matches!(dial(&[refusing]).await, Err(ConnectError::Refused(_))));
        assert!(matches!(dial(&[]).await, Err(ConnectError::Silent(_))));
    }

    #[test]
    fn what_does_not_refuse_is_silent() {
        let address = "192.0.2.1:7230".parse().unwrap();
        for kind in [io::ErrorKind::HostUnreachable, io::ErrorKind::NetworkUnreachable] {
            assert!(matches!(of_error(address, &kind.into()), ConnectError::Silent(_)));
        }
    }
}
