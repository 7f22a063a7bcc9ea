//! What the mount knows of its cluster: told by the mfsd of this machine, kept while that is away.
//!
//! One task follows mfsd. Until it appears, the names are those last written in the state directory.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mfs::client::{Keeper, Peers, PeersConfig};
use mfs::config::paths;
use mfs::export::{Abilities, Export, ExportKeys, ExportSettings, FdBudget, Squash};
use mfs::identity::Store;
use mfs::membership::{Member, MemberState, View};
use mfs::net::local::{LocalClient, LocalError, MountExport, MountState};
use mfs::net::{MemberConnector, Transport};
use mfs::types::{Caller, ExportId, KernelFeature, NodeId};
use tokio::sync::watch;
use tokio_stream::StreamExt;

use crate::fs::backing::Origin;
use crate::fs::local::{Changes, Local};
use crate::fs::nodes::Ways;
use crate::fs::process::Asker;
use crate::fs::remote::Remote;
use crate::fs::{MountedFs, Terms};
use crate::mount::MountConfig;
use crate::reports;

/// How often mfsd is looked for while it is away: short, since a mount waits for it at every boot.
const RETRY: Duration = Duration::from_millis(500);

/// How often mounts of this node that the direct access has entered are let go when nothing uses them, so
/// that they can be unmounted.
const RELEASE_IDLE: Duration = Duration::from_secs(5);

/// Longest time for making sure that mfsd and the direct access mean the same files. If it does not
/// suffice, the next word of mfsd is the next occasion.
const CHECK: Duration = Duration::from_secs(5);

/// Follows mfsd for one mount.
#[derive(Debug)]
pub(crate) struct Follower {
    fs: Arc<MountedFs>,
    config: MountConfig,
    sessions: Option<Sessions>,
    direct: Option<(MountExport, Arc<Local>)>,
}

/// The sessions with the nodes of the cluster that this node is in.
#[derive(Debug)]
struct Sessions {
    me: NodeId,
    peers: Arc<Peers>,
    view: watch::Sender<View>,
    transport: watch::Sender<Transport>,
}

// === impl Follower ===

impl Follower {
    /// A follower that has not heard of mfsd yet; the mount shows the last known names.
    pub(crate) fn new(fs: Arc<MountedFs>, config: MountConfig) -> Self {
        if let Some(view) = last_known(&config.state) {
            fs.nodes.set_view(view);
        }
        Self { fs, config, sessions: None, direct: None }
    }

