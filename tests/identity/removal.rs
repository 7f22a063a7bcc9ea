//! A node that was removed is out at once, everywhere, with what it still has.

use mfs::identity::server_name;
use mfs_proto::v1;
use mfs_proto::v1::cluster_client::ClusterClient;
use tokio::io::AsyncReadExt;

use super::daemon::{Daemon, token_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_loses_its_connections_and_gets_no_new_ones() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    let n3 = Daemon::join("n3", &n1);
    let stolen = n3.credentials();
    let mut before = Vec::new();
    for node in [&n1, &n2] {
        let channel = node.channel(stolen.client_config()).await.unwrap();
        let mut client = ClusterClient::new(channel);
        client.users(v1::UsersRequest {}).await.unwrap();
        before.push(client);
    }
    n1.run(&["node", "remove", "n3"]);
    for mut client in before {
        client.users(v1::UsersRequest {}).await.expect_err("the connection lives on");
    }
    for node in [&n1, &n2] {
        let name = server_name(node.node());
        // The client's side of the handshake ends before the server has looked at its certificate.
        let mut tls = node.tls(stolen.client_config(), name).await.expect("its own half is done");
        let end = tls.read(&mut [0; 1]).await.expect_err("it was let in");
        assert!(end.to_string().contains("CertificateRevoked"), "{end}");
    }
    assert!(!n2.run(&["nodes"]).contains("n3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_connects_to_a_removed_node() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    let n3 = Daemon::join("n3", &n1);
    n1.run(&["node", "remove", "n3"]);
    let error = n3.tls(n2.credentials().client_config(), server_name(n3.node())).await;
    assert!(error.unwrap_err().to_string().contains("Revoked"));
}

#[test]
fn only_the_authority_removes_and_what_is_wrong_is_said() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    assert!(n2.refused(&["node", "remove", "n1"]).contains("authority"));
    assert!(n2.refused(&["token", "create"]).contains("authority"));
    assert!(n1.refused(&["node", "remove", "nobody"]).contains("mfs nodes"));
    assert!(n1.refused(&["node", "remove", "n1"]).contains("mfs leave"));
    assert!(n1.refused(&["leave"]).contains("--force"));
}

#[test]
fn a_node_that_left_may_join_again_and_is_another_node() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    let before = n2.node();
    n2.run(&["leave"]);
    assert!(!n1.run(&["nodes"]).contains("n2"));
    assert!(n2.refused(&["nodes"]).contains("in no cluster"));
    let token = token_of(&n1.run(&["token", "create"]));
    n2.run(&["join", &token, &n1.address()]);
    assert_ne!(n2.node(), before);
}

#[test]
fn a_removed_node_need_not_tell_the_cluster_that_it_leaves() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    n1.run(&["node", "remove", "n2"]);
    n2.run(&["leave"]);
    let token = token_of(&n1.run(&["token", "create"]));
    n2.run(&["join", &token, &n1.address()]);
    assert!(n1.run(&["nodes"]).contains("n2"));
}

#[test]
fn the_gossip_key_of_a_removed_node_is_used_no_more() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::join("n2", &n1);
    let n3 = Daemon::join("n3", &n1);
    let sealing = |daemon: &Daemon| {
        let keys = std::fs::read_to_string(daemon.state().join("cluster/keys.json")).unwrap();
        let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
        keys["gossip"][0]["key"].as_str().unwrap().to_owned()
    };
    let before = sealing(&n3);
    assert_eq!(sealing(&n1), before);
    n1.run(&["node", "remove", "n3"]);
    assert_ne!(sealing(&n1), before);
    assert_eq!(sealing(&n2), sealing(&n1));
}
