//! Strategies for every value that goes over the wire.

use std::time::Duration;

use bytes::Bytes;
use mfs::types::op::{
    CheckAccess, CopyRange, Create, DirEntry, Entry, Fallocate, Flush, GetAttr, GetLock, GetXattr,
    HeldLock, Link, ListXattr, Listing, LockFamily, LockHolder, LockKind, LockRange, Lookup,
    MakeDir, MakeNode, MakeSymlink, Open, Opened, Operation, Outcome, Read, ReadData, ReadDir,
    ReadLink, Release, RemoveDir, RemoveXattr, Rename, Seek, SetAttributes, SetLock, SetXattr,
    StatFsOf, Sync, Taking, Unlink, Write, Written,
};
use mfs::types::{
    Access, AccessMode, Attr, Caller, Capabilities, DataVersion, Epoch, Errno, ExportId,
    FallocateMode, FileId, FileKind, FileName, Incarnation, InodeNo, Leases, LockOwner, NodeId,
    NodeName, NodeNumber, OpenFlags, OpenId, OpenProof, ParkingToken, RenameFlags, RequestId,
    SeekWhence, Sequence, SessionId, SetAttr, SetTime, SetXattrMode, Slot, StatFs, Timestamp,
    Verifier, XattrName,
};
use mfs::wire::{
    ClientMessage, Failure, Hello, Leased, MAX_IO, Origin, ProtocolCode, Purpose, Recall, Refusal,
    Reply, Request, ReturnLease, ServerMessage, Versions, Welcome,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Data of files in these tests; the limit itself has tests of its own.
const DATA: usize = 300;

// === identifiers ===

pub(crate) fn file() -> impl Strategy<Value = FileId> {
    vec(any::<u8>(), 1..=FileId::MAX_LEN)
        .prop_filter_map("a file id", |bytes| FileId::from_bytes(bytes.into()))
}

pub(crate) fn name() -> impl Strategy<Value = FileName> {
    vec(any::<u8>(), 1..=FileName::MAX_LEN)
        .prop_map(|mut bytes| {
            for byte in &mut bytes {
                if matches!(*byte, 0 | b'/') {
                    *byte = b'x';
                }
            }
            bytes
        })
        .prop_filter_map("a name", |bytes| FileName::parse(bytes).ok())
}

fn xattr() -> impl Strategy<Value = XattrName> {
    vec(1u8.., 1..=XattrName::MAX_LEN)
        .prop_filter_map("a name", |bytes| XattrName::parse(bytes).ok())
}

fn open() -> impl Strategy<Value = OpenId> {
    (1u64..).prop_filter_map("not 0", OpenId::new)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (1u64..).prop_filter_map("not 0", Epoch::new)
}

fn ino() -> impl Strategy<Value = InodeNo> {
    (1u64..1 << 63).prop_filter_map("not 0", InodeNo::new)
}

fn request_id() -> impl Strategy<Value = RequestId> {
    (1u64..).prop_filter_map("not 0", RequestId::new)
}

fn session() -> impl Strategy<Value = SessionId> {
    (1u64..).prop_filter_map("not 0", SessionId::new)
}

fn mode() -> impl Strategy<Value = u16> {
    0u16..=0o7777
}

fn user() -> impl Strategy<Value = u32> {
    0..u32::MAX
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..DATA).prop_map(Bytes::from)
}

fn target() -> impl Strategy<Value = Bytes> {
    vec(1u8.., 1..DATA).prop_map(Bytes::from)
}

fn owner() -> impl Strategy<Value = LockOwner> {
    any::<u64>().prop_map(LockOwner)
}

macro_rules! flags {
    ($($name:ident: $flags:ty;)+) => {$(
        fn $name() -> impl Strategy<Value = $flags> {
            any::<u32>().prop_map(<$flags>::from_bits_truncate)
        }
    )+};
}

flags! {
    open_flags: OpenFlags;
    access_mode: AccessMode;
    rename_flags: RenameFlags;
    fallocate_mode: FallocateMode;
    leases: Leases;
    capabilities: Capabilities;
}

fn access() -> impl Strategy<Value = Access> {
    select(vec![Access::Read, Access::Write, Access::ReadWrite])
}

fn kind() -> impl Strategy<Value = FileKind> {
    prop_oneof![node_kind(), Just(FileKind::Directory), Just(FileKind::Symlink),]
}

fn node_kind() -> impl Strategy<Value = FileKind> {
    use FileKind::{BlockDevice, CharDevice, Fifo, Regular, Socket};
    select(vec![Regular, Fifo, Socket, CharDevice, BlockDevice])
}

fn lock_kind() -> impl Strategy<Value = LockKind> {
    select(vec![LockKind::Shared, LockKind::Exclusive, LockKind::Unlock])
}

