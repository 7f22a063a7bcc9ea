//! The local socket of mfsd: what the `mfs` command and the mounts of this machine ask it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use mfs_proto::v1;
use mfs_proto::v1::local_client::LocalClient as Stub;
use mfs_proto::v1::local_jobs_client::LocalJobsClient;
use tokio::net::UnixStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::config::paths;
use crate::identity::{Credentials, Identity, IdentityError, NodeKey, Secret, Trust};
use crate::membership::{Contact, Member, View};
use crate::telemetry::Snapshot;
use crate::types::{KernelFeature, NodeId, ParkingToken};
use crate::wire::Malformed;
use crate::wire::cluster as wire;

/// A connection to the mfsd of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalClient {
    stub: Stub<Channel>,
    channel: Channel,
}

/// Why mfsd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody listens on the socket.
    #[error("mfsd is not running: systemctl start mfsd (no answer on {path})", path = path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// mfsd's own sentence.
    #[error("{message}")]
    Refused {
        /// What kind of refusal.
        code: Code,
        /// The sentence.
        message: String,
    },
    /// mfsd went away, or what it said is not understood.
    #[error("mfsd broke off: {0}")]
    Broken(String),
}

/// What a mount is told.
#[derive(Debug, Clone)]
pub struct MountState {
    /// This node's identity and TLS configurations; `None` in no cluster.
    pub credentials: Option<Arc<Credentials>>,
    /// The members; `None` in no cluster.
    pub view: Option<View>,
    /// Connections to peers are made without TLS.
    pub plaintext: bool,
    /// The own tree, for direct access.
    pub export: Option<MountExport>,
    /// Version of mfsd.
    pub version: String,
}

/// The own tree, as mfsd serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountExport {
    /// Its root.
    pub path: PathBuf,
    /// Nobody may change it through mfs.
    pub read_only: bool,
    /// What is not shown.
    pub hidden: Vec<PathBuf>,
    /// The state directory, never shown.
    pub state_dir: PathBuf,
    /// Seals file ids.
    pub seal: Secret,
    /// Makes inode numbers.
    pub inodes: Secret,
    /// Kernel features to do without.
    pub without: Vec<KernelFeature>,
}

/// The figures of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStats {
    /// The node's name.
    pub node: String,
    /// Version of its software.
    pub version: String,
    /// The figures.
    pub snapshot: Snapshot,
}

/// Most bytes of one answer: a cluster of 65,535 nodes fits.
const MAX_ANSWER: usize = 64 << 20;

// === impl LocalClient ===

impl LocalClient {
    /// Connects to the mfsd whose runtime directory this is.
    pub async fn connect(runtime: &Path) -> Result<Self, LocalError> {
        let path = paths::socket(runtime);
        // The connector's own error does not come through tonic; this first try tells it.
        match UnixStream::connect(&path).await {
            Ok(_) => {}
            Err(e) if is_absent(&e) => return Err(LocalError::NotRunning { path }),
            Err(source) => return Err(LocalError::Socket { path, source }),
        }
        let socket = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is not used: the connector knows where to go.
        let channel = Endpoint::from_static("http://mfsd.local")
            .connect_with_connector(connector)
            .await
            .map_err(|_| LocalError::NotRunning { path })?;
        let stub = Stub::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
        Ok(Self { stub, channel })
    }

    /// The generated client, for commands that print what they are told.
    pub fn stub(&self) -> Stub<Channel> {
        self.stub.clone()
    }

    /// The generated client of the service about jobs.
    pub fn jobs(&self) -> LocalJobsClient<Channel> {
        LocalJobsClient::new(self.channel.clone()).max_encoding_message_size(MAX_ANSWER)
    }

    /// Whether a process is being restored, and the name under which its locks are parked. Root.
    pub async fn restoring(&self, pid: u32) -> Result<Option<ParkingToken>, LocalError> {
        let reply = self.stub().restoring(v1::RestoringRequest { pid }).await?.into_inner();
        crate::wire::locks::restoring(&reply).map_err(|error| LocalError::Broken(error.to_string()))
    }

    /// The figures of a node, by name; of this one if `None`.
    pub async fn stats(&self, node: Option<&str>) -> Result<NodeStats, LocalError> {
        let request = v1::NodeStatsRequest { node: node.unwrap_or_default().to_owned() };
        let reply = self.stub().node_stats(request).await?.into_inner();
        let snapshot = serde_json::from_str(&reply.json)
            .map_err(|e| LocalError::Broken(format!("its figures are not understood: {e}")))?;
        Ok(NodeStats { node: reply.node, version: reply.version, snapshot })
    }

