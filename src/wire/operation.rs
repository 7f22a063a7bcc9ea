//! Operations.

use mfs_proto::v1;
use mfs_proto::v1::request::Body;

use super::error::{Malformed, Problem, Undecodable};
use super::outcome::{MAX_XATTR, decode_target};
use super::{field, value};
use crate::types::op::{self, LockHolder, Operation};
use crate::types::{FileId, FileKind, FileName, LockOwner, OpenId};

// === Encoding ===

fn raw_file(file: &FileId) -> bytes::Bytes {
    file.as_bytes().clone()
}

fn raw_name(name: &FileName) -> bytes::Bytes {
    name.as_bytes().clone()
}

impl From<Operation> for Body {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Lookup(o) => Self::Lookup(v1::Lookup {
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
                keep: o.keep,
            }),
            Operation::GetAttr(o) => Self::GetAttr(v1::GetAttr {
                file: raw_file(&o.file),
                open: o.open.map_or(0, OpenId::get),
            }),
            Operation::SetAttributes(o) => Self::SetAttributes(v1::SetAttributes {
                file: raw_file(&o.file),
                open: o.open.map_or(0, OpenId::get),
                set: Some(o.set.into()),
            }),
            Operation::ReadLink(o) => Self::ReadLink(v1::ReadLink { file: raw_file(&o.file) }),
            Operation::MakeNode(o) => Self::MakeNode(v1::MakeNode {
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
                kind: value::encode_kind(o.kind),
                mode: u32::from(o.mode),
                device_major: o.device.0,
                device_minor: o.device.1,
            }),
            Operation::MakeDir(o) => Self::MakeDir(v1::MakeDir {
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
                mode: u32::from(o.mode),
            }),
            Operation::MakeSymlink(o) => Self::MakeSymlink(v1::MakeSymlink {
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
                target: o.target,
            }),
            Operation::Link(o) => Self::Link(v1::Link {
                file: raw_file(&o.file),
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
            }),
            Operation::Unlink(o) => {
                Self::Unlink(v1::Unlink { parent: raw_file(&o.parent), name: raw_name(&o.name) })
            }
            Operation::RemoveDir(o) => Self::RemoveDir(v1::RemoveDir {
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
            }),
            Operation::Rename(o) => Self::Rename(v1::Rename {
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
                new_parent: raw_file(&o.new_parent),
                new_name: raw_name(&o.new_name),
                flags: o.flags.bits(),
            }),
            Operation::Open(o) => Self::Open(v1::Open {
                file: raw_file(&o.file),
                open: o.open.get(),
                access: value::encode_access(o.access),
                flags: o.flags.bits(),
                proof: value::encode_proof(o.proof),
            }),
            Operation::Create(o) => Self::Create(v1::Create {
                parent: raw_file(&o.parent),
                name: raw_name(&o.name),
                open: o.open.get(),
                mode: u32::from(o.mode),
                access: value::encode_access(o.access),
                flags: o.flags.bits(),
            }),
            Operation::Read(o) => {
                let (open, pages) = (o.open.get(), o.pages);
                Self::Read(v1::Read { open, offset: o.offset, size: o.size, pages })
            }
            Operation::Write(o) => {
                let (open, pages, known) = (o.open.get(), o.pages, o.known.map(Into::into));
                Self::Write(v1::Write { open, offset: o.offset, data: o.data, pages, known })
            }
            Operation::Flush(o) => {
                Self::Flush(v1::Flush { open: o.open.get(), owner: o.owner.map(|owner| owner.0) })
            }
            Operation::Release(o) => Self::Release(v1::Release { open: o.open.get() }),
            Operation::Sync(o) => {
                Self::Sync(v1::Sync { open: o.open.get(), data_only: o.data_only })
            }
            Operation::ReadDir(o) => Self::ReadDir(v1::ReadDir {
                open: o.open.get(),
                cookie: o.cookie,
                limit: o.limit,
                attributes: o.attributes,
            }),
            Operation::StatFsOf(o) => Self::StatFsOf(v1::StatFsOf { file: raw_file(&o.file) }),
            Operation::CheckAccess(o) => {
                Self::CheckAccess(v1::CheckAccess { file: raw_file(&o.file), mode: o.mode.bits() })
            }
            Operation::GetXattr(o) => Self::GetXattr(v1::GetXattr {
                file: raw_file(&o.file),
                name: o.name.as_bytes().clone(),
            }),
            Operation::SetXattr(o) => Self::SetXattr(v1::SetXattr {
                file: raw_file(&o.file),
                name: o.name.as_bytes().clone(),
                value: o.value,
                mode: value::encode_xattr_mode(o.mode),
            }),
            Operation::ListXattr(o) => Self::ListXattr(v1::ListXattr { file: raw_file(&o.file) }),
            Operation::RemoveXattr(o) => Self::RemoveXattr(v1::RemoveXattr {
                file: raw_file(&o.file),
                name: o.name.as_bytes().clone(),
            }),
            Operation::Fallocate(o) => Self::Fallocate(v1::Fallocate {
                open: o.open.get(),
                mode: o.mode.bits(),
                offset: o.offset,
                length: o.length,
            }),
            Operation::Seek(o) => Self::Seek(v1::Seek {
                open: o.open.get(),
                offset: o.offset,
                whence: value::encode_whence(o.whence),
            }),
            Operation::CopyRange(o) => Self::CopyRange(v1::CopyRange {
                source: o.source.get(),
                source_offset: o.source_offset,
                target: o.target.get(),
                target_offset: o.target_offset,
                length: o.length,
            }),
            Operation::GetLock(o) => Self::GetLock(v1::GetLock {
                open: o.open.get(),
                owner: o.owner.0,
                kind: value::encode_lock_kind(o.kind),
                start: o.range.start,
                end: o.range.end,
            }),
            Operation::SetLock(o) => Self::SetLock(v1::SetLock {
                open: o.open.get(),
                owner: o.owner.0,
                family: value::encode_family(o.family),
                kind: value::encode_lock_kind(o.kind),
                start: o.range.start,
                end: o.range.end,
                wait: o.wait,
                pid: o.taking.pid,
                namespace: o.taking.namespace,
                by_description: o.taking.by == LockHolder::Description,
                parked: field::encode_parked(o.taking.parked),
            }),
        }
    }
}

