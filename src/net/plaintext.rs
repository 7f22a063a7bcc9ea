//! The preface of a connection without TLS: the connecting node says who it is, and is believed.
//!
//! Only for the transport `plaintext`, whose network is all that protects the nodes (docs/SECURITY.md).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::types::NodeId;

/// What tells a preface from a TLS handshake, which begins with 0x16.
pub const FIRST_BYTE: [u8; 1] = *b"M";

/// The whole mark, with the version of the preface.
const MARK: [u8; 4] = *b"MFS\x01";

/// Says who this node is; the first thing on the connection.
pub async fn write_preface(stream: &mut (impl AsyncWrite + Unpin), me: NodeId) -> io::Result<()> {
    let mut preface = [0; 36];
    preface[..4].copy_from_slice(&MARK);
    preface[4..].copy_from_slice(me.as_bytes());
    stream.write_all(&preface).await
}

/// Reads who the peer says it is.
pub async fn read_preface(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<NodeId> {
    let mut preface = [0; 36];
    stream.read_exact(&mut preface).await?;
    let (mark, id) = preface.split_at(4);
    let mut digest = [0; 32];
    digest.copy_from_slice(id);
    if mark != MARK {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not the preface of mfs"));
    }
    Ok(NodeId::from_digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_preface_is_read_as_written() {
        let me = NodeId::from_digest([7; 32]);
        let mut bytes = Vec::new();
        write_preface(&mut bytes, me).await.unwrap();
        assert_eq!(bytes[..1], FIRST_BYTE);
        assert_eq!(read_preface(&mut bytes.as_slice()).await.unwrap(), me);
        bytes[1] = b'X';
        assert!(read_preface(&mut bytes.as_slice()).await.is_err());
        assert!(read_preface(&mut &bytes[..10]).await.is_err());
    }
}
