//! Random sequences of operations through the export and, as system calls of ordinary processes, on
//! another directory: the same answers, the same errors, and in the end the same tree.

use bytes::Bytes;
use mfs::export::Abilities;
use mfs::types::op::{
    CheckAccess, Create, Entry, Fallocate, GetAttr, GetXattr, Link, ListXattr, Lookup, MakeDir,
    MakeNode, MakeSymlink, Open, Read, ReadDir, ReadLink, Release, RemoveDir, RemoveXattr, Rename,
    SetAttributes, SetXattr, Unlink, Write,
};
use mfs::types::{
    Access, AccessMode, Attr, Caller, Errno, FallocateMode, FileKind, OpenFlags, RenameFlags,
    SetAttr, SetXattrMode, XattrName,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::lab::{Lab, name, needs_root, open_id};
use crate::oracle::Oracle;

/// A path from the root; empty is the root.
#[derive(Debug, Clone)]
pub(crate) struct At(pub(crate) Vec<&'static str>);

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Stat(At),
    MakeDir(At, u16),
    MakeNode(At, FileKind, u16),
    Symlink(At, String),
    ReadLink(At),
    Link(At, At),
    Unlink(At),
    RemoveDir(At),
    Rename(At, At, RenameFlags),
    SetMode(At, u16),
    SetOwner(At, Option<u32>, Option<u32>),
    SetSize(At, u64),
    Check(At, AccessMode),
    List(At),
    SetXattr(At, String, Vec<u8>, SetXattrMode),
    GetXattr(At, String),
    ListXattr(At),
    RemoveXattr(At, String),
    Open { at: At, slot: usize, access: Access, truncate: bool },
    Create { at: At, slot: usize, access: Access, mode: u16, exclusive: bool, truncate: bool },
    Read(usize, u64, u32),
    Write(usize, u64, Vec<u8>),
    StatOpen(usize),
    SetModeOpen(usize, u16),
    SetSizeOpen(usize, u64),
    Fallocate(usize, FallocateMode, u64, u64),
    Close(usize),
}

/// What is compared of attributes: all but numbers, times and allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: FileKind,
    pub(crate) mode: u16,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Facts(Facts),
    Bytes(Vec<u8>),
    Names(Vec<String>),
    Number(u64),
}

pub(crate) type Result = std::result::Result<Answer, Errno>;

// === impl Op ===

impl Op {
    /// The open it is about.
    pub(crate) fn slot(&self) -> Option<usize> {
        match self {
            Self::Read(slot, ..)
            | Self::Write(slot, ..)
            | Self::StatOpen(slot)
            | Self::SetModeOpen(slot, _)
            | Self::SetSizeOpen(slot, _)
            | Self::Fallocate(slot, ..)
            | Self::Close(slot) => Some(*slot),
            _ => None,
        }
    }

    /// The same with another open.
    fn shift_slot(mut self, by: usize) -> Self {
        match &mut self {
            Self::Read(slot, ..)
            | Self::Write(slot, ..)
            | Self::StatOpen(slot)
            | Self::SetModeOpen(slot, _)
            | Self::SetSizeOpen(slot, _)
            | Self::Fallocate(slot, ..)
            | Self::Close(slot)
            | Self::Open { slot, .. }
            | Self::Create { slot, .. } => *slot += by,
            _ => {}
        }
        self
    }
}

impl From<Attr> for Answer {
    fn from(attr: Attr) -> Self {
        Self::Facts(Facts {
            kind: attr.kind,
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
        })
    }
}

