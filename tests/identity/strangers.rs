//! Clients without a certificate, with one of another cluster, and with another's name.

use mfs::identity::{any_server, joiner_config, server_name};
use mfs_proto::v1;
use mfs_proto::v1::cluster_client::ClusterClient;
use mfs_proto::v1::enrol_client::EnrolClient;
use mfs_proto::v1::files_client::FilesClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::daemon::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_one_can_only_ask_to_join() {
    let (n1, _) = Daemon::found("n1", &[]);
    let authority = n1.credentials().identity().trust().authority().unwrap();
    let channel = n1.channel(joiner_config(authority).unwrap()).await.unwrap();
    let greeting = EnrolClient::new(channel.clone()).greet(v1::GreetRequest::default()).await;
    assert!(greeting.unwrap().into_inner().admits);
    let mut cluster = ClusterClient::new(channel.clone());
    let refusals = [
        cluster.exchange(v1::ExchangeRequest::default()).await.map(drop),
        cluster.users(v1::UsersRequest {}).await.map(drop),
        cluster.stats(v1::StatsRequest {}).await.map(drop),
        cluster.update(v1::UpdateRequest::default()).await.map(drop),
        cluster.renew(v1::RenewRequest::default()).await.map(drop),
        cluster.depart(v1::DepartRequest {}).await.map(drop),
        FilesClient::new(channel).operate(tokio_stream::empty()).await.map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().code(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_cluster_is_refused() {
    let (n1, _) = Daemon::found("n1", &[]);
    let (foreign, _) = Daemon::found("foreign", &[]);
    // The client takes any server, as a hostile one does; the server looks at the client.
    let credentials = foreign.credentials();
    let own = n1.credentials();
    let config = hostile(&credentials, own.client_config());
    let mut tls = n1.tls(config, server_name(n1.node())).await.expect("the client believes all");
    let end = tls.read(&mut [0; 1]).await;
    assert!(end.is_err() || matches!(end, Ok(0)), "{end:?}");
    let figure = n1.run(&["stats", "--json"]);
    assert!(figure.contains("mfs_server_connections_refused_total"), "{figure}");
}

/// The other cluster's certificate, behind a verifier that believes n1.
fn hostile(
    credentials: &mfs::identity::Credentials,
    believing: std::sync::Arc<rustls::ClientConfig>,
) -> std::sync::Arc<rustls::ClientConfig> {
    let identity = credentials.identity();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = (*believing).clone();
    config.client_auth_cert_resolver = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(identity.chain().to_vec(), identity.key().to_private_der())
        .unwrap()
        .client_auth_cert_resolver;
    std::sync::Arc::new(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_not_taken_for_another() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    let config = n2.credentials().client_config();
    assert!(n1.tls(config.clone(), server_name(n1.node())).await.is_ok());
    assert!(n1.tls(config.clone(), any_server()).await.is_ok());
    let error = n1.tls(config, server_name(n2.node())).await.unwrap_err();
    assert!(error.to_string().contains("was expected"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_tls_and_no_tls_are_refused() {
    let (n1, _) = Daemon::found("n1", &[]);
    // A ClientHello of TLS 1.2 without the extension that offers 1.3.
    let mut hello = vec![0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2f, 0, 0xff, 1, 0]);
    for bytes in [hello, b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"MFS\x01".to_vec()] {
        let mut stream = TcpStream::connect(n1.address()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut heard = Vec::new();
        // An alert, or nothing; and then the end.
        let _ = stream.read_to_end(&mut heard).await;
        assert!(heard.is_empty() || heard[0] == 0x15, "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_attempts_from_one_address_are_slowed_down() {
    let (n1, _) = Daemon::found("n1", &[]);
    let authority = n1.credentials().identity().trust().authority().unwrap();
    let channel = n1.channel(joiner_config(authority).unwrap()).await.unwrap();
    let mut enrol = EnrolClient::new(channel);
    let key = mfs::identity::NodeKey::generate().unwrap();
    let mut codes = Vec::new();
    for guess in 0..30_u8 {
        let request = v1::JoinRequest {
            secret: vec![guess; 16].into(),
            request: key.request().unwrap().into(),
            name: "guess".to_owned(),
            ..Default::default()
        };
        codes.push(enrol.join(request).await.unwrap_err().code());
    }
    assert_eq!(codes[0], Code::PermissionDenied);
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
}
