//! Joins a cluster: `mfs join`.
//!
//! The order matters: the port is taken first, then the authority's certificate is compared with the
//! token, then the secret is sent. Nothing but the key that asks is written before the answer is proven good,
//! and what is written is undone when the node cannot start. The key is kept while it is not known what became
//! of the request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mfs::clock;
use mfs::config::paths;
use mfs::failpoint::{self, Point};
use mfs::identity::{
    ClusterId, ClusterKeys, ClusterSettings, Enrolment, Identity, JoiningKey, NodeKey, Secret,
    Token, TokenError, Trust, any_server, joiner_config,
};
use mfs::membership::Member;
use mfs::net::discovery;
use mfs::wire::cluster as wire;
use mfs_proto::v1;
use mfs_proto::v1::enrol_client::EnrolClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::warn;

use super::authority::internal;
use super::found::{Wishes, enrolled_already};
use super::services::{MAX_MESSAGE, accounts, malformed, unix_millis};
use super::{dial, removal};
use crate::daemon::Daemon;

/// How often the request is sent when the answer is lost; the key, and so the node, is the same.
const TRIES: u32 = 3;

/// How long a node that announces itself is listened for.
const LISTEN_FOR: Duration = Duration::from_secs(5);

/// Clocks that differ by more are told to the person, milliseconds.
const CLOCKS_DIFFER: i64 = 1_000;

/// A node of the token's cluster, reached and proven.
struct Admitter {
    enrol: EnrolClient<Channel>,
    greeting: v1::GreetReply,
    /// This machine's own address on the connection.
    own: SocketAddr,
    /// Where it is, for errors.
    at: String,
    /// How far its clock is ahead, milliseconds.
    ahead: i64,
}

/// Joins the cluster of the token.
pub(crate) async fn join(
    daemon: &Arc<Daemon>,
    request: v1::JoinClusterRequest,
) -> Result<v1::JoinClusterReply, Status> {
    let changing = daemon.change().await;
    if let Some(refusal) = enrolled_already(daemon) {
        return Err(refusal);
    }
    let token: Token =
        request.token.parse().map_err(|e: TokenError| Status::invalid_argument(e.to_string()))?;
    let mut wishes = Wishes::new(daemon, &request.name, request.number, &request.addresses)?;
    let listeners = daemon.bind().map_err(|e| Status::failed_precondition(format!("{e:#}")))?;
    let mut admitter = find(&token, &request.host, &daemon.config.seeds).await?;
    if request.addresses.is_empty() && daemon.config.addresses.is_empty() {
        prefer(&mut wishes.addresses, admitter.own);
    }
    let asked = v1::JoinRequest {
        secret: token.secret().to_vec().into(),
        name: wishes.name.to_string(),
        number: wishes.number.map_or(0, |number| number.get().into()),
        addresses: wire::address_texts(&wishes.addresses),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        accounts: Some((&accounts()).into()),
        ..Default::default()
    };
    let (joining, mut reply) = ask_with_key(daemon, &token, &mut admitter, asked).await?;
    failpoint::reach(Point::Admitted, || "");
    let mut warnings = std::mem::take(&mut reply.warnings);
    let members = std::mem::take(&mut reply.members).into_iter().map(Member::try_from);
    let members = members.collect::<Result<_, _>>().map_err(malformed)?;
    warnings.extend(admitter.clock_warning());
    let enrolment = prove(&token, joining.key().clone(), reply).map_err(|e| {
        Status::aborted(format!("the answer of {} is not good: {e:#}", admitter.at))
    })?;
    let trust_root = enrolment.settings.trust_root;
    let identity = enrolment.identity.clone();
    let nodes = identity.trust().register().nodes.len();
    daemon.store.enrol(&enrolment, None).map_err(internal)?;
    joining.forget().map_err(internal)?;
    if let Err(error) = daemon.start_node(enrolment.clone(), listeners, members).await {
        // The undo of the admission, then of the enrolment.
        if let Err(error) = removal::take_back(&enrolment).await {
            warn!("the cluster could not be told that joining failed: {error:#}");
        }
        daemon.forget_node(&changing).await.map_err(internal)?;
        return Err(Status::failed_precondition(format!("{error:#}")));
    }
    Ok(v1::JoinClusterReply {
        name: identity.name().to_string(),
        number: identity.number().get().into(),
        nodes: u32::try_from(nodes).unwrap_or(u32::MAX),
        trust_root: daemon.config.trust_root.unwrap_or(trust_root),
        warnings,
    })
}

// === impl Admitter ===

impl Admitter {
    fn clock_warning(&self) -> Option<String> {
        let apart = self.ahead.abs();
        (apart > CLOCKS_DIFFER).then(|| {
            format!(
                "the clock of this machine and that of {} differ by {} s: make(1) and backups may go \
                 wrong; let both follow a time server",
                self.at,
                apart / 1_000
            )
        })
    }
}

