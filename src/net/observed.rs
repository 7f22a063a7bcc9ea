//! A stream that remembers how it broke.
//!
//! The layers above (TLS, HTTP/2) turn an error of the connection into errors of their own, of which some
//! do not name their cause. Whether the peer's host fell silent or its process ended decides what a
//! waiting caller is told, so it is noted here, at the bottom.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::Mutex;

/// Counts what comes from a peer over all connections to it that share this.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

/// How a connection ended, as far as it is known; shared between the stream and whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    error: Arc<Mutex<Option<io::ErrorKind>>>,
    pulse: Pulse,
}

/// A stream whose errors are noted in a [`Fate`].
#[derive(Debug)]
pub struct Observed<S> {
    stream: S,
    fate: Fate,
}

// === impl Pulse ===

impl Pulse {
    /// Differs from an earlier value if anything came meanwhile.
    pub fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Fate ===

impl Fate {
    /// Of a connection that is up, and that shares a pulse with others to the same peer.
    pub fn new(pulse: Pulse) -> Self {
        Self { error: Arc::default(), pulse }
    }

    /// Whether it broke because the peer's host did not answer any more: TCP gave up on it, or there is
    /// no way to it. False if it was closed, or is up.
    pub fn is_silence(&self) -> bool {
        matches!(
            *self.error.lock(),
            Some(
                io::ErrorKind::TimedOut
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
            )
        )
    }

    /// Whether it broke because TLS was broken off: behind the handshake, that is how a peer refuses a
    /// client's certificate.
    pub fn is_refusal(&self) -> bool {
        *self.error.lock() == Some(io::ErrorKind::InvalidData)
    }

    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = result {
            self.error.lock().get_or_insert(error.kind());
        }
    }
}

// === impl Observed ===

impl<S> Observed<S> {
    /// Watches `stream`.
    pub const fn new(stream: S, fate: Fate) -> Self {
        Self { stream, fate }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.fate.note(&result);
        if buffer.filled().len() > before {
            self.fate.pulse.0.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.fate.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.fate.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.fate.note(&result);
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Fails every read with one kind of error.
    struct Failing(io::ErrorKind);

    impl AsyncRead for Failing {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.0.into()))
        }
    }

    #[tokio::test]
    async fn silence_and_the_end_of_a_process_are_told_apart() {
        for (kind, silence) in [
            (io::ErrorKind::TimedOut, true),
            (io::ErrorKind::HostUnreachable, true),
            (io::ErrorKind::ConnectionReset, false),
            (io::ErrorKind::BrokenPipe, false),
        ] {
            let fate = Fate::default();
            let mut stream = Observed::new(Failing(kind), fate.clone());
            assert!(!fate.is_silence());
            assert!(stream.read_u8().await.is_err());
            assert_eq!(fate.is_silence(), silence, "{kind}");
        }
    }

    #[tokio::test]
    async fn bytes_pass_unchanged() {
        let (near, mut far) = tokio::io::duplex(64);
        let pulse = Pulse::default();
        let fate = Fate::new(pulse.clone());
        let mut near = Observed::new(near, fate.clone());
        near.write_all(b"ping").await.unwrap();
        near.flush().await.unwrap();
        let mut heard = [0; 4];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
        assert_eq!(pulse.beats(), 0, "nothing came yet");
        far.write_all(b"pong").await.unwrap();
        near.read_exact(&mut heard).await.unwrap();
        assert_ne!(pulse.beats(), 0);
        drop(far);
        assert_eq!(near.read(&mut heard).await.unwrap(), 0);
        assert!(!fate.is_silence());
    }
}
