//! Fetches a peer's register and view for membership.

use std::net::SocketAddr;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use mfs::identity::ClusterKeys;
use mfs::membership::Member;
use mfs::types::NodeId;
use mfs::wire::Malformed;
use mfs_proto::v1;
use tracing::warn;

use super::dial::{self, RemovedHere};
use super::driver::{Exchange, Exchanged};
use crate::node::Node;

/// Exchanges on behalf of a node, as long as it exists.
pub(crate) struct Exchanger {
    node: Weak<Node>,
    /// That this node was removed has been said; once is enough.
    told: AtomicBool,
}

// === impl Exchanger ===

impl Exchanger {
    pub(crate) const fn new(node: Weak<Node>) -> Self {
        Self { node, told: AtomicBool::new(false) }
    }

    async fn fetch(&self, at: SocketAddr, peer: Option<NodeId>) -> anyhow::Result<Vec<Member>> {
        let node = self.node.upgrade().context("the node has stopped")?;
        let mut client = dial::cluster(&node, &[at], peer).await?;
        let epoch = node.credentials().identity().trust().register().epoch;
        let reply =
            client.exchange(v1::ExchangeRequest { epoch }).await.map_err(dial::plain)?.into_inner();
        if let Some(register) = reply.register {
            let keys = reply.keys.map(ClusterKeys::try_from).transpose()?;
            if node.registering(async { node.take_register(register.into(), keys) }).await? {
                node.cut_off_removed();
            }
        }
        let members = reply.members.into_iter().map(Member::try_from);
        Ok(members.collect::<Result<_, Malformed>>()?)
    }
}

impl Exchange for Exchanger {
    fn exchange(&self, address: SocketAddr, peer: Option<NodeId>) -> Exchanged<'_> {
        Box::pin(async move {
            let fetched = self.fetch(address, peer).await;
            if let Err(error) = &fetched
                && error.is::<RemovedHere>()
                && !self.told.swap(true, Ordering::Relaxed)
            {
                warn!("{error}");
            }
            fetched
        })
    }
}
