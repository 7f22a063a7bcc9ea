//! Takes nodes out of the cluster: `mfs node remove` and `mfs leave`.

use std::convert;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mfs::identity::{Credentials, Enrolment, server_name};
use mfs::membership::Member;
use mfs::types::{NodeId, NodeName};
use mfs_proto::v1;
use mfs_proto::v1::cluster_client::ClusterClient;
use tokio::task::JoinSet;
use tonic::Status;
use tracing::info;

use super::authority::internal;
use super::dial::{self, RemovedHere};
use crate::daemon::Daemon;
use crate::node::Node;

/// How long telling one node may take; one that does not answer learns of it when it is back.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a node that leaves may take to receive the answer to its goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Removes a node for good: it is entered among the register's removals, the gossip gets a new key, its
/// connections end, everybody is told. Answers its name and the names of the nodes not reached.
pub(crate) async fn remove(
    node: &Arc<Node>,
    wanted: &str,
) -> Result<(NodeName, Vec<String>), Status> {
    let credentials = node.credentials();
    let register = credentials.identity().trust().register();
    let found = register.nodes.iter().find(|(id, entry)| {
        entry.name.as_str() == wanted
            || entry.number.to_string() == wanted
            || id.to_string() == wanted
    });
    let Some((id, entry)) = found else {
        return Err(Status::not_found(format!(
            "there is no node {wanted:?} in the cluster: `mfs nodes` shows names and numbers"
        )));
    };
    if *id == credentials.identity().node() {
        return Err(Status::failed_precondition(
            "this is the node itself: `mfs leave` takes it out of the cluster",
        ));
    }
    let members = node.view().members().to_vec();
    register_without(node, *id).await?;
    node.cut_off_removed();
    info!("node {} was removed", entry.name);
    Ok((entry.name.clone(), tell_all(node, members, *id).await))
}

/// A node says goodbye.
pub(crate) async fn depart(node: &Arc<Node>, gone: NodeId) -> Result<(), Status> {
    if gone == node.credentials().identity().node() {
        return Err(Status::failed_precondition("the authority's own node cannot depart from it"));
    }
    let members = node.view().members().to_vec();
    let credentials = node.credentials();
    let known = credentials.identity().trust().register().nodes.get(&gone);
    let name = known.map_or_else(|| gone.short(), |known| known.name.to_string());
    register_without(node, gone).await?;
    info!("node {name} left the cluster");
    // The one who leaves waits for the answer, not until all the others know.
    let others: Vec<_> = members.into_iter().filter(|member| member.id != gone).collect();
    let telling = node.clone();
    let stop = node.stop.clone();
    node.tasks.spawn(async move {
        tell_all(&telling, others, gone).await;
        // The answer travels on one of the connections that end now.
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(GOODBYE) => telling.cut_off_removed(),
        }
    });
    Ok(())
}

async fn register_without(node: &Arc<Node>, gone: NodeId) -> Result<(), Status> {
    let desk = node.desk.as_ref().ok_or_else(|| {
        Status::failed_precondition(
            "this node does not hold the authority's key: run the command on the node where the \
             cluster was founded (`mfs nodes -v` shows it)",
        )
    })?;
    node.registering(async {
        let removal = desk.without(node, gone).map_err(internal)?;
        node.take_register(removal.register, Some(removal.keys)).map_err(internal)?;
        Ok::<_, Status>(())
    })
    .await?;
    node.view_follows(|view| view.by_id(gone).is_none()).await;
    Ok(())
}

/// The register and its keys, to all of these nodes; answers the names of those not reached.
async fn tell_all(node: &Arc<Node>, members: Vec<Member>, gone: NodeId) -> Vec<String> {
    let mut telling = JoinSet::new();
    let me = node.credentials().identity().node();
    for member in members.into_iter().filter(|member| member.id != me && member.id != gone) {
        let node = node.clone();
        telling.spawn(async move {
            let told = tokio::time::timeout(TELL_TIMEOUT, tell(&node, &member)).await;
            match told.context("it did not answer in time").and_then(convert::identity) {
                Ok(()) => None,
                Err(error) => {
                    info!("{} does not know of the new register yet: {error:#}", member.name);
                    Some(member.name.to_string())
                }
            }
        });
    }
    let mut unreached: Vec<_> = telling.join_all().await.into_iter().flatten().collect();
    unreached.sort();
    unreached
}

async fn tell(node: &Node, member: &Member) -> anyhow::Result<()> {
    let credentials = node.credentials();
    let register = Some(credentials.identity().trust().signed_register().into());
    let keys = Some((&node.keys()).into());
    let mut client = dial::member(node, member).await?;
    client.update(v1::UpdateRequest { register, keys }).await.map_err(dial::plain)?;
    Ok(())
}

/// Leaves the cluster: tells the authority, stops, forgets. Answers what the person should know.
pub(crate) async fn leave(daemon: &Daemon, force: bool) -> Result<Vec<String>, Status> {
    let changing = daemon.change().await;
    let Some(node) = daemon.node() else {
        return Err(Status::failed_precondition("this machine is in no cluster"));
    };
    let credentials = node.credentials();
    let name = credentials.identity().name();
    let mut warnings = Vec::new();
    if node.desk.is_some() {
        let others = credentials.identity().trust().register().nodes.len().saturating_sub(1);
        if others > 0 && !force {
            return Err(Status::failed_precondition(format!(
                "this node holds the authority's key: without it the other {others} nodes can admit, \
                 remove and renew nobody, and stop when their certificates end (within 30 days). `mfs \
                 leave --force` leaves all the same"
            )));
        }
    } else if let Err(error) = ask_to_depart(&node).await
        // Whom the authority has removed has nothing to tell it.
        && !error.is::<RemovedHere>()
    {
        if !force {
            return Err(Status::failed_precondition(format!(
                "the cluster cannot be told ({error:#}). Try again later, or leave with `mfs leave \
                 --force` and remove this node there with `mfs node remove {name}`"
            )));
        }
        warnings.push(format!("the cluster was not told: run `mfs node remove {name}` there"));
    }
    daemon.forget_node(&changing).await.map_err(internal)?;
    Ok(warnings)
}

async fn ask_to_depart(node: &Node) -> anyhow::Result<()> {
    let view = node.view();
    let mut last = anyhow::anyhow!("no node that holds the authority's key is known");
    for member in node.settings.authorities.iter().filter_map(|id| view.by_id(*id)) {
        let departed = async {
            let mut client = dial::member(node, member).await?;
            client.depart(v1::DepartRequest {}).await.map_err(dial::plain)?;
            anyhow::Ok(())
        };
        match departed.await {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Takes back an admission whose node could not be started.
pub(crate) async fn take_back(enrolment: &Enrolment) -> anyhow::Result<()> {
    let credentials = Credentials::new(enrolment.identity.clone())?;
    let register = enrolment.identity.trust().register();
    let mut last = anyhow::anyhow!("no node that holds the authority's key is known");
    for authority in &enrolment.settings.authorities {
        let Some(entry) = register.nodes.get(authority) else { continue };
        let config = credentials.client_config();
        match dial::channel(config, server_name(*authority), &entry.addresses).await {
            Ok((channel, _)) => {
                let mut client = ClusterClient::new(channel);
                client.depart(v1::DepartRequest {}).await.map_err(dial::plain)?;
                return Ok(());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
