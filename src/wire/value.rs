//! Callers, attributes, entries, listings, locks.

use bytes::Bytes;
use mfs_proto::v1;
use smallvec::SmallVec;

use super::error::{Malformed, Problem};
use super::field;
use crate::types::op::{
    DirEntry, Entry, HeldLock, Listing, LockFamily, LockHolder, LockKind, LockRange, Opened,
    ReadDir, Written,
};
use crate::types::{
    Access, Attr, Caller, Capabilities, DataVersion, FileKind, OpenProof, SeekWhence, SetAttr,
    SetTime, SetXattrMode, StatFs,
};

/// Longest path, bytes: PATH_MAX.
const MAX_PATH: usize = 4096;

/// Declares both directions of an enumeration from one table.
macro_rules! enumeration {
    ($($to:ident, $from:ident: $wire:ident <-> $ours:ident { $($variant:ident,)+ })+) => {$(
        pub(super) const fn $to(value: $ours) -> i32 {
            match value { $($ours::$variant => v1::$wire::$variant as i32,)+ }
        }

        pub(super) fn $from(field: &'static str, value: i32) -> Result<$ours, Malformed> {
            match v1::$wire::try_from(value) {
                $(Ok(v1::$wire::$variant) => Ok($ours::$variant),)+
                Ok(v1::$wire::Unspecified) => Err(Malformed::missing(field)),
                Err(_) => Err(Malformed::unknown(field)),
            }
        }
    )+};
}

enumeration! {
    encode_kind, decode_kind: FileKind <-> FileKind {
        Regular, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice,
    }
    encode_access, decode_access: Access <-> Access { Read, Write, ReadWrite, }
    encode_whence, decode_whence: SeekWhence <-> SeekWhence { Data, Hole, }
    encode_xattr_mode, decode_xattr_mode: SetXattrMode <-> SetXattrMode { Any, Create, Replace, }
    encode_family, decode_family: LockFamily <-> LockFamily { Range, Flock, }
    encode_lock_kind, decode_lock_kind: LockKind <-> LockKind { Shared, Exclusive, Unlock, }
}

pub(super) const fn lock_holder(is_description: bool) -> LockHolder {
    if is_description { LockHolder::Description } else { LockHolder::Process }
}

// === Caller ===

/// Largest file-mode creation mask.
const MAX_UMASK: u64 = 0o777;

impl From<Caller> for v1::Caller {
    fn from(caller: Caller) -> Self {
        Self {
            uid: caller.uid,
            gid: caller.gid,
            groups: caller.groups.into_vec(),
            pid: caller.pid,
            umask: caller.umask,
            capabilities: caller.capabilities.bits(),
        }
    }
}

impl TryFrom<v1::Caller> for Caller {
    type Error = Malformed;

    fn try_from(caller: v1::Caller) -> Result<Self, Malformed> {
        field::length_at_most("caller.groups", caller.groups.len(), Self::MAX_GROUPS)?;
        for &group in &caller.groups {
            field::user_or_group("caller.groups", group)?;
        }
        field::at_most("caller.umask", u64::from(caller.umask), MAX_UMASK)?;
        Ok(Self {
            uid: field::user_or_group("caller.uid", caller.uid)?,
            gid: field::user_or_group("caller.gid", caller.gid)?,
            groups: SmallVec::from_vec(caller.groups),
            pid: caller.pid,
            umask: caller.umask,
            // Unknown bits are rights; one that is not understood is not given.
            capabilities: Capabilities::from_bits_truncate(caller.capabilities),
        })
    }
}

// === Attr ===

impl From<Attr> for v1::Attr {
    fn from(attr: Attr) -> Self {
        Self {
            ino: attr.ino.get(),
            kind: encode_kind(attr.kind),
            mode: u32::from(attr.mode),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            blocks: attr.blocks,
            block_size: attr.block_size,
            rdev_major: attr.rdev.0,
            rdev_minor: attr.rdev.1,
            atime_seconds: attr.atime.seconds,
            atime_nanos: attr.atime.nanos,
            mtime_seconds: attr.mtime.seconds,
            mtime_nanos: attr.mtime.nanos,
            ctime_seconds: attr.ctime.seconds,
            ctime_nanos: attr.ctime.nanos,
            btime_seconds: attr.btime.map(|time| time.seconds),
            btime_nanos: attr.btime.map_or(0, |time| time.nanos),
        }
    }
}