fn range() -> impl Strategy<Value = LockRange> {
    (any::<u64>(), any::<u64>()).prop_map(|(a, b)| LockRange { start: a.min(b), end: a.max(b) })
}

// === attributes ===

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn version() -> impl Strategy<Value = DataVersion> {
    (timestamp(), timestamp(), any::<u64>()).prop_map(|(ctime, mtime, size)| DataVersion {
        ctime,
        mtime,
        size,
    })
}

fn attr() -> impl Strategy<Value = Attr> {
    let what = (ino(), kind(), mode(), any::<u32>(), any::<u32>(), any::<u32>());
    let size = (any::<u64>(), any::<u64>(), any::<u32>(), any::<(u32, u32)>());
    let times = (timestamp(), timestamp(), timestamp(), option::of(timestamp()));
    (what, size, times).prop_map(
        |(
            (ino, kind, mode, nlink, uid, gid),
            (size, blocks, block_size, rdev),
            (atime, mtime, ctime, btime),
        )| Attr {
            ino,
            kind,
            mode,
            nlink,
            uid,
            gid,
            size,
            blocks,
            block_size,
            rdev,
            atime,
            mtime,
            ctime,
            btime,
        },
    )
}

fn set_time() -> impl Strategy<Value = SetTime> {
    prop_oneof![Just(SetTime::Now), timestamp().prop_map(SetTime::To)]
}

fn set_attr() -> impl Strategy<Value = SetAttr> {
    (
        option::of(mode()),
        option::of(user()),
        option::of(user()),
        option::of(any::<u64>()),
        option::of(set_time()),
        option::of(set_time()),
    )
        .prop_map(|(mode, uid, gid, size, atime, mtime)| SetAttr {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        })
}

fn entry() -> impl Strategy<Value = Entry> {
    (file(), attr()).prop_map(|(file, attr)| Entry { file, attr })
}

fn stat_fs() -> impl Strategy<Value = StatFs> {
    (any::<[u32; 3]>(), any::<[u64; 5]>()).prop_map(|(small, large)| StatFs {
        fragment_size: small[0],
        block_size: small[1],
        blocks: large[0],
        blocks_free: large[1],
        blocks_available: large[2],
        files: large[3],
        files_free: large[4],
        name_max: small[2],
    })
}

fn listing() -> impl Strategy<Value = Listing> {
    let one = (name(), kind(), ino(), any::<u64>(), option::of(entry()), any::<bool>()).prop_map(
        |(name, kind, ino, cookie, entry, unleased)| DirEntry {
            name,
            kind,
            ino,
            cookie,
            entry,
            unleased,
        },
    );
    (vec(one, 0..4), any::<bool>()).prop_map(|(entries, end)| Listing { entries, end })
}

pub(crate) fn caller() -> impl Strategy<Value = Caller> {
    let ids = (user(), user(), vec(user(), 0..20));
    (ids, any::<u32>(), 0u32..=0o777, capabilities()).prop_map(
        |((uid, gid, groups), pid, umask, capabilities)| Caller {
            uid,
            gid,
            groups: groups.into(),
            pid,
            umask,
            capabilities,
        },
    )
}

// === operations ===

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![namespace(), attributes(), on_open(), locks()]
}

fn namespace() -> impl Strategy<Value = Operation> {
    let device = any::<(u32, u32)>();
    let at = || (file(), name());
    prop_oneof![
        (at(), any::<bool>())
            .prop_map(|((parent, name), keep)| Lookup { parent, name, keep }.into()),
        (at(), node_kind(), mode(), device).prop_map(|((parent, name), kind, mode, device)| {
            MakeNode { parent, name, kind, mode, device }.into()
        }),
        (at(), mode()).prop_map(|((parent, name), mode)| MakeDir { parent, name, mode }.into()),
        (at(), target())
            .prop_map(|((parent, name), target)| MakeSymlink { parent, name, target }.into()),
        (at(), file()).prop_map(|((parent, name), file)| Link { file, parent, name }.into()),
        at().prop_map(|(parent, name)| Unlink { parent, name }.into()),
        at().prop_map(|(parent, name)| RemoveDir { parent, name }.into()),
        (at(), at(), rename_flags()).prop_map(|((parent, name), (new_parent, new_name), flags)| {
            Rename { parent, name, new_parent, new_name, flags }.into()
        }),
        (file(), open(), access(), open_flags(), option::of(proof())).prop_map(
            |(file, open, access, flags, proof)| {
                Open { file, open, access, flags, proof }.into()
            }
        ),
        (at(), open(), mode(), access(), open_flags()).prop_map(
            |((parent, name), open, mode, access, flags)| {
                Create { parent, name, open, mode, access, flags }.into()
            }
        ),
    ]
}