/// The address that reaches the cluster is the one to be found at, if it is one of this machine's.
fn prefer(addresses: &mut [SocketAddr], own: SocketAddr) {
    let ip = own.ip().to_canonical();
    if let Some(place) = addresses.iter().position(|address| address.ip() == ip) {
        addresses[..=place].rotate_right(1);
    }
}

/// Finds a node that can admit: the one that is named, or a seed of the configuration, or heard on the LAN, or
/// the one that it names.
async fn find(token: &Token, host: &str, seeds: &[String]) -> Result<Admitter, Status> {
    let first = if host.is_empty() {
        match greet_seed(token, seeds).await {
            Some(Ok(seed)) => seed,
            Some(Err(why)) => greet_heard(token).await.map_err(|error| {
                let seeds =
                    format!("{}. Nor did the seeds help: {}", error.message(), why.message());
                Status::new(error.code(), seeds)
            })?,
            None => greet_heard(token).await?,
        }
    } else {
        greet(token, &resolve(host).await?, host.to_owned()).await?
    };
    if first.greeting.admits {
        return Ok(first);
    }
    let others = wire::addresses("GreetReply.authorities", &first.greeting.authorities)
        .map_err(malformed)?;
    let named = others.first().map_or_else(String::new, ToString::to_string);
    let second = greet(token, &others, named).await?;
    if !second.greeting.admits {
        return Err(Status::failed_precondition(
            "the node that was reached does not hold the authority's key: give the host of the node \
             where the token was made",
        ));
    }
    Ok(second)
}

/// The first seed that answers; or what is wrong with the last one.
async fn greet_seed(token: &Token, seeds: &[String]) -> Option<Result<Admitter, Status>> {
    let mut found = None;
    for seed in seeds {
        let greeted = match resolve(seed).await {
            Ok(addresses) => greet(token, &addresses, seed.clone()).await,
            Err(error) => Err(error),
        };
        let answers = greeted.is_ok();
        found = Some(greeted);
        if answers {
            break;
        }
    }
    found
}

/// A node of the token's cluster that announces itself.
async fn greet_heard(token: &Token) -> Result<Admitter, Status> {
    let addresses = listen_for(token).await?;
    greet(token, &addresses, "the node that was heard on the network".to_owned()).await
}

/// The addresses of a node of the token's cluster that announces itself on the LAN.
async fn listen_for(token: &Token) -> Result<Vec<SocketAddr>, Status> {
    let authority = *token.authority().as_bytes();
    let heard = tokio::task::spawn_blocking(move || discovery::discover(LISTEN_FOR, authority));
    let heard = heard.await.map_err(internal)?.map_err(internal)?;
    if heard.is_empty() {
        return Err(Status::not_found(
            "no node of that cluster is heard on this network: give its host, as in `mfs join TOKEN \
             HOST`",
        ));
    }
    Ok(heard)
}

/// The addresses of `host` or `host:port`.
async fn resolve(host: &str) -> Result<Vec<SocketAddr>, Status> {
    let bare: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let with_port = match bare {
        Some(ip) => SocketAddr::from((ip, paths::PORT)).to_string(),
        None if host.contains(':') => host.to_owned(),
        None => format!("{host}:{}", paths::PORT),
    };
    let not_found = |why: String| {
        Status::not_found(format!(
            "{host:?}: its address cannot be found ({why}): check the name, or give the address itself"
        ))
    };
    let found = tokio::net::lookup_host(&with_port).await.map_err(|e| not_found(e.to_string()))?;
    let found: Vec<_> = found.collect();
    if found.is_empty() { Err(not_found("it has none".to_owned())) } else { Ok(found) }
}

/// Connects, which proves that the peer belongs to the token's cluster, and asks who it is.
async fn greet(token: &Token, addresses: &[SocketAddr], at: String) -> Result<Admitter, Status> {
    let config = joiner_config(token.authority()).map_err(internal)?;
    let (channel, own) = dial::channel(config, any_server(), addresses)
        .await
        .map_err(|error| unreachable(&at, addresses, &error))?;
    let mut enrol = EnrolClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let hello = v1::GreetRequest { version: env!("CARGO_PKG_VERSION").to_owned() };
    let greeting = enrol.greet(hello).await.map_err(|e| lost(&at, &e))?.into_inner();
    let ahead = greeting.unix_millis.saturating_sub(unix_millis());
    Ok(Admitter { enrol, greeting, own, at, ahead })
}

