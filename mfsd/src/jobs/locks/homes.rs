//! What is asked of the homes of files that a job has open, this node among them.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use mfs::membership::Member;
use mfs::types::op::TakenLock;
use mfs::types::{InodeNo, NodeId, ParkingToken};
use mfs::wire::locks::{self, ParkLocks};
use mfs_proto::v1;
use mfs_proto::v1::moving_locks_client::MovingLocksClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::opened::Opened;
use crate::cluster::dial;
use crate::node::{Files, Node};
use crate::rpc::LONGEST_PARKING as LONGEST;

/// How long a home may take to answer: the job stands still meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// A home of files: this node, or another.
pub(super) enum Home<'a> {
    This(&'a Files),
    Other(Box<Member>, Box<MovingLocksClient<Channel>>),
}

// === impl Home ===

impl<'a> Home<'a> {
    /// The node of that name.
    pub(super) async fn find(node: &'a Node, name: &str) -> anyhow::Result<Self> {
        let view = node.view();
        let member = view.members().iter().find(|member| member.name.as_str() == name);
        let member = member.with_context(|| format!("node {name} is unknown"))?.clone();
        if member.id == view.me() {
            return Ok(Self::This(&node.files));
        }
        let config = node.credentials().client_config();
        let server = mfs::identity::server_name(member.id);
        let dialled = dial::channel(config, server, &member.addresses).await;
        let (channel, _) = dialled.with_context(|| format!("node {name} cannot be reached"))?;
        Ok(Self::Other(Box::new(member), Box::new(MovingLocksClient::new(channel))))
    }
}

/// The locks on these files of one home that processes of this node hold.
pub(super) async fn held(
    node: &Node,
    home: &str,
    opened: &[Opened],
) -> anyhow::Result<Vec<TakenLock>> {
    let files: HashSet<_> = opened.iter().filter_map(|open| InodeNo::new(open.ino)).collect();
    let asking = async {
        match Home::find(node, home).await? {
            Home::This(service) => Ok(service.locks_held_by(node.view().me(), files).await),
            Home::Other(member, mut client) => {
                let inos = files.iter().map(|ino| ino.get()).collect();
                let asked = client.held(v1::HeldLocksRequest { inos }).await;
                let reply = asked.map_err(|status| said(&member, status))?.into_inner();
                Ok(locks::held(reply)?)
            }
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.with_context(|| format!("node {home} does not say which locks it holds"))?
}

/// Has a home park locks for a node.
pub(super) async fn park(
    node: &Node,
    home: &str,
    target: NodeId,
    token: ParkingToken,
    locks: Vec<TakenLock>,
) -> anyhow::Result<()> {
    let asking = async {
        match Home::find(node, home).await? {
            Home::This(service) => {
                let between = (node.view().me(), target);
                let parked = service.park_locks(token, between, LONGEST, locks).await;
                parked.map_err(|sentence| anyhow!("{sentence}"))
            }
            Home::Other(member, mut client) => {
                let request = ParkLocks { token, target, life: LONGEST, locks };
                let asked = client.park(v1::ParkLocksRequest::from(request)).await;
                asked.map(drop).map_err(|status| said(&member, status))
            }
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.with_context(|| format!("node {home} does not park its locks"))?
}

/// Tells a home that a move is over.
pub(super) async fn unpark(node: &Node, home: &str, token: ParkingToken) -> anyhow::Result<()> {
    match Home::find(node, home).await? {
        Home::This(service) => service.unpark_locks(token, node.view().me()).await,
        Home::Other(member, mut client) => {
            let asked = client.unpark(locks::unpark(token)).await;
            asked.map_err(|status| said(&member, status))?;
        }
    }
    Ok(())
}

/// What a node has said against it.
fn said(member: &Member, status: Status) -> anyhow::Error {
    match status.code() {
        Code::Unimplemented => {
            anyhow!("node {} knows nothing of locks that move: its mfs is older", member.name)
        }
        _ => anyhow!("node {}: {:#}", member.name, dial::plain(status)),
    }
}
