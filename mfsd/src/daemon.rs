//! The composition root: puts the parts together, runs them, and takes them down.
//!
//! The daemon always serves the local socket. The rest of it, a [`Node`], exists while this machine is
//! in a cluster: `mfs init` and `mfs join` make it, `mfs leave` ends it, without a restart.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use anyhow::Context;
use mfs::clock;
use mfs::config::{Config, paths};
use mfs::identity::{Enrolment, Store};
use mfs::membership::Member;
use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::arguments::{Arguments, CriuPlaces};
use crate::node::Node;
use crate::{local, service_manager};

/// How long requests that are being answered may take when the daemon stops.
const GRACE: Duration = Duration::from_secs(3);

/// The daemon, as its parts see it.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// Keys and membership.
    pub(crate) store: Store,
    /// The runtime directory.
    pub(crate) runtime: PathBuf,
    /// Where CRIU is looked for.
    pub(crate) criu: CriuPlaces,
    /// Held while this machine enters or leaves a cluster.
    changing: Mutex<()>,
    node: watch::Sender<Option<Arc<Node>>>,
    /// Cancelled before `node` goes because the daemon ends.
    stopping: CancellationToken,
}

/// One change of the membership at a time.
pub(crate) type Changing<'a> = MutexGuard<'a, ()>;

/// Runs the daemon until it is told to stop.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Only the usual file may be missing: a mistyped name must not serve everything by default.
    anyhow::ensure!(
        arguments.config == Path::new(paths::CONFIG) || arguments.config.exists(),
        "{} does not exist; check the path after --config",
        arguments.config.display()
    );
    let config = Arc::new(Config::read(&arguments.config)?);
    if arguments.check {
        check_machine(&config)?;
        let file = arguments.config.display();
        return writeln!(io::stdout(), "{file}: no mistakes found").context("cannot print");
    }
    if arguments.detach {
        // Fails only for the leader of a process group, which then is what was wanted.
        let _ = rustix::process::setsid();
    }
    raise_descriptor_limit();
    keep_memory_private()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let store = Store::open(&arguments.state)?;
    let enrolment = store.load()?;
    let daemon = Arc::new(Daemon {
        config,
        store,
        runtime: arguments.runtime.clone(),
        criu: arguments.criu.clone(),
        changing: Mutex::new(()),
        node: watch::Sender::new(None),
        stopping: CancellationToken::new(),
    });
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let socket = LocalSocket::bind(&arguments.runtime)?;
    if let Some(enrolment) = enrolment {
        let listeners = daemon.bind()?;
        daemon.start_node(enrolment, listeners, Vec::new()).await?;
    } else {
        info!("this machine is in no cluster: `mfs init` founds one, `mfs join` joins one");
    }
    local::serve(daemon.clone(), socket.listener, &tasks, &stop);
    service_manager::ready(&daemon.status());
    service_manager::feed_watchdog(&tasks, &stop);

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stopping = clock::now();
    info!("stopping");
    service_manager::stopping();
    // Before the node goes: the mounts of this machine keep what they know, as for a daemon that is killed.
    daemon.stopping.cancel();
    if let Some(node) = daemon.node.send_replace(None) {
        node.stop(GRACE, false).await;
    }
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        warn!("requests on the local socket were cut off");
    }
    drop(socket.path);
    info!("stopped within {:?}", clock::now().saturating_duration_since(stopping));
    Ok(())
}

/// Whether this machine has what the configuration names; the port may be in use, by a running mfsd.
fn check_machine(config: &Config) -> anyhow::Result<()> {
    let mut any_port = config.clone();
    any_port.listen.iter_mut().for_each(|address| address.set_port(0));
    crate::listener::bind(&any_port)?;
    let path = &config.export.path;
    anyhow::ensure!(
        path.is_dir(),
        "{}: cannot serve {}: it is not a directory, or does not exist",
        config.place_of("export.path"),
        path.display()
    );
    Ok(())
}

/// Keys are in memory: no core dumps, and nothing of /proc/PID for anybody but root (prctl(2)).
fn keep_memory_private() -> anyhow::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot forbid core dumps")
}

/// As many descriptors as the system allows: each open file of a peer takes one.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!("the limit of descriptors stays as it is: {error}");
    }
}

// === impl Daemon ===

impl Daemon {
    /// The part that exists in a cluster.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.node.borrow().clone()
    }

    /// The same, for whoever cannot do without.
    ///
    /// # Errors
    /// That this machine is in no cluster, in a sentence.
    pub(crate) fn clustered(&self) -> Result<Arc<Node>, tonic::Status> {
        self.node().ok_or_else(|| {
            tonic::Status::failed_precondition(
                "this machine is in no cluster: `mfs init` founds one, `mfs join TOKEN HOST` joins one",
            )
        })
    }

    /// The same, to be told of changes.
    pub(crate) fn watch_node(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.node.subscribe()
    }

    /// Whether there is no node any more because the daemon ends, and not because it left its cluster.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits until no other change of the membership is under way.
    pub(crate) async fn change(&self) -> Changing<'_> {
        self.changing.lock().await
    }

    /// Takes the port, so that a membership is not begun that could not be served.
    pub(crate) fn bind(&self) -> anyhow::Result<Vec<TcpListener>> {
        crate::listener::bind(&self.config)
    }

    /// Begins to be a node; what was begun is undone when it fails.
    pub(crate) async fn start_node(
        self: &Arc<Self>,
        enrolment: Enrolment,
        listeners: Vec<TcpListener>,
        members: Vec<Member>,
    ) -> anyhow::Result<Arc<Node>> {
        let node = Node::start(self, enrolment, listeners, members).await?;
        self.node.send_replace(Some(node.clone()));
        service_manager::status(&self.status());
        Ok(node)
    }

    /// Ends being a node and forgets the membership.
    pub(crate) async fn forget_node(&self, _: &Changing<'_>) -> anyhow::Result<()> {
        if let Some(node) = self.node.send_replace(None) {
            node.stop(GRACE, true).await;
        }
        self.store.forget()?;
        service_manager::status(&self.status());
        Ok(())
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        match self.node() {
            Some(node) => {
                let credentials = node.credentials();
                let identity = credentials.identity();
                format!("node {} (number {})", identity.name(), identity.number())
            }
            None => "in no cluster: `mfs init` founds one, `mfs join` joins one".to_owned(),
        }
    }
}

/// The local socket; its name goes when the daemon stops.
struct LocalSocket {
    listener: UnixListener,
    path: SocketPath,
}

/// Removes the socket's name when dropped.
struct SocketPath(PathBuf);

// === impl LocalSocket ===

impl LocalSocket {
    /// Makes the runtime directory and the socket. Refuses if another mfsd answers there.
    fn bind(runtime: &Path) -> anyhow::Result<Self> {
        let unusable = || format!("{}: the runtime directory cannot be used", runtime.display());
        match fs::DirBuilder::new().mode(0o755).create(runtime) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(e).with_context(unusable);
            }
            Ok(()) | Err(_) => {}
        }
        let path = paths::socket(runtime);
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            anyhow::bail!("mfsd is running already: it answers on {}", path.display());
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).with_context(unusable),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).with_context(unusable)?;
        // Everybody may connect; who may ask what is decided by the kernel's word on who they are.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).with_context(unusable)?;
        Ok(Self { listener, path: SocketPath(path) })
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // A name that is left over is replaced by the next start.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_memory_do_not_reach_a_core_dump() {
        keep_memory_private().unwrap();
        let found = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(found, DumpableBehavior::NotDumpable);
    }
}
