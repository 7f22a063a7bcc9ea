//! Compares the users and groups of all nodes: `mfs nodes --check-users`.

use std::convert;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mfs::config::accounts::Accounts;
use mfs::membership::Member;
use mfs_proto::v1;
use tokio::task::JoinSet;

use crate::cluster::{dial, services};
use crate::node::Node;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks all nodes at once and compares their users with this machine's.
pub(super) async fn check(node: &Arc<Node>) -> v1::CheckUsersReply {
    let view = node.view();
    let mine = services::accounts();
    let my_name = node.credentials().identity().name().to_string();
    let mut asking = JoinSet::new();
    for member in view.members().iter().filter(|member| member.id != view.me()).cloned() {
        let node = node.clone();
        asking.spawn(async move {
            let asked = tokio::time::timeout(TIMEOUT, ask(&node, &member)).await;
            let answer = asked.context("it did not answer in time").and_then(convert::identity);
            (member.name.to_string(), answer)
        });
    }
    let mut reply = v1::CheckUsersReply { compared: 1, ..v1::CheckUsersReply::default() };
    let mut answers = asking.join_all().await;
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, answer) in answers {
        match answer {
            Ok(theirs) => {
                reply.compared += 1;
                reply.differences.extend(mine.differences(&my_name, &theirs, &name));
            }
            Err(_) => reply.unanswered.push(name),
        }
    }
    reply
}

async fn ask(node: &Node, member: &Member) -> anyhow::Result<Accounts> {
    let reply = dial::member(node, member).await?.users(v1::UsersRequest {}).await;
    let reply = reply.map_err(dial::plain)?.into_inner();
    Ok(Accounts::try_from(reply.accounts.unwrap_or_default())?)
}