fn attributes() -> impl Strategy<Value = Operation> {
    let xattr_mode = select(vec![SetXattrMode::Any, SetXattrMode::Create, SetXattrMode::Replace]);
    prop_oneof![
        (file(), option::of(open())).prop_map(|(file, open)| GetAttr { file, open }.into()),
        (file(), option::of(open()), set_attr()).prop_map(|(file, open, set)| SetAttributes {
            file,
            open,
            set
        }
        .into()),
        file().prop_map(|file| ReadLink { file }.into()),
        file().prop_map(|file| StatFsOf { file }.into()),
        (file(), access_mode()).prop_map(|(file, mode)| CheckAccess { file, mode }.into()),
        (file(), xattr()).prop_map(|(file, name)| GetXattr { file, name }.into()),
        (file(), xattr(), data(), xattr_mode).prop_map(|(file, name, value, mode)| SetXattr {
            file,
            name,
            value,
            mode
        }
        .into()),
        file().prop_map(|file| ListXattr { file }.into()),
        (file(), xattr()).prop_map(|(file, name)| RemoveXattr { file, name }.into()),
    ]
}

fn on_open() -> impl Strategy<Value = Operation> {
    let whence = select(vec![SeekWhence::Data, SeekWhence::Hole]);
    let limit = 1..=ReadDir::MAX_ENTRIES;
    prop_oneof![
        (open(), any::<u64>(), 0..=MAX_IO, any::<bool>())
            .prop_map(|(open, offset, size, pages)| Read { open, offset, size, pages }.into()),
        (open(), any::<u64>(), data(), any::<bool>(), option::of(version())).prop_map(
            |(open, offset, data, pages, known)| Write { open, offset, data, pages, known }.into()
        ),
        (open(), option::of(owner())).prop_map(|(open, owner)| Flush { open, owner }.into()),
        open().prop_map(|open| Release { open }.into()),
        (open(), any::<bool>()).prop_map(|(open, data_only)| Sync { open, data_only }.into()),
        (open(), any::<u64>(), limit, any::<bool>()).prop_map(
            |(open, cookie, limit, attributes)| ReadDir { open, cookie, limit, attributes }.into()
        ),
        (open(), fallocate_mode(), any::<u64>(), any::<u64>()).prop_map(
            |(open, mode, offset, length)| Fallocate { open, mode, offset, length }.into()
        ),
        (open(), any::<u64>(), whence).prop_map(|(open, offset, whence)| Seek {
            open,
            offset,
            whence
        }
        .into()),
        (open(), any::<u64>(), open(), any::<u64>(), any::<u64>()).prop_map(
            |(source, source_offset, target, target_offset, length)| {
                CopyRange { source, source_offset, target, target_offset, length }.into()
            }
        ),
    ]
}

fn taking() -> impl Strategy<Value = Taking> {
    let by = select(vec![LockHolder::Process, LockHolder::Description]);
    let parked = prop::option::of(any::<[u8; 16]>().prop_map(ParkingToken));
    (any::<u32>(), any::<u64>(), by, parked).prop_map(|(pid, namespace, by, parked)| Taking {
        pid,
        namespace,
        by,
        parked,
    })
}

fn locks() -> impl Strategy<Value = Operation> {
    let family = select(vec![LockFamily::Range, LockFamily::Flock]);
    prop_oneof![
        (open(), owner(), lock_kind(), range()).prop_map(|(open, owner, kind, range)| GetLock {
            open,
            owner,
            kind,
            range
        }
        .into()),
        (open(), owner(), family, lock_kind(), range(), any::<bool>(), taking()).prop_map(
            |(open, owner, family, kind, range, wait, taking)| {
                SetLock { open, owner, family, kind, range, wait, taking }.into()
            }
        ),
    ]
}

// === answers ===