    /// Tells mfsd what a connection says of a node.
    pub async fn report(&self, node: NodeId, contact: Contact) -> Result<(), LocalError> {
        let contact = match contact {
            Contact::Answered => v1::Contact::Answered,
            Contact::Silent => v1::Contact::Silent,
            Contact::Refused => v1::Contact::Refused,
        };
        let node = wire::node_id_bytes(node);
        self.stub().report(v1::ReportRequest { node, contact: contact.into() }).await?;
        Ok(())
    }

    /// What a mount needs: now, and again whenever some of it changes. Ends when mfsd does.
    pub async fn watch_mount(
        &self,
    ) -> Result<impl Stream<Item = Result<MountState, LocalError>> + Send + use<>, LocalError> {
        let request = v1::WatchMountRequest { version: env!("CARGO_PKG_VERSION").to_owned() };
        let states = self.stub().watch_mount(request).await?.into_inner();
        Ok(states.map(|state| MountState::try_from(state?)))
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

// === impl LocalError ===

impl From<Status> for LocalError {
    fn from(status: Status) -> Self {
        // What mfsd itself said has no cause on this side.
        match std::error::Error::source(&status) {
            Some(_) => Self::Broken(status.message().to_owned()),
            None => Self::Refused { code: status.code(), message: status.message().to_owned() },
        }
    }
}

impl From<Malformed> for LocalError {
    fn from(error: Malformed) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<IdentityError> for LocalError {
    fn from(error: IdentityError) -> Self {
        Self::Broken(error.to_string())
    }
}

// === impl MountState ===

impl TryFrom<v1::MountState> for MountState {
    type Error = LocalError;

    fn try_from(state: v1::MountState) -> Result<Self, LocalError> {
        let identity = state.identity.map(identity).transpose()?;
        let members = state.members.into_iter().map(Member::try_from);
        let members: Vec<Member> = members.collect::<Result<_, Malformed>>()?;
        let view = identity.as_ref().map(|identity| View::new(identity.node(), members));
        Ok(Self {
            credentials: identity.map(Credentials::new).transpose()?.map(Arc::new),
            view,
            plaintext: state.plaintext,
            export: state.export.map(export).transpose()?,
            version: state.version,
        })
    }
}

fn identity(identity: v1::MountIdentity) -> Result<Identity, LocalError> {
    let key = NodeKey::from_pem(&identity.key)?;
    let chain = wire::chain("MountIdentity.chain", identity.chain)?;
    let anchors = wire::chain("MountIdentity.anchors", identity.anchors)?;
    let register = identity.register.unwrap_or_default();
    Ok(Identity::restore(key, chain, |cluster| Trust::new(cluster, anchors, register.into()))?)
}

fn export(export: v1::MountExport) -> Result<MountExport, LocalError> {
    use std::os::unix::ffi::OsStringExt;
    let path = |bytes: bytes::Bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
    Ok(MountExport {
        path: path(export.path),
        read_only: export.read_only,
        hidden: export.hidden.into_iter().map(path).collect(),
        state_dir: path(export.state_dir),
        seal: wire::secret("MountExport.seal", &export.seal)?,
        inodes: wire::secret("MountExport.inodes", &export.inodes)?,
        // A feature that only a newer mfsd knows is one that this mount does not use.
        without: export.without.iter().filter_map(|word| word.parse().ok()).collect(),
    })
}

impl From<&MountExport> for v1::MountExport {
    fn from(export: &MountExport) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let bytes = |path: &Path| bytes::Bytes::copy_from_slice(path.as_os_str().as_bytes());
        Self {
            path: bytes(&export.path),
            read_only: export.read_only,
            hidden: export.hidden.iter().map(|path| bytes(path)).collect(),
            state_dir: bytes(&export.state_dir),
            seal: wire::secret_bytes(&export.seal),
            inodes: wire::secret_bytes(&export.inodes),
            without: export.without.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Identity> for v1::MountIdentity {
    fn from(identity: &Identity) -> Self {
        let trust = identity.trust();
        Self {
            key: identity.key().to_pem(),
            chain: wire::chain_bytes(identity.chain()),
            anchors: wire::chain_bytes(trust.anchors()),
            register: Some(trust.signed_register().into()),
        }
    }
}
