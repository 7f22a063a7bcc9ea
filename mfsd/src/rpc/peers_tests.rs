//! The mount's side of sessions (`mfs::client`) against this service, with a real directory behind it,
//! while connections break and the daemon is restarted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mfs::client::{Patience, Peers, PeersConfig};
use mfs::export::{Export, ExportKeys, ExportSettings, FdBudget, Pool};
use mfs::membership::{Member, MemberState, View};
use mfs::net::connect::Dialling;
use mfs::net::{Connector, IoStream};
use mfs::sync::Mutex;
use mfs::types::op::{
    Create, Flush, Link, LockFamily, LockKind, LockRange, MakeDir, Read, Release, RemoveDir,
    Rename, SetLock, Sync, Taking, Unlink, Write,
};
use mfs::types::{
    Access, Caller, Errno, FileId, FileName, LockOwner, NodeId, NodeName, NodeNumber, OpenFlags,
    OpenId, RenameFlags,
};
use mfs::wire::Purpose;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use super::{ExportTree, FilesService, FilesSettings, Instance, Limits};
use crate::peer::{Origin, Peer};

/// A node whose daemon can be restarted, and whose connections can be cut.
struct Node {
    export: Export,
    pool: Pool,
    running: Mutex<Running>,
}

/// One lifetime of the daemon.
struct Running {
    service: Arc<FilesService<ExportTree>>,
    dials: mpsc::UnboundedSender<std::io::Result<DuplexStream>>,
    /// Cuts the connections there are.
    cut: CancellationToken,
}

const HOME: [u8; 32] = [1; 32];

// === impl Node ===

impl Node {
    fn start(dir: &Path) -> Arc<Self> {
        let settings = ExportSettings::of(dir);
        let keys = ExportKeys { seal: [1; 32], inode_numbers: [2; 32] };
        let home = NodeId::from_digest(HOME);
        let export = Export::open(&settings, &keys, home, FdBudget::new(1_000)).expect("an export");
        let pool = Pool::new(8);
        let running = Mutex::new(Running::start(&export, &pool));
        Arc::new(Self { export, pool, running })
    }

    fn cut(&self) {
        let mut running = self.running.lock();
        running.cut.cancel();
        running.cut = CancellationToken::new();
    }

    /// As after a kill: what was begun is finished, sessions are gone.
    fn restart(&self) {
        let mut running = self.running.lock();
        running.cut.cancel();
        running.service.stop();
        *running = Running::start(&self.export, &self.pool);
    }
}

// === impl Running ===

impl Running {
    fn start(export: &Export, pool: &Pool) -> Self {
        let settings = FilesSettings {
            node: NodeId::from_digest(HOME),
            name: NodeName::parse("n1").expect("a name"),
            number: NodeNumber::new(1).expect("not 0"),
            root: "/".into(),
            instance: Instance::begin().expect("/proc"),
            lease_term: Duration::from_secs(10),
            limits: Limits::default(),
            ledger: None,
            intents: None,
            writers: None,
        };
        let tree = ExportTree::new(export.clone(), pool.clone(), 500);
        let service = FilesService::new(settings, tree, Box::new(|_| true));
        tokio::spawn(Arc::clone(&service).run());
        let (dials, incoming) = mpsc::unbounded_channel();
        let files = InterceptedService::new(service.server(), |mut request: tonic::Request<()>| {
            let node = NodeId::from_digest([9; 32]);
            request.extensions_mut().insert(Peer { node, origin: Origin::Remote, connection: 1 });
            Ok(request)
        });
        let server = Server::builder().add_service(files);
        tokio::spawn(server.serve_with_incoming(UnboundedReceiverStream::new(incoming)));
        Self { service, dials, cut: CancellationToken::new() }
    }
}

/// Dials the node's daemon of this moment.
struct Dialler(Arc<Node>);

impl Connector for Dialler {
    fn connect<'a>(&'a self, _: &'a Member, _: Purpose) -> Dialling<'a> {
        let (near, mut client) = tokio::io::duplex(1 << 16);
        let (mut server, far) = tokio::io::duplex(1 << 16);
        let running = self.0.running.lock();
        drop(running.dials.send(Ok(far)));
        let cut = running.cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                () = cut.cancelled() => {}
            }
        });
        Box::pin(std::future::ready(Ok(Box::new(near) as Box<dyn IoStream>)))
    }
}

/// The client's side.
#[derive(Clone)]
struct Mount {
    peers: Arc<Peers>,
    root: FileId,
    _view: Arc<watch::Sender<View>>,
}

// === impl Mount ===

impl Mount {
    async fn of(node: &Arc<Node>) -> Self {
        let member = Member {
            id: NodeId::from_digest(HOME),
            name: NodeName::parse("n1").expect("a name"),
            number: NodeNumber::new(1).expect("not 0"),
            addresses: vec![],
            state: MemberState::Alive,
            since: 0,
            incarnation: 1,
            version: String::new(),
        };
        let view = watch::Sender::new(View::new(NodeId::from_digest([9; 32]), [member]));
        let connector = Arc::new(Dialler(Arc::clone(node)));
        let peers = Peers::new(PeersConfig::new(), connector, view.subscribe());
        let root = peers.root(NodeId::from_digest(HOME), &Patience::default()).await;
        let root = root.expect("the node is there").file;
        Self { peers: Arc::new(peers), root, _view: Arc::new(view) }
    }

    async fn call<C: mfs::types::op::Call>(&self, call: C) -> Result<C::Output, Errno> {
        let patience = Patience::default();
        self.peers.call(NodeId::from_digest(HOME), &Caller::root(), call, &patience).await
    }

