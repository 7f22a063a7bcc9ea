//! Servers that do not answer, connections that break at every message, an mfsd that is restarted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::client::testing::network::{Fault, Network, Node};
use crate::client::testing::server::file;
use crate::client::{Patience, Peers, PeersConfig};
use crate::types::op::*;
use crate::types::*;
use crate::wire::features;

fn name(text: &str) -> FileName {
    FileName::parse(text.as_bytes().to_vec()).expect("a good name")
}

/// A client of a network of one node.
fn one_node() -> (Peers, Arc<Node>) {
    let (network, view) = Network::new(1);
    let node = Arc::clone(network.node(1));
    let peers = Peers::new(PeersConfig::new(), network, view.subscribe());
    std::mem::forget(view); // as long as the test runs
    (peers, node)
}

/// One of each operation.
fn every_operation() -> Vec<Operation> {
    let (parent, name) = (file("root"), name("x"));
    let (open, offset) = (OpenId::FIRST, 0);
    let target = Bytes::from_static(b"t");
    let xattr = XattrName::parse(b"user.x".to_vec()).expect("a good name");
    let (owner, range) = (LockOwner(1), LockRange::ALL);
    let access = Access::ReadWrite;
    let flags = OpenFlags::empty();
    vec![
        Lookup { parent: parent.clone(), name: name.clone(), keep: false }.into(),
        GetAttr { file: parent.clone(), open: None }.into(),
        SetAttributes { file: parent.clone(), open: None, set: SetAttr::default() }.into(),
        ReadLink { file: parent.clone() }.into(),
        MakeNode {
            parent: parent.clone(),
            name: name.clone(),
            kind: FileKind::Fifo,
            mode: 0,
            device: (0, 0),
        }
        .into(),
        MakeDir { parent: parent.clone(), name: name.clone(), mode: 0 }.into(),
        MakeSymlink { parent: parent.clone(), name: name.clone(), target }.into(),
        Link { file: parent.clone(), parent: parent.clone(), name: name.clone() }.into(),
        Unlink { parent: parent.clone(), name: name.clone() }.into(),
        RemoveDir { parent: parent.clone(), name: name.clone() }.into(),
        Rename {
            parent: parent.clone(),
            name: name.clone(),
            new_parent: parent.clone(),
            new_name: name.clone(),
            flags: RenameFlags::empty(),
        }
        .into(),
        Open { file: parent.clone(), open, access, flags, proof: None }.into(),
        Create { parent: parent.clone(), name: name.clone(), open, mode: 0, access, flags }.into(),
        Read { open, offset, size: 1, pages: false }.into(),
        Write { open, offset, data: Bytes::from_static(b"x"), pages: false, known: None }.into(),
        Flush { open, owner: None }.into(),
        Release { open }.into(),
        Sync { open, data_only: false }.into(),
        ReadDir { open, cookie: 0, limit: 1, attributes: false }.into(),
        StatFsOf { file: parent.clone() }.into(),
        CheckAccess { file: parent.clone(), mode: AccessMode::READ }.into(),
        GetXattr { file: parent.clone(), name: xattr.clone() }.into(),
        SetXattr {
            file: parent.clone(),
            name: xattr.clone(),
            value: Bytes::new(),
            mode: SetXattrMode::Any,
        }
        .into(),
        ListXattr { file: parent.clone() }.into(),
        RemoveXattr { file: parent, name: xattr }.into(),
        Fallocate { open, mode: FallocateMode::empty(), offset, length: 1 }.into(),
        Seek { open, offset, whence: SeekWhence::Data }.into(),
        CopyRange { source: open, source_offset: 0, target: open, target_offset: 9, length: 1 }
            .into(),
        GetLock { open, owner, kind: LockKind::Shared, range }.into(),
        SetLock {
            open,
            owner,
            family: LockFamily::Range,
            kind: LockKind::Shared,
            range,
            wait: false,
            taking: Taking::default(),
        }
        .into(),
    ]
}

/// Any operation as a call whose answer is taken as it is.
#[derive(Debug, Clone)]
struct Any(Operation);

impl From<Any> for Operation {
    fn from(any: Any) -> Self {
        any.0
    }
}

impl Call for Any {
    type Output = Outcome;