/// The same operation through the export.
fn through_export(lab: &Lab, caller: &Caller, op: &Op) -> Result {
    let reach = |at: &At| -> std::result::Result<Entry, Errno> {
        let mut found = lab.export.root()?;
        for part in &at.0 {
            let parent = found.file.clone();
            found = lab.call(caller, Lookup { parent, name: name(part), keep: false })?;
        }
        Ok(found)
    };
    let parent = |at: &At| -> std::result::Result<_, Errno> {
        let (last, way) = at.0.split_last().expect("never the root");
        let directory = reach(&At(way.to_vec()))?;
        // As the kernel of the caller's node does, which walks the way.
        match directory.attr.kind {
            FileKind::Directory => Ok((directory.file, name(last))),
            _ => Err(Errno::NotDir),
        }
    };
    let file = |at: &At| Ok::<_, Errno>(reach(at)?.file);
    let xattr = |text: &str| XattrName::parse(text.as_bytes().to_vec()).expect("a name");
    let set = |at: &At, set| -> Result {
        let change = SetAttributes { file: file(at)?, open: None, set };
        Ok(lab.call(caller, change)?.into())
    };
    let set_open = |slot: usize, set| -> Result {
        let open = Some(open_id(slot as u64));
        let change = SetAttributes { file: lab.root(), open, set };
        Ok(lab.call(caller, change)?.into())
    };
    let entry = |entry: Entry| Answer::from(entry.attr);
    let done = |(): ()| Answer::Done;
    let bytes = |bytes: Bytes| Answer::Bytes(bytes.to_vec());
    match op {
        Op::Stat(at) => reach(at).map(entry),
        Op::MakeDir(at, mode) => {
            let (parent, name) = parent(at)?;
            lab.call(caller, MakeDir { parent, name, mode: *mode }).map(entry)
        }
        Op::MakeNode(at, kind, mode) => {
            let (parent, name) = parent(at)?;
            let make = MakeNode { parent, name, kind: *kind, mode: *mode, device: (1, 3) };
            lab.call(caller, make).map(entry)
        }
        Op::Symlink(at, target) => {
            let (parent, name) = parent(at)?;
            let target = Bytes::copy_from_slice(target.as_bytes());
            lab.call(caller, MakeSymlink { parent, name, target }).map(entry)
        }
        Op::ReadLink(at) => lab.call(caller, ReadLink { file: file(at)? }).map(bytes),
        Op::Link(from, to) => {
            let file = file(from)?;
            let (parent, name) = parent(to)?;
            lab.call(caller, Link { file, parent, name }).map(entry)
        }
        Op::Unlink(at) => {
            let (parent, name) = parent(at)?;
            lab.call(caller, Unlink { parent, name }).map(done)
        }
        Op::RemoveDir(at) => {
            let (parent, name) = parent(at)?;
            lab.call(caller, RemoveDir { parent, name }).map(done)
        }
        Op::Rename(from, to, flags) => {
            let ((old, name), (new_parent, new_name)) = (parent(from)?, parent(to)?);
            let rename = Rename { parent: old, name, new_parent, new_name, flags: *flags };
            lab.call(caller, rename).map(done)
        }
        Op::SetMode(at, mode) => set(at, SetAttr { mode: Some(*mode), ..SetAttr::default() }),
        Op::SetOwner(at, uid, gid) => {
            set(at, SetAttr { uid: *uid, gid: *gid, ..SetAttr::default() })
        }
        Op::SetSize(at, size) => set(at, SetAttr { size: Some(*size), ..SetAttr::default() }),
        Op::Check(at, mode) => {
            let found = reach(at)?;
            if found.attr.kind == FileKind::Symlink {
                return Ok(Answer::Done);
            }
            lab.call(caller, CheckAccess { file: found.file, mode: *mode }).map(done)
        }
        Op::List(at) => list(lab, caller, &file(at)?),
        Op::SetXattr(at, name, value, mode) => {
            let (file, value) = (file(at)?, Bytes::copy_from_slice(value));
            lab.call(caller, SetXattr { file, name: xattr(name), value, mode: *mode }).map(done)
        }
        Op::GetXattr(at, name) => {
            lab.call(caller, GetXattr { file: file(at)?, name: xattr(name) }).map(bytes)
        }
        Op::ListXattr(at) => {
            let names = lab.call(caller, ListXattr { file: file(at)? })?;
            let text = |name: &XattrName| String::from_utf8_lossy(name.as_bytes()).into_owned();
            let mut names: Vec<_> = names.iter().map(text).collect();
            names.sort();
            Ok(Answer::Names(names))
        }
        Op::RemoveXattr(at, name) => {
            lab.call(caller, RemoveXattr { file: file(at)?, name: xattr(name) }).map(done)
        }
        Op::Open { at, slot, access, truncate } => {
            let mut flags = OpenFlags::empty();
            flags.set(OpenFlags::TRUNCATE, *truncate);
            let (file, open) = (file(at)?, open_id(*slot as u64));
            let open = Open { file, open, access: *access, flags, proof: None };
            // A new open, not the repetition of the one that is in the slot.
            let old = mfs::export::Opens::find(&lab.opens, open.open);
            lab.call(caller, Release { open: open.open })?;
            let opened = lab.call(caller, open.clone());
            if let (Err(_), Some(old)) = (&opened, old) {
                mfs::export::Opens::keep(&lab.opens, open.open, old)?;
            }
            opened.map(|opened| Answer::from(opened.entry.attr))
        }
        Op::Create { at, slot, access, mode, exclusive, truncate } => {
            let mut flags = OpenFlags::empty();
            flags.set(OpenFlags::EXCLUSIVE, *exclusive);
            flags.set(OpenFlags::TRUNCATE, *truncate);
            let (parent, name) = parent(at)?;
            let open = open_id(*slot as u64);
            let create = Create { parent, name, open, mode: *mode, access: *access, flags };
            lab.call(caller, create).map(|opened| entry(opened.entry))
        }
        Op::Read(slot, offset, size) => {
            let read =
                Read { open: open_id(*slot as u64), offset: *offset, size: *size, pages: false };
            lab.call(caller, read).map(|read| bytes(read.data))
        }
        Op::Write(slot, offset, data) => {
            let data = Bytes::copy_from_slice(data);
            let write = Write {
                open: open_id(*slot as u64),
                offset: *offset,
                data,
                pages: false,
                known: None,
            };
            lab.call(caller, write).map(|written| Answer::Number(u64::from(written.size)))
        }
        Op::StatOpen(slot) => {
            let open = Some(open_id(*slot as u64));
            lab.call(caller, GetAttr { file: lab.root(), open }).map(Answer::from)
        }
        Op::SetModeOpen(slot, mode) => {
            set_open(*slot, SetAttr { mode: Some(*mode), ..SetAttr::default() })
        }
        Op::SetSizeOpen(slot, size) => {
            set_open(*slot, SetAttr { size: Some(*size), ..SetAttr::default() })
        }
        Op::Fallocate(slot, mode, offset, length) => {
            let (open, offset, length) = (open_id(*slot as u64), *offset, *length);
            lab.call(caller, Fallocate { open, mode: *mode, offset, length }).map(done)
        }
        Op::Close(slot) => lab.call(caller, Release { open: open_id(*slot as u64) }).map(done),
    }
}

