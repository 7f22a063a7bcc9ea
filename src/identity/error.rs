//! `IdentityError`: what can be wrong with keys, certificates and their store, in sentences.

use std::io;
use std::path::PathBuf;

use crate::types::NodeId;

/// Why an identity cannot be made, kept, or believed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key or certificate could not be made; the library's own words.
    #[error("cannot make a key or certificate: {0}")]
    Make(String),
    /// Bytes that should be a certificate, a key or a request are not one.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate names another node than its key is.
    #[error("the certificate is for node {named}, but its key is that of node {actual}")]
    NotItsKey {
        /// The node in the certificate.
        named: NodeId,
        /// The node whose key it is.
        actual: NodeId,
    },
    /// A certificate of another cluster.
    #[error("the certificate belongs to cluster {theirs}, this node to cluster {ours}")]
    OtherCluster {
        /// Theirs.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// A chain that does not end in the cluster's authority, or is not valid now.
    #[error(
        "the certificate is not valid in this cluster: {0} (if it says expired or not yet valid, compare the clocks of both machines)"
    )]
    NotTrusted(String),
    /// A node that was removed.
    #[error("node {0} was removed from the cluster")]
    Removed(NodeId),
    /// The register was not signed by the cluster's authority.
    #[error("the register of nodes is not signed by the cluster's authority")]
    BadSignature,
    /// A file or directory of the store could not be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could read or change it.
    #[error(
        "{path} {what}: anybody who reads it could pose as this node. Check who had access, then: {remedy}",
        path = path.display()
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// The command that sets it right.
        remedy: String,
    },
    /// A file of the store holds something else than mfsd wrote.
    #[error("{path} is damaged: {why}. Restore it from a backup, or `mfs leave --force` and join again", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The node is in a cluster already.
    #[error(
        "this node is in a cluster already; `mfs leave` takes it out, `mfs nodes` shows who is in it"
    )]
    AlreadyEnrolled,
}

// === impl IdentityError ===

impl IdentityError {
    /// An error of the system about a file.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Bytes that are not what they should be.
    pub(super) fn malformed(what: &'static str, why: impl ToString) -> Self {
        Self::Malformed { what, why: why.to_string() }
    }
}

impl From<rcgen::Error> for IdentityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}

impl From<rustls::Error> for IdentityError {
    fn from(error: rustls::Error) -> Self {
        Self::Make(error.to_string())
    }
}
