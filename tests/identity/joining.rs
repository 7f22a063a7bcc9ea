//! Joining with good tokens and bad ones, and past a man in the middle.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mfs::identity::{
    Authority, ClusterId, ClusterKeys, Credentials, Digest, Identity, NodeKey, Register, Subject,
    Token, Trust,
};
use mfs::types::{NodeName, NodeNumber};
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::daemon::{Daemon, token_of};

/// What a failed join may leave in the state directory: nothing.
fn left_behind(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.state()).expect("a directory");
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_token_lets_one_machine_in_and_no_second() {
    let (n1, token) = Daemon::found("n1", &[]);
    let (n2, n3) = (Daemon::start("n2"), Daemon::start("n3"));
    n2.run(&["join", &token, &n1.address()]);
    let refused = n3.refused(&["join", &token, &n1.address()]);
    assert!(refused.contains("not valid"), "{refused}");
    assert!(left_behind(&n3).is_empty());
    let nodes = n1.run(&["nodes"]);
    assert!(nodes.contains("n2") && !nodes.contains("n3"), "{nodes}");
}

#[test]
fn wrong_revoked_and_expired_tokens_are_refused_and_leave_nothing() {
    let (mut n1, good) = Daemon::found("n1", &[]);
    let n2 = Daemon::start("n2");
    let own: Token = good.parse().unwrap();
    let wrong = Token::generate(own.authority()).unwrap().to_string();
    let revoked = token_of(&n1.run(&["token", "create"]));
    n1.run(&["token", "revoke", &revoked]);
    for token in [&wrong, &revoked] {
        let refused = n2.refused(&["join", token, &n1.address()]);
        assert!(refused.contains("not valid"), "{refused}");
        assert!(left_behind(&n2).is_empty());
    }
    // Its end is moved into the past where the authority keeps it.
    let expired = token_of(&n1.run(&["token", "create"]));
    n1.restart(|state| {
        let file = state.join("cluster/tokens.json");
        let mut tokens: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for token in tokens["tokens"].as_array_mut().unwrap() {
            token["until"] = 1.into();
        }
        fs::write(&file, tokens.to_string()).unwrap();
    });
    for token in [&expired, &good] {
        let refused = n2.refused(&["join", token, &n1.address()]);
        assert!(refused.contains("not valid"), "{refused}");
    }
    // What failed may be repeated with a token that is good.
    let token = token_of(&n1.run(&["token", "create"]));
    n2.run(&["join", &token, &n1.address()]);
}

#[test]
fn texts_that_are_no_tokens_are_refused() {
    let (n1, token) = Daemon::found("n1", &[]);
    let n2 = Daemon::start("n2");
    let huge = "A".repeat(100_000);
    for wrong in ["x", "MFS1-", "MFS1-A-B", &token[..token.len() - 1], &huge] {
        n2.refused(&["join", wrong, &n1.address()]);
    }
    assert!(left_behind(&n2).is_empty());
}

#[test]
fn a_token_of_another_cluster_sends_no_secret() {
    let (n1, _) = Daemon::found("n1", &[]);
    let (other, token) = Daemon::found("other", &[]);
    let n2 = Daemon::start("n2");
    let refused = n2.refused(&["join", &token, &n1.address()]);
    assert!(refused.contains("nothing was sent"), "{refused}");
    drop(other);
}

/// A server with a certificate, which is not the authority's of the token; answers what it got to read.
async fn impostor(listener: TcpListener, credentials: Credentials) -> Vec<u8> {
    let mut heard = Vec::new();
    let (stream, _) = listener.accept().await.expect("the joiner comes");
    if let Ok(mut tls) = TlsAcceptor::from(credentials.server_config()).accept(stream).await {
        // An error is the joiner hanging up, as it should.
        let _ = tls.read_to_end(&mut heard).await;
    }
    heard
}

