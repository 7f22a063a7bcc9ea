//! The mounted tree without a kernel: what happens when a node does not answer.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use mfs::client::{Peers, PeersConfig};
use mfs::membership::{Member, MemberState, View};
use mfs::net::{Connector, Dialling, IoStream};
use mfs::types::op::{LockKind, LockRange};
use mfs::types::{
    Access, AccessMode, FallocateMode, FileKind, LockOwner, NodeName, NodeNumber, OpenFlags,
    OpenId, RenameFlags, SeekWhence, SetAttr, SetXattrMode, XattrName,
};
use mfs::wire::Purpose;
use tokio::io::DuplexStream;

use super::handle_map::{Fh, OpenFile, Opener};
use super::nodes::Ways;
use super::remote::Remote;
use super::*;

/// Connects at once to somebody who never says a word.
#[derive(Default)]
struct Silent {
    ends: mfs::sync::Mutex<Vec<DuplexStream>>,
}

impl Connector for Silent {
    fn connect<'a>(&'a self, _: &'a Member, _: Purpose) -> Dialling<'a> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        self.ends.lock().push(theirs);
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn IoStream>) })
    }
}

const TERMS: Terms = Terms { timeo: Duration::from_secs(30), hard: false };

fn node(number: u8) -> NodeId {
    NodeId::from_digest([number; 32])
}

fn member(number: u8, state: MemberState) -> Member {
    Member {
        id: node(number),
        name: NodeName::parse(&format!("n{number}")).expect("a name"),
        number: NodeNumber::new(number.into()).expect("a number"),
        addresses: vec!["192.0.2.1:7230".parse().expect("an address")],
        state,
        since: 0,
        incarnation: 1,
        version: String::new(),
    }
}

/// A mount whose node `n2` is connected and silent, and `n3` dead; a file and a directory of each are known
/// to the kernel, and open.
struct Quiet {
    fs: Arc<MountedFs>,
    request: Request,
    ino: InodeNo,
    fh: Fh,
    _view: tokio::sync::watch::Sender<View>,
}

impl Quiet {
    fn of(number: u8) -> Self {
        let fs = MountedFs::new(TERMS);
        let members = [
            member(1, MemberState::Alive),
            member(2, MemberState::Alive),
            member(3, MemberState::Dead),
        ];
        let view = View::new(node(1), members);
        let (sender, receiver) = tokio::sync::watch::channel(view.clone());
        let peers = Peers::new(PeersConfig::new(), Arc::new(Silent::default()), receiver);
        let remote = Remote::new(Arc::new(peers), node(1), TERMS);
        fs.nodes.set_view(view);
        fs.nodes.set_ways(Ways { remote: Some(remote), local: None });
        let file = FileId::from_bytes(Bytes::from_static(b"a file")).expect("an id");
        let home = InodeNo::new(50).expect("not 0");
        let subject = Subject::File { node: node(number), file, home };
        let ino = fs.inodes.admit(&subject, subject.number());
        let fh = fs.handles.insert(handle_map::Handle::Open(Box::new(OpenFile {
            ino,
            home,
            node: node(number),
            backing: fs.nodes.backing(node(number)).expect("a way"),
            access: Access::ReadWrite,
            opener: Opener::AtHome(Caller::root(), OpenId::FIRST),
            listing: tokio::sync::Mutex::default(),
            kept: OnceLock::new(),
            following: None,
        })));
        let asker = Asker { uid: 0, gid: 0, tid: 0 };
        Self { fs, request: Request::of(asker), ino, fh, _view: sender }
    }