fn proof() -> impl Strategy<Value = OpenProof> {
    vec(any::<u8>(), 1..=OpenProof::MAX_LEN)
        .prop_map(|bytes| OpenProof::from_bytes(bytes.into()).expect("not empty, not too long"))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let lock = (lock_kind(), range(), any::<i32>())
        .prop_map(|(kind, range, pid)| Outcome::Lock(HeldLock { kind, range, pid }));
    prop_oneof![
        Just(Outcome::Done(())),
        entry().prop_map(Outcome::Entry),
        (entry(), option::of(proof()))
            .prop_map(|(entry, proof)| Outcome::Opened(Opened { entry, proof })),
        attr().prop_map(Outcome::Attr),
        target().prop_map(Outcome::Target),
        (data(), option::of(version()))
            .prop_map(|(data, version)| Outcome::Data(ReadData { data, version })),
        (any::<u32>(), any::<u64>(), option::of(version()), option::of(target())).prop_map(
            |(size, offset, version, apart)| {
                Outcome::Written(Written { size, offset, version, apart })
            }
        ),
        listing().prop_map(Outcome::Listing),
        stat_fs().prop_map(Outcome::StatFs),
        data().prop_map(Outcome::Value),
        vec(xattr(), 0..5).prop_map(Outcome::Names),
        any::<u64>().prop_map(Outcome::Offset),
        any::<u64>().prop_map(Outcome::Copied),
        lock,
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (select(ProtocolCode::ALL), "\\PC{0,200}")
        .prop_map(|(code, message)| Refusal::new(code, message))
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![select(Errno::ALL).prop_map(Failure::File), refusal().prop_map(Failure::Protocol),]
}

// === messages ===

/// Whole milliseconds: that is what the wire carries.
fn deadline() -> impl Strategy<Value = Option<Duration>> {
    option::of((1u32..).prop_map(|ms| Duration::from_millis(u64::from(ms))))
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let once = (any::<u32>(), 1u64..);
    let first = option::of((session(), any::<u32>(), 1u64..));
    (request_id(), once, first, epoch(), caller(), deadline(), operation()).prop_map(
        |(id, (slot, sequence), first, epoch, caller, deadline, operation)| Request {
            id,
            once: Sequence::new(sequence)
                .filter(|_| operation.is_once_only())
                .map(|sequence| (Slot(slot), sequence)),
            first: first.filter(|_| operation.is_once_only()).and_then(|(session, slot, place)| {
                let sequence = Sequence::new(place)?;
                Some(Box::new(Origin { session, slot: Slot(slot), sequence }))
            }),
            epoch,
            caller,
            deadline,
            operation,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let numbers = (any::<u64>(), 1u64.., option::of(session()), option::of(epoch()));
    let purpose = select(vec![Purpose::Control, Purpose::Bulk]);
    let export = option::of((1u32..).prop_filter_map("not 0", ExportId::new));
    let versions = (1u32.., 1u32..);
    (versions, numbers, purpose, export, "[ -~]{0,128}").prop_map(
        |((a, b), (features, incarnation, session, last_epoch), purpose, export, software)| Hello {
            versions: Versions { min: a.min(b), max: a.max(b) },
            features,
            incarnation: Incarnation::new(incarnation).unwrap_or(Incarnation::FIRST),
            session,
            last_epoch,
            purpose,
            export,
            software,
        },
    )
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let server = (session(), any::<[bool; 2]>(), epoch(), any::<u64>());
    let limits = (1u32.., 1..=MAX_IO, 1u32.., 1u32..);
    let node = (any::<[u8; 32]>(), "n[a-z0-9]{0,20}", 1u16.., "[ -~]{0,128}");
    (1u32.., any::<u64>(), server, limits, entry(), node).prop_filter_map(
        "a name",
        |(
            version,
            features,
            (session, [resumed, trusts_root], epoch, verifier),
            (lease_term, max_io, slots, max_in_flight),
            root,
            (node, name, number, software),
        )| {
            Some(Welcome {
                version,
                features,
                session,
                resumed,
                trusts_root,
                epoch,
                verifier: Verifier(verifier),
                lease_term: Duration::from_millis(u64::from(lease_term)),
                max_io,
                slots,
                max_in_flight,
                root,
                node: NodeId::from_digest(node),
                name: NodeName::parse(&name).ok()?,
                number: NodeNumber::new(number)?,
                software,
            })
        },
    )
}

fn leased() -> impl Strategy<Value = Vec<Leased>> {
    prop::collection::vec((ino(), leases()), 1..8)
}

pub(crate) fn client_message() -> impl Strategy<Value = ClientMessage> {
    let lease = (any::<u64>(), leased()).prop_map(|(recall, files)| ReturnLease { recall, files });
    prop_oneof![
        1 => hello().prop_map(ClientMessage::Hello),
        8 => request().prop_map(ClientMessage::Request),
        1 => lease.prop_map(ClientMessage::Return),
        1 => request_id().prop_map(ClientMessage::Cancel),
        1 => request_id().prop_map(ClientMessage::Renew),
        1 => Just(ClientMessage::Goodbye),
    ]
}

pub(crate) fn server_message() -> impl Strategy<Value = ServerMessage> {
    let recall = (any::<u64>(), leased(), any::<u32>())
        .prop_map(|(id, files, deadline_ms)| Recall { id, files, deadline_ms });
    let result = prop_oneof![4 => outcome().prop_map(Ok), 1 => failure().prop_map(Err)];
    let reply = (request_id(), any::<u64>(), leases(), result).prop_map(
        |(id, verifier, leases, result)| Reply { id, verifier: Verifier(verifier), leases, result },
    );
    prop_oneof![
        1 => welcome().prop_map(|welcome| ServerMessage::Welcome(Box::new(welcome))),
        8 => reply.prop_map(ServerMessage::Reply),
        1 => recall.prop_map(ServerMessage::Recall),
        1 => refusal().prop_map(ServerMessage::Refused),
    ]
}
