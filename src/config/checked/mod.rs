//! The configuration as proven: what mfsd is built from.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;

use super::paths::PORT;
use super::raw;
use crate::types::{KernelFeature, NodeName, NodeNumber};

/// The configuration of mfsd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name to ask for when a cluster is founded or joined; the host's name if `None`.
    pub name: Option<NodeName>,
    /// The number to ask for then; made of the address if `None`.
    pub number: Option<NodeNumber>,
    /// Where to listen, TCP and UDP.
    pub listen: Vec<SocketAddr>,
    /// Where others find this node; those of the interfaces if empty.
    pub addresses: Vec<IpAddr>,
    /// The only network interface to use, if one is named.
    pub interface: Option<String>,
    /// How nodes speak with each other.
    pub transport: Transport,
    /// Nodes to ask first, `host` or `host:port`.
    pub seeds: Vec<String>,
    /// Whether to announce the node on the LAN.
    pub beacon: bool,
    /// Whether the peers' root is root here; what the cluster's founder decided if `None`.
    pub trust_root: Option<bool>,
    /// Kernel features to do without, as a machine that lacks them does.
    pub without: Vec<KernelFeature>,
    /// What is served.
    pub export: ExportConfig,
    /// What holds for single peers.
    pub peers: BTreeMap<NodeName, PeerConfig>,
}

/// The tree that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportConfig {
    /// Its root; absolute.
    pub path: PathBuf,
    /// Nobody may change it through mfs.
    pub read_only: bool,
    /// Who is not who they say.
    pub squash: Squash,
    /// What peers do not see; absolute paths.
    pub hidden: Vec<PathBuf>,
}

/// Which users of a peer become the anonymous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squash {
    /// Root, unless the peer's root is trusted.
    Root,
    /// Everybody.
    All,
    /// Nobody: the peers' root is root here. The same as trusting the root of all peers.
    None,
}

/// What holds for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerConfig {
    /// Whether its root is root here; as for the others if `None`.
    pub trust_root: Option<bool>,
}

/// How nodes speak with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS 1.3 with certificates on both sides.
    Tls,
    /// Without encryption, and believing what a peer says of itself; only on loopback or on one named
    /// interface, whose network is then all that protects the node.
    Plaintext,
}

/// What is wrong with a configuration file: where, what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}: {what}", path = path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to write instead.
        what: String,
    },
}

/// Largest configuration that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

// === impl Config ===

impl Default for Config {
    /// What holds without a configuration file.
    fn default() -> Self {
        Self {
            name: None,
            number: None,
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))],
            addresses: Vec::new(),
            interface: None,
            transport: Transport::Tls,
            seeds: Vec::new(),
            beacon: true,
            trust_root: None,
            without: Vec::new(),
            export: ExportConfig {
                path: PathBuf::from("/"),
                read_only: false,
                squash: Squash::Root,
                hidden: Vec::new(),
            },
            peers: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads a file; one that does not exist says nothing, and so leaves everything at its default.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        match std::fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(unreadable(e)),
            Ok(found) if !found.is_file() => {
                return Err(unreadable(io::Error::other("it is not a regular file")));
            }
            Ok(found) if found.len() > MAX_FILE => {
                return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
            }
            Ok(_) => {}
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let good = e.utf8_error().valid_up_to();
            let line = 1 + e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
            let what = "this is not UTF-8: save the file in that encoding".to_owned();
            ConfigError::Wrong { path: path.to_owned(), line, what }
        })?;
        Self::parse(path, &text)
    }

    /// Checks a text; `path` is only for the errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let check = Check { path, text };
        let file: raw::File = toml::from_str(text).map_err(|e| {
            let at = e.span().unwrap_or_default();
            check.wrong(&at, e.message().lines().collect::<Vec<_>>().join(" "))
        })?;
        check.file(file)
    }

    /// Whether the root user of this peer is root here. `cluster` is what the founder decided.
    pub fn trusts_root_of(&self, peer: &NodeName, cluster: bool) -> bool {
        self.peers
            .get(peer)
            .and_then(|peer| peer.trust_root)
            .or((self.export.squash == Squash::None).then_some(true))
            .or(self.trust_root)
            .unwrap_or(cluster)
    }
}

/// The text that is checked, to name lines of it.
struct Check<'a> {
    path: &'a Path,
    text: &'a str,
}

// === impl Check ===

