//! Fetching the images of a job from the node where it was frozen.

use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use mfs::types::Caller;
use mfs::wire::moving::RestoreJob;
use mfs_proto::v1;
use mfs_proto::v1::job_output::Kind as Output;
use tokio::sync::mpsc::Sender;

use super::images::Images;
use super::{credentials, home};
use crate::cluster::dial;
use crate::node::Node;

/// How long nothing may come before the node that has them is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches them; the home is told how far it is.
pub(super) async fn images(
    node: &Node,
    brought: &RestoreJob,
    user: &Caller,
    outputs: &Sender<Output>,
) -> anyhow::Result<Images> {
    let view = node.view();
    let source = view.by_id(brought.source).context("the node that has its images is unknown")?;
    let images = Images::new(&node.jobs.images, brought.token)?;
    let announced = brought.frozen.bytes;
    let mut client = home::client(node, source).await.map_err(|error| anyhow!(error))?;
    let token = Bytes::copy_from_slice(&brought.token.0);
    let asked = client.images(v1::ImagesRequest { token }).await;
    let pieces = asked.map_err(|status| anyhow!("{:#}", dial::plain(status)))?.into_inner();
    let pieces = tokio_stream::StreamExt::timeout(pieces, PATIENCE);
    let pieces = tokio_stream::StreamExt::map(pieces, |piece| {
        let late = |_| tonic::Status::deadline_exceeded("its images do not come any more");
        piece.map_err(late).and_then(|piece| piece)
    });
    let told = |bytes| {
        // Who listens too slowly misses a figure, not the job.
        let _ = outputs.try_send(Output::Fetched(bytes));
    };
    images.take(Box::pin(pieces), announced, told).await.context("its images did not come")?;
    credentials::check(images.path(), user)?;
    Ok(images)
}
