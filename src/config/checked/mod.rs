//! The configuration as proven: what mfsd is built from.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
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
    /// Where all this is written.
    places: Places,
}

/// Which line of the file says what; for what only the running machine finds wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    file: PathBuf,
    lines: BTreeMap<&'static str, usize>,
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
    #[error("{path}: cannot be read: {why}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said, and what to do.
        why: String,
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
            places: Places { file: PathBuf::from(super::paths::CONFIG), lines: BTreeMap::new() },
        }
    }
}

impl Config {
    /// Reads a file; one that does not exist says nothing, and so leaves everything at its default.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |why: String| ConfigError::Unreadable { path: path.to_owned(), why };
        match std::fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(unreadable(format!("{e}: mfsd runs as root; check the path"))),
            Ok(found) if !found.is_file() => {
                let remedy = "write the configuration there, or take it away to have the defaults";
                return Err(unreadable(format!("it is not a regular file: {remedy}")));
            }
            Ok(found) if found.len() > MAX_FILE => {
                let remedy = "a configuration has some lines; check what was written there";
                return Err(unreadable(format!("it is larger than 1 MiB: {remedy}")));
            }
            Ok(found) if others_write(&found) => {
                let file = path.display();
                return Err(unreadable(format!(
                    "others than root may write it, and so decide who is root here: \
                     chown root {file} && chmod go-w {file}"
                )));
            }
            Ok(_) => {}
        }
        let bytes = std::fs::read(path)
            .map_err(|e| unreadable(format!("{e}: mfsd runs as root; check the disk")))?;
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
            check.wrong(&at, in_plain_words(e.message()))
        })?;
        check.file(file)
    }

    /// Where a key is set, as `file:line`; the file alone if it is not set. One of `[export]` is given as
    /// `export.path`.
    pub fn place_of(&self, key: &str) -> String {
        let Places { file, lines } = &self.places;
        match lines.get(key) {
            Some(line) => format!("{}:{line}", file.display()),
            None => file.display().to_string(),
        }
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
        let (path, line) = (self.path.to_owned(), self.line(at));
        ConfigError::Wrong { path, line, what: what.into() }
    }

    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..at.start).unwrap_or_default();
        1 + before.iter().filter(|b| **b == b'\n').count()
    }

    /// The places of what a machine can turn out not to have.
    fn places(&self, file: &raw::File) -> Places {
        let spans = [
            ("interface", file.interface.as_ref().map(Spanned::span)),
            ("listen", file.listen.iter().flatten().next().map(Spanned::span)),
            ("export.path", file.export.path.as_ref().map(Spanned::span)),
        ];
        let lines = spans.into_iter().filter_map(|(key, at)| Some((key, self.line(&at?))));
        Places { file: self.path.to_owned(), lines: lines.collect() }
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
            places: self.places(&file),
        };
        if config.listen.is_empty() {
            let what = "listen must name at least one address, or be left out";
            return Err(self.wrong(&(0..0), what));
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

/// Whether somebody else than root, or who runs this, may write a file.
fn others_write(file: &std::fs::Metadata) -> bool {
    let trusted = [0, rustix::process::geteuid().as_raw()].contains(&file.uid());
    !trusted || file.mode() & 0o002 != 0 || (file.mode() & 0o020 != 0 && file.gid() != 0)
}

/// What the parser says, without the words of the language it is written in, and with what to do.
fn in_plain_words(message: &str) -> String {
    let mut said = message.lines().collect::<Vec<_>>().join(" ");
    for (technical, plain) in [
        ("duplicate key", "this is said twice: remove one of the two"),
        ("invalid type: ", "this is the wrong kind of value: "),
        (" as i128", ""),
        ("expected i64", "expected a number, as in 7"),
        ("expected a boolean", "expected true or false"),
        ("expected a string", "expected a text in quotes, as in \"text\""),
        ("expected a sequence", "expected a list, as in [\"text\"]"),
        (
            "expected struct Export",
            "expected a heading of its own, [export], and its keys below it",
        ),
        ("expected a map", "expected headings, as in [peer.NAME], and their keys below them"),
        ("expected struct Peer", "expected a heading, [peer.NAME], and its keys below it"),
    ] {
        said = said.replace(technical, plain);
    }
    said
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
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok();
    // Of what is no address, a colon separates the port.
    let port = text.split_once(':').map(|(_, port)| port.parse::<u16>());
    let wrong_port = !address && port.is_some_and(|port| !port.is_ok_and(|port| port > 0));
    if text.is_empty() || text.len() > 255 || odd || wrong_port {
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
