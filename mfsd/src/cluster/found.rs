//! Founds a cluster: `mfs init`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mfs::clock;
use mfs::config::paths;
use mfs::identity::{
    Authority, CERTIFICATE_LIFE, ClusterId, ClusterKeys, ClusterSettings, Enrolment, Identity,
    IdentityError, NodeKey, Registered, Secret, Subject, Trust,
};
use mfs::net::interfaces;
use mfs::types::{NodeName, NodeNumber};
use mfs_proto::v1;
use tonic::Status;

use super::authority::{Desk, internal};
use super::naming;
use crate::daemon::Daemon;

/// Who a machine wants to be: what the person said, else the configuration, else the machine itself.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// The name; valid, but perhaps taken.
    pub(crate) name: NodeName,
    /// The number, if one is wished for.
    pub(crate) number: Option<NodeNumber>,
    /// Where others find it.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What is said to a machine that is in a cluster already.
pub(crate) fn enrolled_already(daemon: &Daemon) -> Option<Status> {
    let credentials = daemon.node()?.credentials();
    Some(Status::failed_precondition(format!(
        "this machine is node {} of a cluster already: `mfs nodes` shows it, `mfs token create` lets \
         others join, `mfs leave` takes this machine out of it",
        credentials.identity().name()
    )))
}

// === impl Wishes ===

impl Wishes {
    /// Collects and checks what is wished for.
    pub(crate) fn new(
        daemon: &Daemon,
        name: &str,
        number: u32,
        addresses: &[String],
    ) -> Result<Self, Status> {
        let config = &daemon.config;
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        let configured = config.name.as_ref().map(NodeName::as_str);
        let text = if name.is_empty() { configured.unwrap_or(&host) } else { name };
        let name = NodeName::parse(text).map_err(|error| {
            let proposal = naming::valid_name(text)
                .map_or_else(String::new, |name| format!("; this one would do: --name {name}"));
            Status::invalid_argument(format!("{error}{proposal}"))
        })?;
        let number = match u16::try_from(number) {
            Ok(0) => config.number,
            Ok(number) => NodeNumber::new(number),
            Err(_) => return Err(Status::invalid_argument("a node number is 1 to 65535")),
        };
        let said: Vec<_> =
            addresses.iter().map(|text| parse_address(text)).collect::<Result<_, _>>()?;
        let interface = config.interface.as_deref();
        let addresses = if said.is_empty() {
            interfaces::advertised(&config.listen, &config.addresses, interface)
        } else {
            said
        };
        Ok(Self { name, number, addresses })
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, Status> {
    let with_default = || text.parse::<IpAddr>().map(|ip| SocketAddr::from((ip, paths::PORT)));
    text.parse().or_else(|_| with_default()).map_err(|_| {
        Status::invalid_argument(format!("{text:?} is not an address: write one as in 10.0.0.1"))
    })
}

/// Founds a cluster of this machine alone. Nothing is left behind when it fails.
pub(crate) async fn found(
    daemon: &Arc<Daemon>,
    request: v1::InitRequest,
) -> Result<v1::InitReply, Status> {
    let changing = daemon.change().await;
    if let Some(refusal) = enrolled_already(daemon) {
        return Err(refusal);
    }
    let wishes = Wishes::new(daemon, &request.name, request.number, &request.addresses)?;
    let Wishes { name, number, addresses } = wishes;
    let number = naming::free_number(number, &addresses, |_| false)
        .ok_or_else(|| internal("no number is free"))?;
    let listeners = daemon.bind().map_err(|e| Status::failed_precondition(format!("{e:#}")))?;

    let now = clock::unix_seconds();
    let authority = Authority::found(now).map_err(internal)?;
    let founder =
        Registered { name: name.clone(), number, addresses: addresses.clone(), since: now };
    let enrolment = enrolment(&authority, founder, request.trust_root, now).map_err(internal)?;
    daemon.store.enrol(&enrolment, Some(&authority)).map_err(internal)?;
    let started = daemon.start_node(enrolment, listeners, Vec::new()).await;
    let token = started.map_err(internal).and_then(|node| {
        let desk = node.desk.as_ref().ok_or_else(|| internal("the authority's key is missing"))?;
        desk.create_token(request.token_uses, request.token_seconds)
    });
    match token {
        Ok(token) => Ok(v1::InitReply {
            name: name.to_string(),
            number: number.get().into(),
            addresses: mfs::wire::cluster::address_texts(&addresses),
            token: token.to_string(),
        }),
        Err(error) => {
            daemon.forget_node(&changing).await.map_err(internal)?;
            Err(error)
        }
    }
}

/// The founder's own membership.
fn enrolment(
    authority: &Authority,
    founder: Registered,
    trust_root: bool,
    now: u64,
) -> Result<Enrolment, IdentityError> {
    let key = NodeKey::generate()?;
    let cluster = ClusterId::of_authority(&authority.digest());
    let subject = Subject { cluster, name: founder.name.clone(), number: founder.number };
    let certificate = authority.issue(&key.request()?, &subject, now, CERTIFICATE_LIFE)?;
    let keys = ClusterKeys::generate()?;
    let register = Desk::first_register(authority, key.node(), founder, &keys)?;
    let trust = Trust::new(cluster, vec![authority.certificate().clone()], register)?;
    let settings = ClusterSettings { trust_root, authorities: vec![key.node()] };
    let chain = vec![certificate, authority.certificate().clone()];
    let identity = Identity::new(key, chain, trust, now)?;
    Ok(Enrolment { identity, settings, keys, seal: Secret::generate()? })
}