    /// The error of every operation that needs the node.
    async fn every_operation(&self) -> Vec<(&'static str, Option<Errno>)> {
        let Self { fs, request: r, ino, fh, .. } = self;
        let (ino, fh, asker) = (*ino, *fh, r.asker);
        let name = |text: &'static str| FileName::parse(text.as_bytes()).expect("a name");
        let xattr = || XattrName::parse("user.x".as_bytes()).expect("a name");
        let (kind, none) = (LockKind::Exclusive, OpenFlags::empty());
        let (owner, range) = (LockOwner(1), LockRange::ALL);
        let (device, data) = ((0, 0), Bytes::from_static(b"x"));
        let (mode, access) = (0o644, Access::Read);
        vec![
            ("lookup", fs.lookup(r, ino, name("x")).await.err()),
            ("getattr", fs.getattr(r, ino, None).await.err()),
            ("setattr", fs.setattr(r, ino, None, SetAttr::default()).await.err()),
            ("readlink", fs.readlink(r, ino).await.err()),
            ("mknod", fs.mknod(r, ino, name("x"), FileKind::Fifo, mode, device).await.err()),
            ("mkdir", fs.mkdir(r, ino, name("x"), mode).await.err()),
            ("symlink", fs.symlink(r, ino, name("x"), data.clone()).await.err()),
            ("link", fs.link(r, ino, ino, name("x")).await.err()),
            ("unlink", fs.unlink(r, ino, name("x")).await.err()),
            ("rmdir", fs.rmdir(r, ino, name("x")).await.err()),
            (
                "rename",
                fs.rename(r, (ino, name("x")), (ino, name("y")), RenameFlags::empty()).await.err(),
            ),
            ("open", fs.open(r, ino, access, none).await.err()),
            ("create", fs.create(r, ino, name("x"), mode, access, none).await.err()),
            ("opendir", fs.opendir(r, ino).await.err()),
            ("readdir", fs.readdir(asker, ino, fh, 2).await.err()),
            ("read", fs.read(asker, fh, (0, 1), false).await.err()),
            ("write", fs.write(asker, fh, 0, data.clone(), false).await.err()),
            ("flush", fs.flush(asker, fh, owner).await.err()),
            ("fsync", fs.fsync(asker, fh, false).await.err()),
            ("fallocate", fs.fallocate(asker, fh, FallocateMode::empty(), 0, 1).await.err()),
            ("seek", fs.seek(asker, fh, 0, SeekWhence::Data).await.err()),
            ("copy_range", fs.copy_range(asker, (fh, 0), (fh, 9), 1).await.err()),
            ("get_lock", fs.get_lock(asker, fh, owner, kind, range).await.err()),
            ("set_lock", fs.set_lock(asker, fh, owner, kind, range, false).await.err()),
            ("access", fs.access(r, ino, AccessMode::READ).await.err()),
            ("statfs", fs.statfs(r, ino).await.err()),
            ("getxattr", fs.getxattr(r, ino, xattr()).await.err()),
            ("setxattr", fs.setxattr(r, ino, xattr(), data, SetXattrMode::Any).await.err()),
            ("listxattr", fs.listxattr(r, ino).await.err()),
            ("removexattr", fs.removexattr(r, ino, xattr()).await.err()),
        ]
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_ends_when_its_node_never_answers() {
    let quiet = Quiet::of(2);
    for (operation, errno) in quiet.every_operation().await {
        let ended = matches!(errno, Some(Errno::TimedOut | Errno::HostDown));
        assert!(ended, "{operation}: {errno:?}");
    }
    let leaving = quiet.fs.let_go(quiet.fh).unwrap();
    quiet.fs.release(leaving).await;
}

#[tokio::test(start_paused = true)]
async fn every_operation_on_a_dead_node_fails_at_once() {
    let quiet = Quiet::of(3);
    let began = tokio::time::Instant::now();
    for (operation, errno) in quiet.every_operation().await {
        assert_eq!(errno, Some(Errno::HostDown), "{operation}");
    }
    assert!(began.elapsed() < TERMS.timeo, "no operation waited for its deadline");
}

#[tokio::test(start_paused = true)]
async fn the_top_never_waits_for_a_node() {
    let quiet = Quiet::of(2);
    let began = tokio::time::Instant::now();
    let Quiet { fs, request, .. } = &quiet;
    let name = |text: &'static str| FileName::parse(text.as_bytes()).expect("a name");
    let fh = fs.opendir(request, InodeNo::ROOT).await.unwrap();
    let page = fs.readdir(request.asker, InodeNo::ROOT, fh, 0).await.unwrap();
    assert_eq!(page.entries.len(), 5, "two dots and three nodes");
    for node in ["n1", "n2", "n3", "here", "2"] {
        let attr = fs.lookup(request, InodeNo::ROOT, name(node)).await.unwrap();
        assert!(fs.getattr(request, attr.ino, None).await.is_ok(), "{node}");
    }
    assert!(fs.statfs(request, InodeNo::ROOT).await.is_ok());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_was_forgotten_is_stale() {
    let quiet = Quiet::of(2);
    quiet.fs.forget(quiet.ino, 1);
    let gone = quiet.fs.readlink(&quiet.request, quiet.ino).await;
    assert_eq!(gone, Err(Errno::Stale));
}
