//! gRPC channels to other nodes, for what is said beside files; always over TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use mfs::identity::{any_server, server_name};
use mfs::membership::Member;
use mfs::net::tcp;
use mfs::types::NodeId;
use mfs_proto::v1::cluster_client::ClusterClient;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use super::services::MAX_MESSAGE;
use crate::node::Node;

/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one call may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The other nodes do not know this one any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this node was removed from the cluster: `mfs leave` forgets it, then it can join again")]
pub(crate) struct RemovedHere;

/// What the server's refusal of this node's certificate means.
fn refused(error: io::Error) -> anyhow::Error {
    let alert = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => return error.into(),
    };
    match alert {
        AlertDescription::CertificateRevoked => RemovedHere.into(),
        _ => anyhow::anyhow!("the peer refused this node's certificate (TLS alert {alert:?})"),
    }
}

/// What a peer said, or what went wrong on the way to it, as one sentence.
pub(crate) fn plain(status: Status) -> anyhow::Error {
    let mut causes = vec![status.message().to_owned()];
    let mut next = std::error::Error::source(&status);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    anyhow::anyhow!("{}", causes.join(": "))
}

/// Speaks with a member.
pub(crate) async fn member(node: &Node, member: &Member) -> anyhow::Result<ClusterClient<Channel>> {
    cluster(node, &member.addresses, Some(member.id))
        .await
        .with_context(|| format!("node {} cannot be reached", member.name))
}

/// Speaks with the node at these addresses: the one that is named, or any of the cluster.
pub(crate) async fn cluster(
    node: &Node,
    addresses: &[SocketAddr],
    who: Option<NodeId>,
) -> anyhow::Result<ClusterClient<Channel>> {
    let name = who.map_or_else(any_server, server_name);
    let (channel, _) = channel(node.credentials().client_config(), name, addresses).await?;
    Ok(ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

/// A channel over one TLS connection, and the own address of that connection.
pub(crate) async fn channel(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    addresses: &[SocketAddr],
) -> anyhow::Result<(Channel, SocketAddr)> {
    let stream = tcp::dial(addresses).await?;
    let own = stream.local_addr()?;
    let handshake = TlsConnector::from(config).connect(name, stream);
    let tls = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .context("the peer did not finish the TLS handshake in time")??;
    let mut tls = BufReader::new(tls);
    // A server refuses a certificate only after the client takes the handshake for finished (RFC 8446
    // section 4.4.4): the first bytes, which HTTP/2 servers send unasked, say whether it did.
    tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.fill_buf())
        .await
        .context("the peer said nothing after the TLS handshake")?
        .map_err(refused)?;
    // The channel is for a few calls: when the connection breaks they fail, and the caller dials anew.
    let mut once = Some(TokioIo::new(tls));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.take();
        async move { stream.ok_or_else(|| io::Error::other("the peer ended the connection")) }
    });
    let channel = Endpoint::from_static("http://node.mfs")
        .timeout(CALL_TIMEOUT)
        .connect_with_connector(connector)
        .await?;
    Ok((channel, own))
}