    /// Works with names that begin with `tag`, and says what of it failed.
    async fn work(self, tag: String, rounds: usize) -> Vec<(usize, &'static str, Errno)> {
        let mut failed = Vec::new();
        for round in 0..rounds {
            if let Err((step, errno)) = self.round(&tag, round).await {
                failed.push((round, step, errno));
            }
        }
        failed
    }

    /// Leaves a file `tag-round` with 4 KiB of appended blocks, and a link to it.
    async fn round(&self, tag: &str, round: usize) -> Result<(), (&'static str, Errno)> {
        let dir = name(&format!("{tag}-{round}.d"));
        let (temporary, last) =
            (name(&format!("{tag}-{round}.t")), name(&format!("{tag}-{round}")));
        let parent = self.root.clone();
        let made = self.call(MakeDir { parent: parent.clone(), name: dir.clone(), mode: 0o755 });
        let made = made.await.map_err(|e| ("mkdir", e))?;
        let open = self.peers.new_open(NodeId::from_digest(HOME));
        let create = Create {
            parent: made.file.clone(),
            name: temporary.clone(),
            open,
            mode: 0o600,
            access: Access::ReadWrite,
            flags: OpenFlags::EXCLUSIVE | OpenFlags::APPEND,
        };
        let file = self.call(create).await.map_err(|e| ("create", e))?.entry.file;
        let result = self.fill(open, round).await;
        let released = self.call(Release { open }).await.map_err(|e| ("release", e));
        result.and(released)?;
        let rename = Rename {
            parent: made.file.clone(),
            name: temporary,
            new_parent: parent.clone(),
            new_name: last.clone(),
            flags: RenameFlags::NOREPLACE,
        };
        self.call(rename).await.map_err(|e| ("rename", e))?;
        let link = Link { file, parent: made.file.clone(), name: last.clone() };
        self.call(link).await.map_err(|e| ("link", e))?;
        let unlink = Unlink { parent: made.file, name: last };
        self.call(unlink).await.map_err(|e| ("unlink", e))?;
        self.call(RemoveDir { parent, name: dir }).await.map_err(|e| ("rmdir", e))
    }

    async fn fill(&self, open: OpenId, round: usize) -> Result<(), (&'static str, Errno)> {
        let lock = |kind| SetLock {
            open,
            owner: LockOwner(1),
            family: LockFamily::Range,
            kind,
            range: LockRange::ALL,
            wait: kind != LockKind::Unlock,
            taking: Taking::default(),
        };
        self.call(lock(LockKind::Exclusive)).await.map_err(|e| ("lock", e))?;
        for block in 0..8 {
            let data = Bytes::from(vec![(round + block) as u8; 512]);
            let write = Write { open, offset: 0, data, pages: false, known: None };
            let written = self.call(write).await.map_err(|e| ("write", e))?;
            if written.offset != block as u64 * 512 {
                return Err(("write twice", Errno::Range));
            }
        }
        let read = self.call(Read { open, offset: 0, size: 8_192, pages: false });
        let data = read.await.map_err(|e| ("read", e))?.data;
        if data.len() != 4_096 {
            return Err(("read", Errno::Range));
        }
        self.call(Sync { open, data_only: true }).await.map_err(|e| ("sync", e))?;
        self.call(lock(LockKind::Unlock)).await.map_err(|e| ("unlock", e))?;
        let flush = Flush { open, owner: Some(LockOwner(1)) };
        self.call(flush).await.map_err(|e| ("flush", e))
    }
}

fn name(text: &str) -> FileName {
    FileName::parse(text.as_bytes().to_vec()).expect("a good name")
}

/// Runs the work of four callers while `disturb` is done again and again.
async fn under(
    node: &Arc<Node>,
    rounds: usize,
    disturb: impl Fn(&Node),
) -> Vec<(usize, &'static str, Errno)> {
    let mount = Mount::of(node).await;
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        callers.spawn(mount.clone().work(format!("c{caller}"), rounds));
    }
    let mut failed = Vec::new();
    loop {
        tokio::select! {
            done = callers.join_next() => match done {
                Some(done) => failed.extend(done.expect("no panic")),
                None => return failed,
            },
            () = tokio::time::sleep(Duration::from_millis(60)) => disturb(node),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_and_nothing_is_done_twice_while_connections_break() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let failed = under(&node, 6, |node| node.cut()).await;
    assert_eq!(failed, []);
    let mut left: Vec<_> = std::fs::read_dir(dir.path())
        .expect("readable")
        .map(|entry| entry.expect("readable"))
        .map(|entry| (entry.file_name(), entry.metadata().expect("there").len()))
        .collect();
    left.sort();
    let mut wanted: Vec<_> = (0..4)
        .flat_map(|caller| (0..6).map(move |round| (format!("c{caller}-{round}").into(), 4_096)))
        .collect();
    wanted.sort();
    assert_eq!(left, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_fails_only_what_nobody_can_know_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let failed = under(&node, 6, Node::restart).await;
    for (round, step, errno) in &failed {
        let unknowable = ["mkdir", "create", "rename", "link", "unlink", "rmdir", "write"];
        assert_eq!(*errno, Errno::Io, "{step} in round {round}");
        assert!(unknowable.contains(step), "{step} failed in round {round}");
    }
    // What was not disturbed, or could be done again, is as it should be.
    for caller in 0..4 {
        for round in 0..6 {
            let path = dir.path().join(format!("c{caller}-{round}"));
            if let Ok(metadata) = std::fs::metadata(path) {
                assert_eq!(metadata.len(), 4_096);
            }
        }
    }
    // And afterwards everything works again.
    let mount = Mount::of(&node).await;
    assert_eq!(mount.work("after".to_owned(), 1).await, []);
}