impl Check<'_> {
    fn wrong(&self, at: &Range<usize>, what: impl Into<String>) -> ConfigError {
        let before = self.text.as_bytes().get(..at.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        ConfigError::Wrong { path: self.path.to_owned(), line, what: what.into() }
    }

    /// Applies `parse` to a value, naming its line when it fails.
    fn value<T, U>(
        &self,
        value: &Spanned<T>,
        parse: impl FnOnce(&T) -> Result<U, String>,
    ) -> Result<U, ConfigError> {
        parse(value.get_ref()).map_err(|what| self.wrong(&value.span(), what))
    }

    fn list<T, U>(
        &self,
        values: Option<&Vec<Spanned<T>>>,
        parse: impl Fn(&T) -> Result<U, String>,
    ) -> Result<Vec<U>, ConfigError> {
        values.into_iter().flatten().map(|value| self.value(value, &parse)).collect()
    }

    fn option<T, U>(
        &self,
        value: Option<&Spanned<T>>,
        parse: impl FnOnce(&T) -> Result<U, String>,
    ) -> Result<Option<U>, ConfigError> {
        value.map(|value| self.value(value, parse)).transpose()
    }

    fn file(&self, file: raw::File) -> Result<Config, ConfigError> {
        let defaults = Config::default();
        let mut peers = BTreeMap::new();
        for (name, peer) in &file.peer {
            let name = self.value(name, |name| parse_name(name))?;
            peers.insert(name, PeerConfig { trust_root: peer.trust_root });
        }
        let config = Config {
            name: self.option(file.name.as_ref(), |name| parse_name(name))?,
            number: self.option(file.number.as_ref(), |number| parse_number(*number))?,
            listen: match &file.listen {
                Some(_) => self.list(file.listen.as_ref(), |text| parse_listen(text))?,
                None => defaults.listen,
            },
            addresses: self.list(file.addresses.as_ref(), |text| parse_address(text))?,
            interface: self.option(file.interface.as_ref(), |text| parse_interface(text))?,
            transport: self
                .option(file.transport.as_ref(), |text| parse_transport(text))?
                .unwrap_or(defaults.transport),
            seeds: self.list(file.seeds.as_ref(), |text| parse_seed(text))?,
            beacon: file.beacon.unwrap_or(defaults.beacon),
            trust_root: file.trust_root,
            without: self.list(file.without.as_ref(), |text| parse_feature(text))?,
            export: self.export(&file.export, defaults.export)?,
            peers,
        };
        if config.listen.is_empty() {
            return Err(self.wrong(&(0..0), "listen must name at least one address"));
        }
        let protected =
            config.interface.is_some() || config.listen.iter().all(|a| a.ip().is_loopback());
        if config.transport == Transport::Plaintext && !protected {
            let at = file.transport.as_ref().map_or(0..0, Spanned::span);
            return Err(self.wrong(
                &at,
                "transport = \"plaintext\" lets everybody on the network pose as any node: it needs \
                 interface = \"NAME\" (a network that you trust, such as a WireGuard interface), or \
                 listen with loopback addresses only; else remove the line",
            ));
        }
        Ok(config)
    }

    fn export(
        &self,
        raw: &raw::Export,
        defaults: ExportConfig,
    ) -> Result<ExportConfig, ConfigError> {
        Ok(ExportConfig {
            path: self.option(raw.path.as_ref(), |text| parse_path(text))?.unwrap_or(defaults.path),
            read_only: raw.read_only.unwrap_or(defaults.read_only),
            squash: self
                .option(raw.squash.as_ref(), |text| parse_squash(text))?
                .unwrap_or(defaults.squash),
            hidden: self.list(raw.hidden.as_ref(), |text| parse_path(text))?,
        })
    }
}

fn parse_name(text: &str) -> Result<NodeName, String> {
    NodeName::parse(text).map_err(|e| e.to_string())
}

fn parse_feature(text: &str) -> Result<KernelFeature, String> {
    text.parse().map_err(|e: crate::types::KernelFeatureError| e.to_string())
}

fn parse_number(number: i64) -> Result<NodeNumber, String> {
    u16::try_from(number)
        .ok()
        .and_then(NodeNumber::new)
        .ok_or_else(|| format!("{number} cannot be a node number: use 1 to 65535"))
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::from((address, PORT)));
    }
    text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0).ok_or_else(|| {
        format!(
            "{text:?} is not where one can listen: write ADDRESS or ADDRESS:PORT, as in \
             \"10.0.0.1:{PORT}\" or \"[::]:{PORT}\""
        )
    })
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().ok().filter(|address: &IpAddr| !address.is_unspecified()).ok_or_else(|| {
        format!("{text:?} is not an address of this node: write one as in \"10.0.0.1\"")
    })
}

fn parse_interface(text: &str) -> Result<String, String> {
    // IFNAMSIZ is 16 with the final NUL.
    let valid = !text.is_empty()
        && text.len() < 16
        && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not the name of a network interface; `ip link` shows them"))
    }
}

fn parse_transport(text: &str) -> Result<Transport, String> {
    match text {
        "tls" => Ok(Transport::Tls),
        "plaintext" => Ok(Transport::Plaintext),
        _ => Err(format!("{text:?} is not a transport: write \"tls\" or \"plaintext\"")),
    }
}

fn parse_squash(text: &str) -> Result<Squash, String> {
    match text {
        "root" => Ok(Squash::Root),
        "all" => Ok(Squash::All),
        "none" => Ok(Squash::None),
        _ => Err(format!("{text:?} is not a way to squash: write \"root\", \"all\" or \"none\"")),
    }
}

fn parse_seed(text: &str) -> Result<String, String> {
    let odd = text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
    if text.is_empty() || text.len() > 255 || odd {
        return Err(format!("{text:?} is not a host: write HOST or HOST:PORT"));
    }
    Ok(text.to_owned())
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || text.contains('\0') {
        return Err(format!("{text:?} is not an absolute path without \"..\": write it from / on"));
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests;
