//! The transport without TLS: only where it is asked for, and joining is safe even then.

use hyper_util::rt::TokioIo;
use mfs::net::plaintext::write_preface;
use mfs::types::NodeId;
use mfs_proto::v1;
use mfs_proto::v1::cluster_client::ClusterClient;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::transport::{Endpoint, Uri};

use super::daemon::{Daemon, token_of};

/// Asks for users over a connection that only says who it is.
async fn ask(daemon: &Daemon, me: NodeId) -> Result<(), String> {
    let mut stream = TcpStream::connect(daemon.address()).await.map_err(|e| e.to_string())?;
    write_preface(&mut stream, me).await.map_err(|e| e.to_string())?;
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.take();
        async move { stream.ok_or_else(|| std::io::Error::other("ended")) }
    });
    let endpoint = Endpoint::from_static("http://node.mfs");
    let channel = endpoint.connect_with_connector(connector).await.map_err(|e| e.to_string())?;
    let asked = ClusterClient::new(channel).users(v1::UsersRequest {}).await;
    asked.map(drop).map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_only_where_the_configuration_says_so() {
    let (strict, _) = Daemon::found("n1", &[]);
    let plain = Daemon::start_with("n2", "transport = \"plaintext\"");
    let token = token_of(&strict.run(&["token", "create"]));
    plain.run(&["join", &token, &strict.address()]);
    assert!(ask(&plain, strict.node()).await.is_ok());
    ask(&strict, plain.node()).await.expect_err("n1 wants certificates");
    // Garbage instead of the preface gets nothing.
    let mut stream = TcpStream::connect(plain.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[b'M'; 64]).await.unwrap();
    assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_refused_without_tls_too_and_joining_uses_tls() {
    let n1 = Daemon::start_with("n1", "transport = \"plaintext\"");
    let token = token_of(&n1.run(&["init"]));
    let n2 = Daemon::start_with("n2", "transport = \"plaintext\"");
    n2.run(&["join", &token, &n1.address()]);
    let gone = n2.node();
    assert!(ask(&n1, gone).await.is_ok());
    n1.run(&["node", "remove", "n2"]);
    ask(&n1, gone).await.expect_err("it was removed");
}

#[test]
fn plaintext_beyond_loopback_and_a_named_interface_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("mfsd.toml");
    std::fs::write(&file, "transport = \"plaintext\"\n").unwrap();
    let mut mfsd = std::process::Command::new(mfs_tests::binary("mfsd"));
    let checked = mfsd.arg("--check").arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && said.contains("mfsd.toml:1: "), "{said}");
}
