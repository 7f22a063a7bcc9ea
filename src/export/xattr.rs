//! Extended attributes, ACLs among them. Which a caller may see and set, the kernel decides.
//!
//! They are reached by a path through `/proc/self/fd`: the descriptors of the tree are O_PATH, which
//! the calls that take a descriptor refuse, and opening the file would need rights that these do not.

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::XattrFlags;

use super::Export;
use super::impersonate::Impersonation;
use super::mounts::proc_path;
use super::tree::Node;
use crate::types::{Caller, Errno, FileId, SetXattrMode, XattrName};
use std::os::fd::AsFd;

/// Longest value, and longest list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX), bytes.
const LONGEST: usize = 65_536;

/// Long enough for nearly all values and lists.
const USUAL: usize = 1_024;

impl Export {
    pub(super) fn get_xattr(
        &self,
        caller: &Caller,
        file: &FileId,
        name: &XattrName,
    ) -> Result<Bytes, Errno> {
        let Node::File(found) = self.tree.find(file)? else { return Err(Errno::NoData) };
        let path = proc_path(found.as_fd());
        let _as_caller = Impersonation::begin(caller)?;
        let value = read_whole(|buffer| {
            Ok(rustix::fs::getxattr(&path, name.as_os(), spare_capacity(buffer))?)
        })?;
        Ok(value.into())
    }

    pub(super) fn set_xattr(
        &self,
        caller: &Caller,
        file: &FileId,
        name: &XattrName,
        value: &[u8],
        mode: SetXattrMode,
    ) -> Result<(), Errno> {
        let found = self.tree.find(file)?.for_change()?;
        let flags = match mode {
            SetXattrMode::Any => XattrFlags::empty(),
            SetXattrMode::Create => XattrFlags::CREATE,
            SetXattrMode::Replace => XattrFlags::REPLACE,
        };
        let _as_caller = Impersonation::begin(caller)?;
        Ok(rustix::fs::setxattr(proc_path(found.as_fd()), name.as_os(), value, flags)?)
    }

    pub(super) fn list_xattr(
        &self,
        caller: &Caller,
        file: &FileId,
    ) -> Result<Vec<XattrName>, Errno> {
        let Node::File(found) = self.tree.find(file)? else { return Ok(Vec::new()) };
        let path = proc_path(found.as_fd());
        let names = {
            let _as_caller = Impersonation::begin(caller)?;
            read_whole(|buffer| Ok(rustix::fs::listxattr(&path, spare_capacity(buffer))?))?
        };
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.filter_map(|name| XattrName::parse(name.to_vec()).ok()).collect())
    }

    pub(super) fn remove_xattr(
        &self,
        caller: &Caller,
        file: &FileId,
        name: &XattrName,
    ) -> Result<(), Errno> {
        let found = self.tree.find(file)?.for_change()?;
        let _as_caller = Impersonation::begin(caller)?;
        Ok(rustix::fs::removexattr(proc_path(found.as_fd()), name.as_os())?)
    }
}

/// Reads with a small buffer, and with the largest if that is not enough.
fn read_whole(
    mut read: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut buffer = Vec::with_capacity(USUAL);
    match read(&mut buffer) {
        Err(Errno::Range) => {
            buffer.reserve_exact(LONGEST);
            read(&mut buffer)?;
        }
        result => {
            result?;
        }
    }
    Ok(buffer)
}
