//! What the log and the counters are told of a session.

use super::session::Note;
use crate::telemetry::metrics;
use crate::types::NodeId;

/// Logs and counts what happened to the session with `node`.
pub(super) fn say(node: NodeId, note: &Note) {
    let node = node.short();
    match note {
        Note::Begun { opens } => {
            metrics::CLIENT_SESSIONS_BEGUN.add_one();
            if *opens > 0 {
                tracing::info!("new session with node {node}: opening {opens} files again");
            }
        }
        Note::Resumed => metrics::CLIENT_SESSIONS_RESUMED.add_one(),
        Note::Reclaimed => metrics::CLIENT_RECLAIMED.add_one(),
        Note::NotReclaimed(open, errno) => {
            metrics::CLIENT_RECLAIMS_FAILED.add_one();
            tracing::warn!(
                "open {open} on node {node} could not be established again: it fails with {errno}"
            );
        }
        Note::Unknown(operation) => tracing::warn!(
            "{operation} on node {node}: mfsd was restarted meanwhile, so nobody knows whether it was \
             done; its caller is told EIO"
        ),
        Note::WritesLost => tracing::warn!(
            "node {node} was booted anew and may have lost writes that were not synced: fsync and close \
             of the files concerned fail with EIO"
        ),
        Note::Refused(operation, refusal) => {
            tracing::error!("node {node} refuses {operation}: {refusal}");
        }
    }
}
