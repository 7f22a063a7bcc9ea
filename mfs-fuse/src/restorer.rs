//! Asks the mfsd of this machine which processes are being restored.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mfs::net::local::{LocalClient, LocalError};
use mfs::sync::Mutex;

use crate::fs::restored::{Answer, Restorer};

/// Longest time for an answer: without one, nobody is being restored.
const WITHIN: Duration = Duration::from_secs(5);

/// The mfsd of a machine.
///
/// Lock order: a leaf.
#[derive(Debug)]
pub(crate) struct Mfsd {
    runtime: PathBuf,
    /// The connection that served last.
    client: Arc<Mutex<Option<LocalClient>>>,
}

// === impl Mfsd ===

impl Mfsd {
    /// The one with this runtime directory.
    pub(crate) fn new(runtime: PathBuf) -> Self {
        Self { runtime, client: Arc::default() }
    }
}

impl Restorer for Mfsd {
    fn token_of(&self, process: u32) -> Answer {
        let (runtime, kept) = (self.runtime.clone(), Arc::clone(&self.client));
        Box::pin(async move {
            let asking = async {
                let before = kept.lock().take();
                if let Some(client) = before
                    && let Ok(token) = client.restoring(process).await
                {
                    *kept.lock() = Some(client);
                    return Ok(token);
                }
                // mfsd may have been restarted.
                let client = LocalClient::connect(&runtime).await?;
                let token = client.restoring(process).await?;
                *kept.lock() = Some(client);
                Ok::<_, LocalError>(token)
            };
            match tokio::time::timeout(WITHIN, asking).await {
                Ok(Ok(token)) => token,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "mfsd does not say who is being restored");
                    None
                }
                Err(_) => None,
            }
        })
    }
}
