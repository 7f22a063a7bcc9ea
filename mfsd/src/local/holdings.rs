//! What is asked of this node or, by way of its mfsd, of another: `mfs why`, `mfs locks`, how it lends itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use mfs::membership::Member;
use mfs::types::{Caller, FileName};
use mfs_proto::v1;
use tonic::{Code, Response, Status};

use crate::cluster::{dial, services};
use crate::node::Node;
use crate::rpc::names_of;

/// The member of that name; `None` for this node itself, which an empty name is, too.
pub(super) fn member(node: &Node, wanted: &str) -> Result<Option<Member>, Status> {
    let view = node.view();
    if wanted.is_empty() {
        return Ok(None);
    }
    let member = view.members().iter().find(|member| member.name.as_str() == wanted);
    let member = member.ok_or_else(|| {
        Status::not_found(format!("there is no node {wanted:?}: `mfs nodes` shows them"))
    })?;
    Ok((member.id != view.me()).then(|| member.clone()))
}

/// Who holds what on a file.
pub(super) async fn why(
    node: &Arc<Node>,
    caller: Caller,
    request: v1::WhyRequest,
) -> Result<Response<v1::HoldingsReply>, Status> {
    let member = member(node, &request.node)?;
    let path = Path::new(OsStr::from_bytes(&request.path));
    let names = names(node, request.node.is_empty(), path)?;
    let Some(member) = member else {
        return services::holdings(node, caller, true, names).await.map(Response::new);
    };
    let path = names.iter().map(|name| name.as_bytes().clone()).collect();
    let request = v1::HoldingsRequest { caller: Some(caller.into()), path };
    let mut client = dial::member(node, &member).await.map_err(unreachable)?;
    client.holdings(request).await.map_err(|status| older(&member, status))
}

/// The locks of a node.
pub(super) async fn locks(
    node: &Arc<Node>,
    caller: Caller,
    wanted: &str,
) -> Result<Response<v1::LocksReply>, Status> {
    let Some(member) = member(node, wanted)? else {
        return Ok(Response::new(services::locks(node, caller, true).await));
    };
    let request = v1::LocksRequest { caller: Some(caller.into()) };
    let mut client = dial::member(node, &member).await.map_err(unreachable)?;
    client.locks(request).await.map_err(|status| older(&member, status))
}

/// Changes how a node lends itself.
pub(super) async fn lend(
    node: &Arc<Node>,
    request: v1::LendNodeRequest,
) -> Result<Response<v1::LendReply>, Status> {
    let v1::LendNodeRequest { node: wanted, lend } = request;
    let lend = lend.ok_or_else(|| Status::invalid_argument("field `lend` must be set"))?;
    let Some(member) = member(node, &wanted)? else {
        return services::lend(node, lend).await.map(Response::new);
    };
    let mut client = dial::member(node, &member).await.map_err(unreachable)?;
    client.lend(lend).await.map_err(|status| older(&member, status))
}

/// The names on the way to a file; of a path that is `plain`, from the root of this node's tree on.
fn names(node: &Node, plain: bool, path: &Path) -> Result<Vec<FileName>, Status> {
    let root = &node.export().path;
    let below = match path.strip_prefix(root) {
        Ok(below) if plain => below,
        Err(_) if plain => {
            let (path, root) = (path.display(), root.display());
            return Err(Status::failed_precondition(format!(
                "{path} is not below {root}, the tree that this node serves"
            )));
        }
        Ok(_) | Err(_) => path,
    };
    names_of(below)
        .ok_or_else(|| Status::invalid_argument(format!("{} is no path", path.display())))
}

fn unreachable(error: anyhow::Error) -> Status {
    Status::failed_precondition(format!("{error:#}"))
}

/// What a node says that does not know the question.
fn older(member: &Member, status: Status) -> Status {
    match status.code() {
        Code::Unimplemented => Status::failed_precondition(format!(
            "node {} cannot say: its mfs is older ({})",
            member.name, member.version
        )),
        _ => status,
    }
}