/// Why no connection came about, and what to look at.
fn unreachable(at: &str, addresses: &[SocketAddr], error: &anyhow::Error) -> Status {
    let tried = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let port = addresses.first().map_or(paths::PORT, SocketAddr::port);
    let is_tls = error
        .downcast_ref::<std::io::Error>()
        .and_then(|e| e.get_ref())
        .is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls {
        return Status::unauthenticated(format!(
            "{at} ({tried}) is not a node of the cluster that this token is for, so nothing was sent \
             to it ({error:#}). Check the host, and that the token was made in that cluster"
        ));
    }
    Status::unavailable(format!(
        "cannot reach {at} (TCP, {tried}): {error:#}. Check that the host is right, that mfsd runs \
         there (`systemctl status mfsd`), and that its firewall lets in TCP and UDP port {port}"
    ))
}

fn lost(at: &str, error: &Status) -> Status {
    Status::unavailable(format!("{at} broke off: {}. Try again", error.message()))
}

/// Asks with the key of an attempt that was broken off, or with a new one.
async fn ask_with_key(
    daemon: &Daemon,
    token: &Token,
    admitter: &mut Admitter,
    mut request: v1::JoinRequest,
) -> Result<(JoiningKey, v1::JoinReply), Status> {
    loop {
        let joining = JoiningKey::prepare(&daemon.store, token.authority()).map_err(internal)?;
        request.request = joining.key().request().map_err(internal)?.into();
        let error = match ask(admitter, request.clone()).await {
            Ok(reply) => return Ok((joining, reply)),
            Err(error) => error,
        };
        let (is_kept, code) = (joining.is_kept(), error.code());
        if is_kept && code == Code::FailedPrecondition {
            // It was admitted, and removed since.
            joining.forget().map_err(internal)?;
            continue;
        }
        if !is_kept && !is_lost(code) {
            joining.forget().map_err(internal)?;
        }
        return Err(error);
    }
}

/// Sends the secret; asks again when the answer is lost.
async fn ask(admitter: &mut Admitter, request: v1::JoinRequest) -> Result<v1::JoinReply, Status> {
    let mut tries = 1;
    loop {
        match admitter.enrol.join(request.clone()).await {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(error) if is_lost(error.code()) && tries < TRIES => tries += 1,
            Err(error) if is_lost(error.code()) => return Err(lost(&admitter.at, &error)),
            Err(error) => {
                let sentence = format!("{} says: {}", admitter.at, error.message());
                return Err(Status::new(error.code(), sentence));
            }
        }
    }
}

fn is_lost(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled)
}

/// Believes nothing of the answer that the token and the key do not prove.
fn prove(token: &Token, key: NodeKey, reply: v1::JoinReply) -> anyhow::Result<Enrolment> {
    let anchors = wire::chain("JoinReply.anchors", reply.anchors)?;
    let register = reply.register.context("the register is missing")?;
    let keys = ClusterKeys::try_from(reply.keys.context("the keys are missing")?)?;
    let settings = ClusterSettings::try_from(reply.settings.context("the settings are missing")?)?;
    let cluster = ClusterId::of_authority(&token.authority());
    let trust = Trust::new(cluster, anchors, register.into())?;
    anyhow::ensure!(
        trust.has_only_authority(&token.authority()),
        "it comes from another authority than the token"
    );
    anyhow::ensure!(
        keys.gossip_digest() == Some(trust.register().gossip),
        "its keys are not those that the authority signed"
    );
    let chain = wire::chain("JoinReply.chain", reply.chain)?;
    let identity = Identity::new(key, chain, trust, clock::unix_seconds())?;
    anyhow::ensure!(
        identity.trust().register().nodes.contains_key(&identity.node()),
        "this node is not in the register"
    );
    Ok(Enrolment { identity, settings, keys, seal: Secret::generate()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_are_understood_with_and_without_port() {
        for (text, address) in [
            ("10.0.0.1", "10.0.0.1:7230"),
            ("10.0.0.1:7231", "10.0.0.1:7231"),
            ("fd00::1", "[fd00::1]:7230"),
            ("[fd00::1]", "[fd00::1]:7230"),
            ("[fd00::1]:7231", "[fd00::1]:7231"),
        ] {
            assert_eq!(resolve(text).await.unwrap(), [address.parse().unwrap()], "{text}");
        }
        for wrong in [":", "no such host", "host:port", "10.0.0.1:99999"] {
            assert!(resolve(wrong).await.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_address_that_reaches_the_cluster_comes_first() {
        let parse = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        let mut addresses = parse(&["10.0.0.1:7230", "10.9.0.1:7230", "[fd00::1]:7230"]);
        prefer(&mut addresses, "[::ffff:10.9.0.1]:40000".parse().unwrap());
        assert_eq!(addresses, parse(&["10.9.0.1:7230", "10.0.0.1:7230", "[fd00::1]:7230"]));
        prefer(&mut addresses, "192.0.2.1:40000".parse().unwrap());
        assert_eq!(addresses[0], "10.9.0.1:7230".parse().unwrap());
    }
}
