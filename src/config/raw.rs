//! The configuration file as typed. Each value keeps its place, so that the check can name the line.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// The node's name before it is in a cluster; the host's name if absent.
    pub(super) name: Option<Spanned<String>>,
    /// The node's number before it is in a cluster.
    pub(super) number: Option<Spanned<i64>>,
    /// Where to listen, `address:port`.
    pub(super) listen: Option<Vec<Spanned<String>>>,
    /// What to tell others where this node is; the addresses of its interfaces if absent.
    pub(super) addresses: Option<Vec<Spanned<String>>>,
    /// Use only this network interface.
    pub(super) interface: Option<Spanned<String>>,
    /// `tls` or `plaintext`.
    pub(super) transport: Option<Spanned<String>>,
    /// Nodes to ask first, `host` or `host:port`.
    pub(super) seeds: Option<Vec<Spanned<String>>>,
    /// Whether to announce the node on the LAN.
    pub(super) beacon: Option<bool>,
    /// Whether the peers' root is root here; what the cluster's founder decided if absent.
    pub(super) trust_root: Option<bool>,
    /// Kernel features to do without.
    pub(super) without: Option<Vec<Spanned<String>>>,
    /// What is served.
    pub(super) export: Export,
    /// What holds for single peers, by name.
    pub(super) peer: BTreeMap<Spanned<String>, Peer>,
}

/// `[export]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Export {
    /// The tree that is served.
    pub(super) path: Option<Spanned<String>>,
    /// Whether nobody may change it through mfs.
    pub(super) read_only: Option<bool>,
    /// `root`, `all` or `none`.
    pub(super) squash: Option<Spanned<String>>,
    /// What peers do not see.
    pub(super) hidden: Option<Vec<Spanned<String>>>,
}

/// `[peer.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Peer {
    /// Whether this peer's root is root here.
    pub(super) trust_root: Option<bool>,
}
