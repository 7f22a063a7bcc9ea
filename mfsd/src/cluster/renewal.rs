//! Renews this node's certificate at half of its life, without a restart.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mfs::clock;
use mfs::identity::Credentials;
use mfs::wire::cluster as wire;
use mfs_proto::v1;
use rustls::pki_types::CertificateDer;
use tracing::{info, warn};

use super::dial;
use crate::node::Node;

/// How often the clock is looked at: a machine may sleep, and its clock may be set.
const LOOK: Duration = Duration::from_secs(600);

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(300);

/// Below this the administrator is warned, seconds.
const WARN_BELOW: i64 = 7 * 86_400;

/// Renews in the background as long as the node runs.
pub(crate) fn spawn(node: &Arc<Node>) {
    let node = node.clone();
    let stop = node.stop.clone();
    node.tasks.clone().spawn(async move {
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = look(&node).await,
            }
        }
    });
}

/// Renews if it is time; answers when to look again.
async fn look(node: &Node) -> Duration {
    let now = i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX);
    let credentials = node.credentials();
    let certificate = credentials.identity().certificate();
    if !is_due(certificate.not_before, certificate.not_after, now) {
        return LOOK;
    }
    let Err(error) = renew(node).await else { return LOOK };
    let left = certificate.not_after - now;
    if left < WARN_BELOW {
        let hours = left / 3_600;
        warn!("this node's certificate ends in {hours} hours and cannot be renewed: {error:#}");
    } else {
        info!("the certificate is not renewed yet: {error:#}");
    }
    RETRY
}

/// Whether half of the life is over.
const fn is_due(from: i64, until: i64, now: i64) -> bool {
    now - from >= (until - from) / 2
}

/// Gets a new certificate for the same key and takes it into use; answers its end, seconds since 1970.
pub(crate) async fn renew(node: &Node) -> anyhow::Result<i64> {
    let credentials = node.credentials();
    let request = credentials.identity().key().request()?;
    let chain = match &node.desk {
        Some(desk) => desk
            .renew(node, credentials.identity().node(), &request)
            .map_err(|e| anyhow::anyhow!("{}", e.message()))?,
        None => ask(node, request).await?,
    };
    node.registering(async {
        let renewed = node.credentials().identity().renewed(chain, clock::unix_seconds())?;
        let until = renewed.certificate().not_after;
        node.take_credentials(Credentials::new(renewed)?)?;
        info!("the certificate was renewed");
        Ok(until)
    })
    .await
}

async fn ask(node: &Node, request: Vec<u8>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let view = node.view();
    let mut last = anyhow::anyhow!("no node that holds the authority's key is known");
    for member in node.settings.authorities.iter().filter_map(|id| view.by_id(*id)) {
        let renewed = async {
            let request = v1::RenewRequest { request: request.clone().into() };
            let reply = dial::member(node, member).await?.renew(request).await;
            let reply =
                reply.map_err(dial::plain).with_context(|| format!("{} says", member.name))?;
            Ok(wire::chain("RenewReply.chain", reply.into_inner().chain)?)
        };
        match renewed.await {
            Ok(chain) => return Ok(chain),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_life() {
        assert!(!is_due(0, 100, 49));
        assert!(is_due(0, 100, 50));
        assert!(is_due(0, 100, 200));
    }
}
