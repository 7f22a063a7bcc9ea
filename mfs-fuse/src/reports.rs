//! Tells the mfsd of this machine what the mount's connections say of nodes, so that a dead node is known
//! to be dead within two seconds wherever it is in use.
//!
//! Not here: when a connection finds a node silent (`mfs::client`), and what follows from it
//! (`mfs::membership`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mfs::client::OnContact;
use mfs::membership::Contact;
use mfs::net::local::LocalClient;
use mfs::types::NodeId;
use tokio::sync::mpsc;

/// Reports that wait for mfsd. They repeat while a node is silent, so that more need not be kept.
const WAITING: usize = 64;

/// Longest time for one report: later it says nothing.
const WITHIN: Duration = Duration::from_secs(2);

/// Begins to report to the mfsd with this runtime directory; ends when the connections do.
pub(crate) fn begin(runtime: PathBuf) -> OnContact {
    let (said, heard) = mpsc::channel(WAITING);
    tokio::spawn(report(runtime, heard));
    OnContact(Arc::new(move |node, contact| {
        // Never waits: it is called where connections are driven.
        said.try_send((node, contact)).ok();
    }))
}

async fn report(runtime: PathBuf, mut heard: mpsc::Receiver<(NodeId, Contact)>) {
    let mut mfsd: Option<LocalClient> = None;
    while let Some((node, contact)) = heard.recv().await {
        let told = async {
            let client = match mfsd.take() {
                Some(client) => client,
                None => LocalClient::connect(&runtime).await?,
            };
            client.report(node, contact).await?;
            Ok::<_, mfs::net::local::LocalError>(client)
        };
        match tokio::time::timeout(WITHIN, told).await {
            Ok(Ok(client)) => mfsd = Some(client),
            // While mfsd is away there is nobody to tell; the next report looks for it again.
            Ok(Err(error)) => tracing::debug!(?node, ?contact, %error, "mfsd was not told"),
            Err(_) => tracing::debug!(?node, ?contact, "mfsd was not told in time"),
        }
    }
}