impl TryFrom<v1::Attr> for Attr {
    type Error = Malformed;

    fn try_from(attr: v1::Attr) -> Result<Self, Malformed> {
        let btime = attr
            .btime_seconds
            .map(|seconds| field::timestamp("attr.btime_nanos", seconds, attr.btime_nanos))
            .transpose()?;
        Ok(Self {
            ino: field::ino("attr.ino", attr.ino)?,
            kind: decode_kind("attr.kind", attr.kind)?,
            mode: field::mode("attr.mode", attr.mode)?,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            blocks: attr.blocks,
            block_size: attr.block_size,
            rdev: (attr.rdev_major, attr.rdev_minor),
            atime: field::timestamp("attr.atime_nanos", attr.atime_seconds, attr.atime_nanos)?,
            mtime: field::timestamp("attr.mtime_nanos", attr.mtime_seconds, attr.mtime_nanos)?,
            ctime: field::timestamp("attr.ctime_nanos", attr.ctime_seconds, attr.ctime_nanos)?,
            btime,
        })
    }
}

impl From<SetTime> for v1::SetTime {
    fn from(time: SetTime) -> Self {
        match time {
            SetTime::Now => Self { now: true, seconds: 0, nanos: 0 },
            SetTime::To(time) => Self { now: false, seconds: time.seconds, nanos: time.nanos },
        }
    }
}

fn decode_set_time(field: &'static str, time: v1::SetTime) -> Result<SetTime, Malformed> {
    if time.now {
        return Ok(SetTime::Now);
    }
    field::timestamp(field, time.seconds, time.nanos).map(SetTime::To)
}

impl From<SetAttr> for v1::SetAttr {
    fn from(set: SetAttr) -> Self {
        Self {
            mode: set.mode.map(u32::from),
            uid: set.uid,
            gid: set.gid,
            size: set.size,
            atime: set.atime.map(Into::into),
            mtime: set.mtime.map(Into::into),
        }
    }
}

impl TryFrom<v1::SetAttr> for SetAttr {
    type Error = Malformed;

    fn try_from(set: v1::SetAttr) -> Result<Self, Malformed> {
        Ok(Self {
            mode: set.mode.map(|mode| field::mode("set.mode", mode)).transpose()?,
            uid: set.uid.map(|uid| field::user_or_group("set.uid", uid)).transpose()?,
            gid: set.gid.map(|gid| field::user_or_group("set.gid", gid)).transpose()?,
            size: set.size,
            atime: set.atime.map(|time| decode_set_time("set.atime", time)).transpose()?,
            mtime: set.mtime.map(|time| decode_set_time("set.mtime", time)).transpose()?,
        })
    }
}

impl From<StatFs> for v1::StatFs {
    fn from(stat: StatFs) -> Self {
        Self {
            fragment_size: stat.fragment_size,
            block_size: stat.block_size,
            blocks: stat.blocks,
            blocks_free: stat.blocks_free,
            blocks_available: stat.blocks_available,
            files: stat.files,
            files_free: stat.files_free,
            name_max: stat.name_max,
        }
    }
}

impl From<v1::StatFs> for StatFs {
    fn from(stat: v1::StatFs) -> Self {
        Self {
            fragment_size: stat.fragment_size,
            block_size: stat.block_size,
            blocks: stat.blocks,
            blocks_free: stat.blocks_free,
            blocks_available: stat.blocks_available,
            files: stat.files,
            files_free: stat.files_free,
            name_max: stat.name_max,
        }
    }
}

// === Entries ===

impl From<Entry> for v1::Entry {
    fn from(entry: Entry) -> Self {
        Self { file: entry.file.as_bytes().clone(), attr: Some(entry.attr.into()) }
    }
}

impl TryFrom<v1::Entry> for Entry {
    type Error = Malformed;

    fn try_from(entry: v1::Entry) -> Result<Self, Malformed> {
        Ok(Self {
            file: field::file("entry.file", &entry.file)?,
            attr: entry.attr.ok_or(Malformed::missing("entry.attr"))?.try_into()?,
        })
    }
}

impl From<Opened> for v1::Opened {
    fn from(opened: Opened) -> Self {
        Self { entry: Some(opened.entry.into()), proof: encode_proof(opened.proof) }
    }
}

impl TryFrom<v1::Opened> for Opened {
    type Error = Malformed;

