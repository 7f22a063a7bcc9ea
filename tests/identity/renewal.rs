//! A certificate is renewed without a restart, and nothing that is open breaks.

use mfs::identity::server_name;
use mfs_proto::v1;
use mfs_proto::v1::cluster_client::ClusterClient;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::daemon::Daemon;

/// Serial number of the certificate that the daemon shows now.
async fn serial(daemon: &Daemon, by: &Daemon) -> Vec<u8> {
    let config = by.credentials().client_config();
    let tls = daemon.tls(config, server_name(daemon.node())).await.unwrap();
    let shown = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    X509Certificate::from_der(&shown).unwrap().1.raw_serial().to_vec()
}

/// Renews as the administrator does; answers the end of the new certificate.
fn renew(daemon: &Daemon) -> i64 {
    let said = daemon.run(&["node", "renew"]);
    assert!(said.starts_with("The certificate is renewed; it is valid for "), "{said}");
    let said: serde_json::Value =
        serde_json::from_str(&daemon.run(&["node", "renew", "--json"])).unwrap();
    said["until"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_without_a_restart() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    for (renewed, other) in [(&n2, &n1), (&n1, &n2)] {
        let (pid, node, before) = (renewed.pid(), renewed.node(), serial(renewed, other).await);
        let channel = renewed.channel(other.credentials().client_config()).await.unwrap();
        let mut open = ClusterClient::new(channel);
        open.users(v1::UsersRequest {}).await.unwrap();
        let until = renew(renewed);
        assert_ne!(serial(renewed, other).await, before, "new connections see the new one");
        open.users(v1::UsersRequest {}).await.expect("what is open goes on");
        assert_eq!((renewed.pid(), renewed.node()), (pid, node));
        assert_eq!(renewed.credentials().identity().certificate().not_after, until);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_renews_only_its_own_certificate() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    let channel = n1.channel(n2.credentials().client_config()).await.unwrap();
    let mut cluster = ClusterClient::new(channel);
    let other = mfs::identity::NodeKey::generate().unwrap();
    for request in [other.request().unwrap(), n1.credentials().identity().key().request().unwrap()]
    {
        let refused = cluster.renew(v1::RenewRequest { request: request.into() }).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
    }
}

#[test]
fn a_membership_survives_a_restart() {
    let (mut n1, _) = Daemon::found("n1", &[]);
    let node = n1.node();
    n1.restart(|_| {});
    assert_eq!(n1.node(), node);
    assert!(n1.run(&["nodes"]).contains("n1"));
}