/// The credentials of a node of a cluster that this authority founds; the chain ends in `shown`.
fn credentials(authority: &Authority, shown: &CertificateDer<'static>) -> Credentials {
    let now = mfs::clock::unix_seconds();
    let cluster = ClusterId::of_authority(&authority.digest());
    let subject = Subject {
        cluster,
        name: NodeName::parse("impostor").unwrap(),
        number: NodeNumber::new(1).unwrap(),
    };
    let key = NodeKey::generate().unwrap();
    let life = Duration::from_secs(3_600);
    let certificate = authority.issue(&key.request().unwrap(), &subject, now, life).unwrap();
    let register = authority
        .sign(&Register {
            cluster,
            epoch: 1,
            nodes: Default::default(),
            removed: Default::default(),
            gossip: ClusterKeys::generate().unwrap().gossip_digest().unwrap(),
        })
        .unwrap();
    let trust = Trust::new(cluster, vec![authority.certificate().clone()], register).unwrap();
    let chain = vec![certificate, shown.clone()];
    Credentials::new(Identity::new(key, chain, trust, now).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_man_in_the_middle_with_another_authority_learns_no_secret() {
    let (n1, token) = Daemon::found("n1", &[]);
    let n2 = Daemon::start("n2");
    let real = n1.credentials().identity().chain()[1].clone();
    let own = Authority::found(mfs::clock::unix_seconds()).unwrap();
    // Once with its own authority in the chain, once with the real one, whose certificate is public.
    for shown in [own.certificate().clone(), real] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let heard = tokio::spawn(impostor(listener, credentials(&own, &shown)));
        let refused = n2.refused(&["join", &token, &address.to_string()]);
        assert!(refused.contains("nothing was sent"), "{refused}");
        assert_eq!(heard.await.unwrap(), b"", "not a byte of the conversation");
        assert!(left_behind(&n2).is_empty());
    }
    // The token was not touched.
    n2.run(&["join", &token, &n1.address()]);
}

#[test]
fn an_unreachable_host_is_named_with_what_to_check() {
    let (n1, token) = Daemon::found("n1", &[]);
    let n2 = Daemon::start("n2");
    drop(n1);
    for host in ["127.0.0.1:9", "127.0.0.1"] {
        let refused = n2.refused(&["join", &token, host]);
        assert!(refused.contains("127.0.0.1") && refused.contains("firewall"), "{refused}");
    }
    let refused = n2.refused(&["join", &token, "no-such-host.invalid"]);
    assert!(refused.contains("no-such-host.invalid"), "{refused}");
    assert!(left_behind(&n2).is_empty());
}

#[test]
fn a_taken_name_is_refused_with_one_that_works_and_a_taken_number_moves() {
    let (n1, token) = Daemon::found("n1", &["--uses", "3", "--number", "7"]);
    let n2 = Daemon::start("n1");
    let refused = n2.refused(&["join", &token, &n1.address()]);
    assert!(refused.contains("--name n1-2"), "{refused}");
    for (bad, better) in [("here", "here1"), ("12", "n12"), ("a/b", "a-b"), ("UP", "up")] {
        let refused = n2.refused(&["join", "--name", bad, &token, &n1.address()]);
        assert!(refused.contains(&format!("--name {better}")), "{refused}");
    }
    n2.run(&["join", "--name", "n1-2", "--number", "7", &token, &n1.address()]);
    let nodes: serde_json::Value = serde_json::from_str(&n2.run(&["nodes", "--json"])).unwrap();
    let text = nodes.to_string();
    assert!(text.contains("\"n1-2\"") && text.contains("\"number\":8"), "{text}");
}

/// `ssh` is a script here that runs what it is given on this machine, for the daemon n1.
#[test]
fn a_token_is_fetched_over_ssh_and_used_up() {
    let (n1, _) = Daemon::found("n1", &[]);
    let n2 = Daemon::start("n2");
    let place = tempfile::tempdir().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2\" = \"-- root@n1\" ] || exit 9\nset -- $3\nshift\n\
         exec {} \"$@\" --runtime {}\n",
        mfs_tests::binary("mfs").display(),
        n1.runtime().display()
    );
    let ssh = place.path().join("ssh");
    // By another process: a descriptor of this one would be copied to every process that another test starts
    // meanwhile, and what is open for writing cannot be run.
    let mut writer = std::process::Command::new("sh");
    writer.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(&ssh).arg(script);
    assert!(writer.status().unwrap().success());
    let path = format!("{}:/usr/bin:/bin", place.path().display());
    let join = |destination: &str| {
        let mut command = n2.command(&["join", "--ssh", destination]);
        command.env("PATH", &path).output().unwrap()
    };
    let refused = join("root@elsewhere");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("root@elsewhere"), "{said}");
    let joined = join("root@n1");
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    assert!(n1.run(&["nodes"]).contains("n2"));
    // The first token of the founding is left; the one over ssh had one use.
    let tokens = n1.run(&["token", "list", "--json"]);
    assert_eq!(tokens.matches("\"uses\"").count(), 1, "{tokens}");
}

#[test]
fn founding_twice_says_so() {
    let (n1, _) = Daemon::found("n1", &[]);
    let refused = n1.refused(&["init"]);
    assert!(refused.contains("of a cluster already"), "{refused}");
    let token = token_of(&n1.run(&["token", "create"]));
    assert!(n1.refused(&["join", &token, &n1.address()]).contains("of a cluster already"));
}

#[test]
fn a_port_that_is_taken_leaves_no_cluster() {
    let n1 = Daemon::start("n1");
    let _taken = std::net::TcpListener::bind(n1.address()).unwrap();
    let refused = n1.refused(&["init"]);
    assert!(refused.contains("ss -ltnp"), "{refused}");
    assert!(left_behind(&n1).is_empty());
}

#[test]
fn the_digest_in_a_token_is_that_of_the_authoritys_key() {
    let (n1, token) = Daemon::found("n1", &[]);
    let token: Token = token.parse().unwrap();
    let credentials = n1.credentials();
    let authority: Digest = credentials.identity().trust().authority().unwrap();
    assert_eq!(token.authority(), authority);
    let _: Arc<_> = mfs::identity::joiner_config(authority).unwrap();
}