    fn answer(outcome: Outcome) -> Option<Outcome> {
        Some(outcome)
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_ends_at_its_deadline_when_the_server_never_answers() {
    let operations = every_operation();
    let mut seen: Vec<_> = operations.iter().map(Operation::name).collect();
    seen.sort_unstable();
    let mut all = Operation::NAMES.to_vec();
    all.sort_unstable();
    assert_eq!(seen, all, "an operation is missing in this test");

    let (peers, node) = one_node();
    let patience = Patience::soft(Duration::from_secs(7));
    peers.root(node.id, &patience).await.unwrap();
    node.hang(true);
    for operation in operations {
        let before = Instant::now();
        let name = operation.name();
        let result = peers.call(node.id, &Caller::root(), Any(operation), &patience).await;
        assert_eq!(result, Err(Errno::TimedOut), "{name}");
        assert_eq!(before.elapsed().as_secs(), 7, "{name}");
    }
}

/// A bit of everything, one after the other; every step must succeed.
async fn workload(peers: &Peers, node: NodeId) -> Result<(), (Errno, &'static str)> {
    let root = Caller::root();
    let patience = Patience::default();
    let open = peers.new_open(node);
    let flags = OpenFlags::TRUNCATE;
    let access = Access::ReadWrite;
    let lock = |kind| SetLock {
        open,
        owner: LockOwner(3),
        family: LockFamily::Range,
        kind,
        range: LockRange::ALL,
        wait: kind != LockKind::Unlock,
        taking: Taking::default(),
    };
    let data = Bytes::from_static(b"x");
    let steps: Vec<Operation> = vec![
        Lookup { parent: file("root"), name: name("a"), keep: false }.into(),
        MakeDir { parent: file("root"), name: name("a"), mode: 0o755 }.into(),
        Create { parent: file("root"), name: name("b"), open, mode: 0o644, access, flags }.into(),
        lock(LockKind::Exclusive).into(),
        Write { open, offset: 0, data: data.clone(), pages: false, known: None }.into(),
        Write { open, offset: 1, data, pages: false, known: None }.into(),
        Read { open, offset: 0, size: 2, pages: false }.into(),
        Sync { open, data_only: false }.into(),
        Rename {
            parent: file("root"),
            name: name("b"),
            new_parent: file("root"),
            new_name: name("c"),
            flags: RenameFlags::empty(),
        }
        .into(),
        lock(LockKind::Unlock).into(),
        Flush { open, owner: Some(LockOwner(3)) }.into(),
        Release { open }.into(),
        Unlink { parent: file("root"), name: name("c") }.into(),
    ];
    for step in steps {
        let name = step.name();
        peers.call(node, &root, Any(step), &patience).await.map_err(|errno| (errno, name))?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn connections_that_break_at_any_message_change_nothing() {
    let (peers, node) = one_node();
    workload(&peers, node.id).await.unwrap();
    let undisturbed = std::mem::take(&mut node.server.lock().done);
    assert_eq!(undisturbed.len(), 13);
    for nth in 0..undisturbed.len() as u64 {
        for fault in [Fault::CutBefore, Fault::CutAfter] {
            node.plan(nth, fault);
            workload(&peers, node.id).await.unwrap_or_else(|e| panic!("{fault:?} {nth}: {e:?}"));
            let done = std::mem::take(&mut node.server.lock().done);
            let once = |done: &[Operation]| -> Vec<_> {
                done.iter().filter(|o| o.is_once_only()).map(Operation::name).collect()
            };
            assert_eq!(once(&done), once(&undisturbed), "{fault:?} at {nth}");
            let server = node.server.lock();
            assert!(server.opens.is_empty() && server.locks.is_empty(), "{fault:?} at {nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_mfsd_at_any_message_does_nothing_twice_and_leaves_only_the_unknown_out() {
    let unknowable = ["MakeDir", "Rename", "Unlink"];
    let (peers, node) = one_node();
    for nth in 0..13_u64 {
        for fault in [Fault::RestartBefore, Fault::RestartAfter] {
            node.server.lock().done.clear();
            node.plan(nth, fault);
            let result = workload(&peers, node.id).await;
            let done = std::mem::take(&mut node.server.lock().done);
            for name in unknowable {
                let times = done.iter().filter(|o| o.name() == name).count();
                assert!(times <= 1, "{fault:?} at {nth}: {name} was done {times} times");
            }
            if let Err((errno, step)) = result {
                assert_eq!(errno, Errno::Io, "{fault:?} at {nth}");
                assert!(unknowable.contains(&step), "{fault:?} at {nth}: {step} failed");
            }
            // What a failed workload left open goes with the next restart.
            node.restart();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_mfsd_at_any_message_changes_nothing_if_it_knows_what_became_of_requests() {
    let (peers, node) = one_node();
    node.server.lock().features = features::REPLIES;
    workload(&peers, node.id).await.unwrap();
    let undisturbed = std::mem::take(&mut node.server.lock().done);
    let once = |done: &[Operation]| -> Vec<_> {
        let noted = ["MakeDir", "Create", "Rename", "Unlink"];
        done.iter().map(Operation::name).filter(|name| noted.contains(name)).collect()
    };
    for nth in 0..undisturbed.len() as u64 {
        for fault in [Fault::RestartBefore, Fault::RestartAfter] {
            node.plan(nth, fault);
            workload(&peers, node.id).await.unwrap_or_else(|e| panic!("{fault:?} {nth}: {e:?}"));
            let done = std::mem::take(&mut node.server.lock().done);
            assert_eq!(once(&done), once(&undisturbed), "{fault:?} at {nth}");
            let server = node.server.lock();
            assert!(server.opens.is_empty() && server.locks.is_empty(), "{fault:?} at {nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_nothing_open() {
    let (peers, node) = one_node();
    let patience = Patience::default();
    peers.root(node.id, &patience).await.unwrap();
    let open = peers.new_open(node.id);
    let (access, flags) = (Access::Read, OpenFlags::empty());
    let call = Open { file: file("f"), open, access, flags, proof: None };
    {
        let caller = Caller::root();
        let opening = peers.call(node.id, &caller, call, &patience);
        tokio::pin!(opening);
        // Polled once: it is on its way when it is dropped.
        assert!(
            std::future::poll_fn(|context| {
                std::task::Poll::Ready(opening.as_mut().poll(context).is_pending())
            })
            .await
        );
    }
    let settle = GetAttr { file: file("f"), open: None };
    for _ in 0..3 {
        peers.call(node.id, &Caller::root(), settle.clone(), &patience).await.unwrap();
    }
    let server = node.server.lock();
    assert!(server.opens.is_empty());
    assert!(server.done.iter().any(|o| o.name() == "Open"));
}