// === Decoding ===

/// One arm per operation: names come from `directory(...)`, `file(...)` and so on, which refuse.
impl TryFrom<Body> for Operation {
    type Error = Undecodable;

    fn try_from(body: Body) -> Result<Self, Undecodable> {
        Ok(match body {
            Body::Hello(_)
            | Body::ReturnLease(_)
            | Body::Cancel(_)
            | Body::Renew(_)
            | Body::Goodbye(_) => {
                return Err(Malformed::new("request.body", Problem::Contradiction).into());
            }
            Body::Lookup(o) => op::Lookup {
                parent: field::file("lookup.parent", &o.parent)?,
                name: field::name("lookup.name", o.name)?,
                keep: o.keep,
            }
            .into(),
            Body::GetAttr(o) => op::GetAttr {
                file: field::file("get_attr.file", &o.file)?,
                open: OpenId::new(o.open),
            }
            .into(),
            Body::SetAttributes(o) => op::SetAttributes {
                file: field::file("set_attributes.file", &o.file)?,
                open: OpenId::new(o.open),
                set: o.set.ok_or(Malformed::missing("set_attributes.set"))?.try_into()?,
            }
            .into(),
            Body::ReadLink(o) => {
                op::ReadLink { file: field::file("read_link.file", &o.file)? }.into()
            }
            Body::MakeNode(o) => decode_make_node(o)?.into(),
            Body::MakeDir(o) => op::MakeDir {
                parent: field::file("make_dir.parent", &o.parent)?,
                name: field::name("make_dir.name", o.name)?,
                mode: field::mode("make_dir.mode", o.mode)?,
            }
            .into(),
            Body::MakeSymlink(o) => op::MakeSymlink {
                parent: field::file("make_symlink.parent", &o.parent)?,
                name: field::name("make_symlink.name", o.name)?,
                target: decode_target("make_symlink.target", o.target)?,
            }
            .into(),
            Body::Link(o) => op::Link {
                file: field::file("link.file", &o.file)?,
                parent: field::file("link.parent", &o.parent)?,
                name: field::name("link.name", o.name)?,
            }
            .into(),
            Body::Unlink(o) => op::Unlink {
                parent: field::file("unlink.parent", &o.parent)?,
                name: field::name("unlink.name", o.name)?,
            }
            .into(),
            Body::RemoveDir(o) => op::RemoveDir {
                parent: field::file("remove_dir.parent", &o.parent)?,
                name: field::name("remove_dir.name", o.name)?,
            }
            .into(),
            Body::Rename(o) => op::Rename {
                parent: field::file("rename.parent", &o.parent)?,
                name: field::name("rename.name", o.name)?,
                new_parent: field::file("rename.new_parent", &o.new_parent)?,
                new_name: field::name("rename.new_name", o.new_name)?,
                flags: field::flags("rename.flags", o.flags)?,
            }
            .into(),
            Body::Open(o) => op::Open {
                file: field::file("open.file", &o.file)?,
                open: field::open("open.open", o.open)?,
                access: value::decode_access("open.access", o.access)?,
                flags: field::flags("open.flags", o.flags)?,
                proof: field::proof("open.proof", &o.proof)?,
            }
            .into(),
            Body::Create(o) => op::Create {
                parent: field::file("create.parent", &o.parent)?,
                name: field::name("create.name", o.name)?,
                open: field::open("create.open", o.open)?,
                mode: field::mode("create.mode", o.mode)?,
                access: value::decode_access("create.access", o.access)?,
                flags: field::flags("create.flags", o.flags)?,
            }
            .into(),
            Body::StatFsOf(o) => {
                op::StatFsOf { file: field::file("stat_fs_of.file", &o.file)? }.into()
            }
            Body::CheckAccess(o) => op::CheckAccess {
                file: field::file("check_access.file", &o.file)?,
                mode: field::flags("check_access.mode", o.mode)?,
            }
            .into(),
            Body::GetXattr(o) => op::GetXattr {
                file: field::file("get_xattr.file", &o.file)?,
                name: field::xattr_name("get_xattr.name", o.name)?,
            }
            .into(),
            Body::SetXattr(o) => {
                field::length_at_most("set_xattr.value", o.value.len(), MAX_XATTR)?;
                op::SetXattr {
                    file: field::file("set_xattr.file", &o.file)?,
                    name: field::xattr_name("set_xattr.name", o.name)?,
                    value: o.value,
                    mode: value::decode_xattr_mode("set_xattr.mode", o.mode)?,
                }
                .into()
            }
            Body::ListXattr(o) => {
                op::ListXattr { file: field::file("list_xattr.file", &o.file)? }.into()
            }
            Body::RemoveXattr(o) => op::RemoveXattr {
                file: field::file("remove_xattr.file", &o.file)?,
                name: field::xattr_name("remove_xattr.name", o.name)?,
            }
            .into(),
            Body::Read(_)
            | Body::Write(_)
            | Body::Flush(_)
            | Body::Release(_)
            | Body::Sync(_)
            | Body::ReadDir(_)
            | Body::Fallocate(_)
            | Body::Seek(_)
            | Body::CopyRange(_)
            | Body::GetLock(_)
            | Body::SetLock(_) => decode_on_open(body)?,
        })
    }
}