    fn try_from(opened: v1::Opened) -> Result<Self, Malformed> {
        Ok(Self {
            entry: opened.entry.ok_or(Malformed::missing("opened.entry"))?.try_into()?,
            proof: field::proof("opened.proof", &opened.proof)?,
        })
    }
}

/// Nothing is written for none.
pub(super) fn encode_proof(proof: Option<OpenProof>) -> Bytes {
    proof.map(|proof| proof.as_bytes().clone()).unwrap_or_default()
}

impl From<DirEntry> for v1::DirEntry {
    fn from(entry: DirEntry) -> Self {
        Self {
            name: entry.name.as_bytes().clone(),
            kind: encode_kind(entry.kind),
            ino: entry.ino.get(),
            cookie: entry.cookie,
            entry: entry.entry.map(Into::into),
            unleased: entry.unleased,
        }
    }
}

impl TryFrom<v1::DirEntry> for DirEntry {
    type Error = Malformed;

    fn try_from(entry: v1::DirEntry) -> Result<Self, Malformed> {
        Ok(Self {
            name: field::name("listing.entries.name", entry.name)?,
            kind: decode_kind("listing.entries.kind", entry.kind)?,
            ino: field::ino("listing.entries.ino", entry.ino)?,
            cookie: entry.cookie,
            entry: entry.entry.map(TryInto::try_into).transpose()?,
            unleased: entry.unleased,
        })
    }
}

impl From<Listing> for v1::Listing {
    fn from(listing: Listing) -> Self {
        Self { entries: listing.entries.into_iter().map(Into::into).collect(), end: listing.end }
    }
}

impl TryFrom<v1::Listing> for Listing {
    type Error = Malformed;

    fn try_from(listing: v1::Listing) -> Result<Self, Malformed> {
        let limit = ReadDir::MAX_ENTRIES as usize;
        field::length_at_most("listing.entries", listing.entries.len(), limit)?;
        let entries = listing.entries.into_iter().map(TryInto::try_into);
        Ok(Self { entries: entries.collect::<Result<_, _>>()?, end: listing.end })
    }
}

// === Data and locks ===

impl From<Written> for v1::Written {
    fn from(written: Written) -> Self {
        Self {
            size: written.size,
            offset: written.offset,
            version: written.version.map(Into::into),
            apart: written.apart,
        }
    }
}

impl TryFrom<v1::Written> for Written {
    type Error = Malformed;

    fn try_from(written: v1::Written) -> Result<Self, Malformed> {
        let length = written.apart.as_ref().map_or(0, Bytes::len);
        field::length_at_most("written.apart", length, MAX_PATH)?;
        Ok(Self {
            size: written.size,
            offset: written.offset,
            version: written.version.map(TryInto::try_into).transpose()?,
            apart: written.apart,
        })
    }
}

impl From<DataVersion> for v1::DataVersion {
    fn from(version: DataVersion) -> Self {
        Self {
            ctime_seconds: version.ctime.seconds,
            ctime_nanos: version.ctime.nanos,
            mtime_seconds: version.mtime.seconds,
            mtime_nanos: version.mtime.nanos,
            size: version.size,
        }
    }
}

impl TryFrom<v1::DataVersion> for DataVersion {
    type Error = Malformed;

    fn try_from(version: v1::DataVersion) -> Result<Self, Malformed> {
        let time = field::timestamp;
        Ok(Self {
            ctime: time("version.ctime_nanos", version.ctime_seconds, version.ctime_nanos)?,
            mtime: time("version.mtime_nanos", version.mtime_seconds, version.mtime_nanos)?,
            size: version.size,
        })
    }
}

pub(super) fn decode_range(
    field: &'static str,
    start: u64,
    end: u64,
) -> Result<LockRange, Malformed> {
    if end < start {
        return Err(Malformed::new(field, Problem::Contradiction));
    }
    Ok(LockRange { start, end })
}

impl From<HeldLock> for v1::HeldLock {
    fn from(lock: HeldLock) -> Self {
        Self {
            kind: encode_lock_kind(lock.kind),
            start: lock.range.start,
            end: lock.range.end,
            pid: lock.pid,
        }
    }
}

impl TryFrom<v1::HeldLock> for HeldLock {
    type Error = Malformed;

    fn try_from(lock: v1::HeldLock) -> Result<Self, Malformed> {
        Ok(Self {
            kind: decode_lock_kind("lock.kind", lock.kind)?,
            range: decode_range("lock.end", lock.start, lock.end)?,
            pid: lock.pid,
        })
    }
}
