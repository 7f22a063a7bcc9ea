//! Asks the mfsd of this machine which processes are being restored.

use std::path::PathBuf;
use std::time::Duration;

use mfs::net::local::LocalClient;

use crate::fs::restored::{Answer, Restorer};

/// Longest time for an answer: without one, nobody is being restored.
const WITHIN: Duration = Duration::from_secs(5);

/// The mfsd with this runtime directory.
#[derive(Debug, Clone)]
pub(crate) struct Mfsd(pub(crate) PathBuf);

// === impl Mfsd ===

impl Restorer for Mfsd {
    fn token_of(&self, process: u32) -> Answer {
        let runtime = self.0.clone();
        Box::pin(async move {
            let asking = async { LocalClient::connect(&runtime).await?.restoring(process).await };
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