fn decode_make_node(o: v1::MakeNode) -> Result<op::MakeNode, Malformed> {
    let kind = value::decode_kind("make_node.kind", o.kind)?;
    if matches!(kind, FileKind::Directory | FileKind::Symlink) {
        return Err(Malformed::new("make_node.kind", Problem::Contradiction));
    }
    Ok(op::MakeNode {
        parent: field::file("make_node.parent", &o.parent)?,
        name: field::name("make_node.name", o.name)?,
        kind,
        mode: field::mode("make_node.mode", o.mode)?,
        device: (o.device_major, o.device_minor),
    })
}

/// The operations on an open file.
fn decode_on_open(body: Body) -> Result<Operation, Undecodable> {
    Ok(match body {
        Body::Read(o) => {
            field::at_most("read.size", u64::from(o.size), u64::from(super::MAX_IO))?;
            let open = field::open("read.open", o.open)?;
            op::Read { open, offset: o.offset, size: o.size, pages: o.pages }.into()
        }
        Body::Write(o) => {
            field::length_at_most("write.data", o.data.len(), super::MAX_IO as usize)?;
            let open = field::open("write.open", o.open)?;
            let known = o.known.map(TryInto::try_into).transpose()?;
            op::Write { open, offset: o.offset, data: o.data, pages: o.pages, known }.into()
        }
        Body::Flush(o) => {
            op::Flush { open: field::open("flush.open", o.open)?, owner: o.owner.map(LockOwner) }
                .into()
        }
        Body::Release(o) => op::Release { open: field::open("release.open", o.open)? }.into(),
        Body::Sync(o) => {
            op::Sync { open: field::open("sync.open", o.open)?, data_only: o.data_only }.into()
        }
        Body::ReadDir(o) => {
            if o.limit == 0 {
                return Err(Malformed::missing("read_dir.limit").into());
            }
            let most = u64::from(op::ReadDir::MAX_ENTRIES);
            field::at_most("read_dir.limit", u64::from(o.limit), most)?;
            op::ReadDir {
                open: field::open("read_dir.open", o.open)?,
                cookie: o.cookie,
                limit: o.limit,
                attributes: o.attributes,
            }
            .into()
        }
        Body::Fallocate(o) => op::Fallocate {
            open: field::open("fallocate.open", o.open)?,
            mode: field::flags("fallocate.mode", o.mode)?,
            offset: o.offset,
            length: o.length,
        }
        .into(),
        Body::Seek(o) => op::Seek {
            open: field::open("seek.open", o.open)?,
            offset: o.offset,
            whence: value::decode_whence("seek.whence", o.whence)?,
        }
        .into(),
        Body::CopyRange(o) => op::CopyRange {
            source: field::open("copy_range.source", o.source)?,
            source_offset: o.source_offset,
            target: field::open("copy_range.target", o.target)?,
            target_offset: o.target_offset,
            length: o.length,
        }
        .into(),
        Body::GetLock(o) => op::GetLock {
            open: field::open("get_lock.open", o.open)?,
            owner: LockOwner(o.owner),
            kind: value::decode_lock_kind("get_lock.kind", o.kind)?,
            range: value::decode_range("get_lock.end", o.start, o.end)?,
        }
        .into(),
        Body::SetLock(o) => op::SetLock {
            open: field::open("set_lock.open", o.open)?,
            owner: LockOwner(o.owner),
            family: value::decode_family("set_lock.family", o.family)?,
            kind: value::decode_lock_kind("set_lock.kind", o.kind)?,
            range: value::decode_range("set_lock.end", o.start, o.end)?,
            wait: o.wait,
            taking: op::Taking {
                pid: o.pid,
                namespace: o.namespace,
                by: value::lock_holder(o.by_description),
                parked: field::parked("set_lock.parked", &o.parked)?,
            },
        }
        .into(),
        _ => return Err(Undecodable::UnknownBody),
    })
}