fn list(lab: &Lab, caller: &Caller, directory: &mfs::types::FileId) -> Result {
    let open = open_id(1 << 40);
    let (access, flags) = (Access::Read, OpenFlags::empty());
    let opened =
        lab.call(caller, Open { file: directory.clone(), open, access, flags, proof: None });
    // open(2) with O_DIRECTORY says it before it asks for rights.
    let kind = lab.attr(directory)?.kind;
    if kind != FileKind::Directory {
        lab.call(caller, Release { open })?;
        return Err(Errno::NotDir);
    }
    opened?;
    let listing = lab.call(caller, ReadDir { open, cookie: 0, limit: 1000, attributes: true })?;
    lab.call(caller, Release { open })?;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut names: Vec<_> = listing.entries.iter().map(|e| text(e.name.as_bytes())).collect();
    names.sort();
    Ok(Answer::Names(names))
}

/// Few names, so that they meet; deep enough for directories to be moved into each other.
fn path() -> impl Strategy<Value = At> {
    prop::collection::vec(select(vec!["a", "b", "d", "e"]), 1..4).prop_map(At)
}

fn mode() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => select(vec![0o777_u16, 0o755, 0o700, 0o644, 0o666, 0o600]),
        2 => select(vec![0o2775_u16, 0o4755, 0o6755, 0o1777, 0o750, 0o070, 0o007, 0]),
        1 => 0_u16..0o10000,
    ]
}