    /// Follows mfsd until the task is dropped. `heard` is told when mfsd has spoken for the first time, or
    /// is not there.
    pub(crate) async fn run(mut self, heard: tokio::sync::oneshot::Sender<()>) {
        let mut heard = Some(heard);
        let mut said = false;
        loop {
            match self.follow(&mut heard).await {
                Err(LocalError::NotRunning { .. }) if said => {}
                Err(error) => {
                    tracing::info!("{error}; the mount goes on with what it knows");
                    said = true;
                }
                Ok(()) => {
                    tracing::info!("mfsd has ended; the mount goes on with what it knows");
                    said = true;
                }
            }
            // Whoever waits for the first word need not wait longer.
            drop(heard.take());
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(
        &mut self,
        heard: &mut Option<tokio::sync::oneshot::Sender<()>>,
    ) -> Result<(), LocalError> {
        let client = LocalClient::connect(&self.config.runtime).await?;
        let mut states = client.watch_mount().await?;
        while let Some(state) = states.next().await {
            self.take(state?).await;
            if let Some(heard) = heard.take() {
                // Nobody may be waiting any more.
                let _ = heard.send(());
            }
        }
        Ok(())
    }

    async fn take(&mut self, state: MountState) {
        let MountState { credentials, view, plaintext, export, version } = state;
        tracing::debug!(%version, "told by mfsd");
        let Some(view) = view else {
            // This machine is in no cluster, or left it: there is no node to show.
            self.sessions = None;
            self.direct = None;
            self.fs.nodes.clear();
            return;
        };
        let transport = match credentials {
            _ if plaintext => Transport::Plaintext,
            Some(credentials) => Transport::Tls(credentials),
            None => {
                tracing::warn!("mfsd names a cluster without credentials for it; it is left out");
                return;
            }
        };
        let me = view.me();
        match &self.sessions {
            Some(sessions) if sessions.me == me => {
                sessions.transport.send_replace(transport);
                sessions.view.send_replace(view.clone());
            }
            _ => {
                let socket = paths::socket(&self.config.runtime);
                let (transport, of_connector) = watch::channel(transport);
                let (sender, of_peers) = watch::channel(view.clone());
                let connector = MemberConnector::new(me, Some(socket), of_connector);
                let on_contact = Some(reports::begin(self.config.runtime.clone()));
                // Files used directly are looked at anew each time; where that is wanted, nothing of this node's
                // is remembered.
                self.fs.cache.leave_out(self.config.direct_access.then_some(me));
                let keeper = Some(Keeper(self.fs.cache.clone() as Arc<_>));
                let config = PeersConfig { on_contact, keeper, ..PeersConfig::new() };
                let peers = Peers::new(config, Arc::new(connector), of_peers);
                self.sessions =
                    Some(Sessions { me, peers: Arc::new(peers), view: sender, transport });
                self.direct = None;
            }
        }
        self.fs.nodes.set_view(view);
        // Through mfsd all files can be had at once; the direct access follows when it has been checked.
        self.set_ways();
        self.set_direct(export).await;
        self.set_ways();
    }

    fn terms(&self) -> Terms {
        self.fs.terms()
    }

    fn own_session(&self) -> Option<Remote> {
        let sessions = self.sessions.as_ref()?;
        Some(Remote::new(sessions.peers.clone(), sessions.me, self.terms()))
    }

    fn set_ways(&self) {
        let Some(sessions) = &self.sessions else { return };
        self.fs.nodes.set_ways(Ways {
            remote: self.own_session(),
            local: self.direct.as_ref().map(|(_, local)| (sessions.me, local.clone())),
        });
    }

    /// Opens the own tree for direct access, if it is wanted and its settings are new.
    async fn set_direct(&mut self, export: Option<MountExport>) {
        let wanted = export.filter(|_| self.config.direct_access);
        if wanted.as_ref() == self.direct.as_ref().map(|(settings, _)| settings) {
            return;
        }
        self.direct = None;
        let (Some(settings), Some(server)) = (wanted, self.own_session()) else { return };
        let checking = tokio::time::timeout(CHECK, open_directly(&settings, server, self.terms()));
        let checked = checking.await.unwrap_or_else(|_| Err(anyhow::anyhow!("mfsd is silent")));
        match checked {
            Ok(local) => {
                tokio::spawn(release_idle(Arc::downgrade(&local)));
                self.direct = Some((settings, local));
            }
            Err(error) => tracing::warn!(
                "files of this node go through mfsd although dfsa=1: {error:#}; \
                 the mount gives the same answers, more slowly"
            ),
        }
    }
}

/// Opens the tree as mfsd serves it, and makes sure that both mean the same by a file id.
async fn open_directly(
    settings: &MountExport,
    server: Remote,
    terms: Terms,
) -> anyhow::Result<Arc<Local>> {
    let node = server.node();
    let as_served = ExportSettings {
        id: ExportId::FIRST,
        path: settings.path.clone(),
        read_only: settings.read_only,
        squash: Squash::UntrustedRoot,
        hidden_dirs: vec![settings.state_dir.clone()],
        hidden_paths: settings.hidden.clone(),
    };
    let keys =
        ExportKeys { seal: *settings.seal.as_bytes(), inode_numbers: *settings.inodes.as_bytes() };
    let abilities = Abilities::probe().without(&settings.without);
    let export = tokio::task::spawn_blocking(move || {
        Export::open_with(&as_served, &keys, node, FdBudget::of_process(), abilities)
    })
    .await??;
    let lends = !settings.without.contains(&KernelFeature::Passthrough);
    let local = Local::new(export, Changes::Server(server.clone()), terms, lends);
    let root = Caller::root();
    let origin = Origin::of(Asker { uid: 0, gid: 0, tid: 0 }, &root);
    let theirs = server.root(&origin).await?;
    let ours = local.root().await?;
    anyhow::ensure!(theirs.file == ours.file, "mfsd and mfs-fuse see different trees");
    Ok(local)
}

async fn release_idle(local: Weak<Local>) {
    loop {
        tokio::time::sleep(RELEASE_IDLE).await;
        let Some(local) = local.upgrade() else { return };
        local.release_idle(RELEASE_IDLE);
    }
}

/// The members as the state directory has them; nothing where there is no membership, or it cannot be read.
fn last_known(state: &Path) -> Option<View> {
    // Opening a store makes its directory; a mount should not.
    if !state.join("cluster").is_dir() {
        return None;
    }
    let enrolment = Store::open(state).and_then(|store| store.load());
    let identity = match enrolment {
        Ok(enrolment) => enrolment?.identity,
        Err(error) => {
            tracing::info!("the last known names cannot be read: {error}");
            return None;
        }
    };
    let members = identity.trust().register().nodes.iter().map(|(id, node)| Member {
        id: *id,
        name: node.name.clone(),
        number: node.number,
        addresses: node.addresses.clone(),
        state: MemberState::Suspect,
        since: node.since,
        incarnation: 0,
        version: String::new(),
    });
    Some(View::new(identity.node(), members))
}