fn slot() -> impl Strategy<Value = usize> {
    1_usize..5
}

fn access() -> impl Strategy<Value = Access> {
    select(vec![Access::Read, Access::Write, Access::ReadWrite])
}

fn id() -> impl Strategy<Value = Option<u32>> {
    select(vec![None, Some(0), Some(1001), Some(1002), Some(2001)])
}

fn xattr() -> impl Strategy<Value = String> {
    select(vec!["user.a", "user.b", "trusted.t", "security.x", "nonsense", "user."])
        .prop_map(str::to_owned)
}

fn op() -> impl Strategy<Value = Op> {
    let kind =
        select(vec![FileKind::Regular, FileKind::Fifo, FileKind::Socket, FileKind::CharDevice]);
    let rename = prop_oneof![
        6 => Just(RenameFlags::empty()),
        1 => Just(RenameFlags::NOREPLACE),
        1 => Just(RenameFlags::EXCHANGE),
        1 => Just(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE),
        1 => Just(RenameFlags::WHITEOUT),
    ];
    let check = (0_u32..8).prop_map(AccessMode::from_bits_truncate);
    let set = select(vec![SetXattrMode::Any, SetXattrMode::Create, SetXattrMode::Replace]);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    let target = select(vec!["a", "d/e", "/etc/passwd", "../..", "nowhere"]);
    let space = (0_u32..64).prop_map(FallocateMode::from_bits_truncate);
    let offset = prop_oneof![8 => 0_u64..20_000, 1 => Just(4096), 1 => Just(1 << 50)];
    prop_oneof![
        3 => path().prop_map(Op::Stat),
        6 => (path(), mode()).prop_map(|(at, mode)| Op::MakeDir(at, mode)),
        2 => (path(), kind, mode()).prop_map(|(at, kind, mode)| Op::MakeNode(at, kind, mode)),
        1 => (path(), target).prop_map(|(at, to)| Op::Symlink(at, to.to_owned())),
        1 => path().prop_map(Op::ReadLink),
        3 => (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        3 => path().prop_map(Op::Unlink),
        2 => path().prop_map(Op::RemoveDir),
        5 => (path(), path(), rename).prop_map(|(from, to, flags)| Op::Rename(from, to, flags)),
        4 => (path(), mode()).prop_map(|(at, mode)| Op::SetMode(at, mode)),
        3 => (path(), id(), id())
            // chown(-1, -1) changes set-id bits; a request that changes nothing cannot be made here.
            .prop_filter("an owner", |(_, uid, gid)| uid.is_some() || gid.is_some())
            .prop_map(|(at, uid, gid)| Op::SetOwner(at, uid, gid)),
        2 => (path(), 0_u64..10_000).prop_map(|(at, size)| Op::SetSize(at, size)),
        2 => (path(), check).prop_map(|(at, mode)| Op::Check(at, mode)),
        3 => path().prop_map(Op::List),
        2 => (path(), xattr(), value, set).prop_map(|(at, n, v, m)| Op::SetXattr(at, n, v, m)),
        1 => (path(), xattr()).prop_map(|(at, name)| Op::GetXattr(at, name)),
        1 => path().prop_map(Op::ListXattr),
        1 => (path(), xattr()).prop_map(|(at, name)| Op::RemoveXattr(at, name)),
        3 => (path(), slot(), access(), any::<bool>())
            .prop_map(|(at, slot, access, truncate)| Op::Open { at, slot, access, truncate }),
        6 => (path(), slot(), access(), mode(), any::<bool>(), any::<bool>()).prop_map(
            |(at, slot, access, mode, exclusive, truncate)| Op::Create {
                at, slot, access, mode, exclusive, truncate
            }
        ),
        3 => (slot(), offset.clone(), 0_u32..9000).prop_map(|(s, o, n)| Op::Read(s, o, n)),
        5 => (slot(), offset.clone(), prop::collection::vec(any::<u8>(), 0..900))
            .prop_map(|(slot, offset, data)| Op::Write(slot, offset, data)),
        2 => slot().prop_map(Op::StatOpen),
        1 => (slot(), mode()).prop_map(|(slot, mode)| Op::SetModeOpen(slot, mode)),
        2 => (slot(), 0_u64..10_000).prop_map(|(slot, size)| Op::SetSizeOpen(slot, size)),
        2 => (slot(), space, offset, 0_u64..9000).prop_map(|(s, m, o, l)| Op::Fallocate(s, m, o, l)),
        2 => slot().prop_map(Op::Close),
    ]
}

/// Root, and two users who share a group.
fn callers() -> Vec<Caller> {
    let mut one = Caller::user(1001, 1001, &[2001]);
    one.umask = 0o022;
    let mut two = Caller::user(1002, 1002, &[1001, 2001]);
    two.umask = 0o002;
    vec![Caller::root(), one, two]
}

/// Everything in a tree, by path, as root sees it.
fn snapshot(lab_or_local: &dyn Fn(&Op) -> Result, at: &At, out: &mut Vec<(String, Result)>) {
    let path = at.0.join("/");
    out.push((format!("{path}: "), lab_or_local(&Op::Stat(at.clone()))));
    out.push((format!("{path}: attributes"), lab_or_local(&Op::ListXattr(at.clone()))));
    let listed = lab_or_local(&Op::List(at.clone()));
    if let Ok(Answer::Names(names)) = &listed {
        for child in ["a", "b", "d", "e"].iter().filter(|n| names.iter().any(|name| name == *n)) {
            let mut inner = at.clone();
            inner.0.push(child);
            snapshot(lab_or_local, &inner, out);
        }
    }
    let open = Op::Open { at: at.clone(), slot: 9, access: Access::Read, truncate: false };
    if lab_or_local(&open).is_ok() {
        out.push((format!("{path}: data"), lab_or_local(&Op::Read(9, 0, 30_000))));
        let closed = lab_or_local(&Op::Close(9));
        assert_eq!(closed, Ok(Answer::Done));
    }
    out.push((format!("{path}: names"), listed));
}

fn run(ops: &[(usize, Op)], abilities: Abilities) -> std::result::Result<(), TestCaseError> {
    let lab = Lab::with(abilities, |settings| settings);
    let local = tempfile::tempdir().expect("a temporary directory");
    let callers = callers();
    for directory in [lab.dir.path(), local.path()] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory, open).expect("chmod");
    }
    let oracle = Oracle::new(local.path(), &callers);
    for (step, (user, op)) in ops.iter().enumerate() {
        let ours = through_export(&lab, &callers[*user], op);
        let theirs = oracle.execute(*user, op);
        prop_assert_eq!(ours, theirs, "step {}: user {}: {:?}", step, user, op);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let root = At(Vec::new());
    snapshot(&|op| through_export(&lab, &callers[0], op), &root, &mut ours);
    snapshot(&|op| oracle.execute(0, op), &root, &mut theirs);
    prop_assert_eq!(ours, theirs);
    Ok(())
}

#[test]
fn an_export_answers_as_the_local_file_system_does() {
    needs_root();
    let cases = std::env::var("MFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    };
    // An open is used by who opened it: through a descriptor passed on to another user, the local kernel
    // goes by who writes, and the export by who opened.
    let of_user = (0_usize..3, op()).prop_map(|(user, op)| (user, op.shift_slot(user * 10)));
    proptest!(config, |(ops in prop::collection::vec(of_user, 1..120))| {
        run(&ops, Abilities::ALL)?;
    });
}

#[test]
fn an_export_answers_the_same_where_the_kernel_offers_less() {
    needs_root();
    let config = ProptestConfig { cases: 25, failure_persistence: None, ..Default::default() };
    let of_user = (0_usize..3, op()).prop_map(|(user, op)| (user, op.shift_slot(user * 10)));
    let less = select(crate::abilities::LESS.to_vec());
    proptest!(config, |(less in less, ops in prop::collection::vec(of_user, 1..120))| {
        run(&ops, less)?;
    });
}
