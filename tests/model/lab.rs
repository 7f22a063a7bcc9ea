//! A directory, an export of it, and short words for the operations.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mfs::export::{Abilities, Export, ExportKeys, ExportSettings, FdBudget, OpenMap, Opens};
use mfs::types::op::{
    Call, Create, Entry, GetAttr, Listing, Lookup, MakeDir, Open, Read, ReadDir, Release,
    SetAttributes, Unlink, Write, Written,
};
use mfs::types::{
    Access, Attr, Caller, Errno, FileId, FileName, NodeId, OpenFlags, OpenId, SetAttr,
};

/// An export of a temporary directory.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) export: Export,
    pub(crate) opens: OpenMap,
}

/// Ends a test that cannot run: what was not tried must not look as if it had passed.
#[track_caller]
pub(crate) fn needs_root() {
    assert!(rustix::process::geteuid().is_root(), "needs root: run it by scripts/test");
}

pub(crate) fn keys() -> ExportKeys {
    ExportKeys { seal: [1; 32], inode_numbers: [2; 32] }
}

pub(crate) fn home() -> NodeId {
    NodeId::from_digest([3; 32])
}

pub(crate) fn open_export(settings: &ExportSettings, abilities: Abilities) -> Export {
    Export::open_with(settings, &keys(), home(), FdBudget::new(1000), abilities)
        .expect("the export opens")
}

pub(crate) fn user(uid: u32) -> Caller {
    Caller::user(uid, uid, &[])
}

pub(crate) fn name(text: &str) -> FileName {
    FileName::parse(text.as_bytes().to_vec()).expect("a valid name")
}

pub(crate) fn open_id(number: u64) -> OpenId {
    OpenId::new(number).expect("not 0")
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(Abilities::ALL, |settings| settings)
    }

    pub(crate) fn with(
        abilities: Abilities,
        change: impl FnOnce(ExportSettings) -> ExportSettings,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Other users pass through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("chmod");
        let export = open_export(&change(ExportSettings::of(dir.path())), abilities);
        let opens = OpenMap::new(export.budget(), 500);
        Self { dir, export, opens }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn call<C: Call>(&self, caller: &Caller, call: C) -> Result<C::Output, Errno> {
        self.export.call(caller, call, &self.opens)
    }

    pub(crate) fn root(&self) -> FileId {
        self.export.root().expect("the root is there").file
    }

    pub(crate) fn lookup(&self, parent: &FileId, child: &str) -> Result<Entry, Errno> {
        self.call(
            &Caller::root(),
            Lookup { parent: parent.clone(), name: name(child), keep: false },
        )
    }

    /// Walks from the root, name by name.
    pub(crate) fn walk(&self, path: &str) -> Result<Entry, Errno> {
        let mut at = self.export.root()?;
        for part in Path::new(path).iter() {
            at = self.lookup(&at.file, part.to_str().expect("text"))?;
        }
        Ok(at)
    }

    pub(crate) fn attr(&self, file: &FileId) -> Result<Attr, Errno> {
        self.call(&Caller::root(), GetAttr { file: file.clone(), open: None })
    }

    pub(crate) fn set(&self, caller: &Caller, file: &FileId, set: SetAttr) -> Result<Attr, Errno> {
        self.call(caller, SetAttributes { file: file.clone(), open: None, set })
    }

    pub(crate) fn open(
        &self,
        caller: &Caller,
        file: &FileId,
        id: u64,
        access: Access,
        flags: OpenFlags,
    ) -> Result<Attr, Errno> {
        let open = Open { file: file.clone(), open: open_id(id), access, flags, proof: None };
        Ok(self.call(caller, open)?.entry.attr)
    }

    pub(crate) fn create(
        &self,
        caller: &Caller,
        parent: &FileId,
        child: &str,
        id: u64,
        flags: OpenFlags,
    ) -> Result<Entry, Errno> {
        let create = Create {
            parent: parent.clone(),
            name: name(child),
            open: open_id(id),
            mode: 0o666,
            access: Access::ReadWrite,
            flags,
        };
        Ok(self.call(caller, create)?.entry)
    }

    pub(crate) fn make_dir(
        &self,
        caller: &Caller,
        parent: &FileId,
        child: &str,
    ) -> Result<Entry, Errno> {
        self.call(caller, MakeDir { parent: parent.clone(), name: name(child), mode: 0o777 })
    }

    pub(crate) fn unlink(&self, parent: &FileId, child: &str) -> Result<(), Errno> {
        self.call(&Caller::root(), Unlink { parent: parent.clone(), name: name(child) })
    }

    pub(crate) fn write(&self, id: u64, offset: u64, data: &[u8]) -> Result<Written, Errno> {
        let data = Bytes::copy_from_slice(data);
        self.call(
            &Caller::root(),
            Write { open: open_id(id), offset, data, pages: false, known: None },
        )
    }

    pub(crate) fn read(&self, id: u64, offset: u64, size: u32) -> Result<Bytes, Errno> {
        let read = Read { open: open_id(id), offset, size, pages: false };
        self.call(&Caller::root(), read).map(|read| read.data)
    }

    pub(crate) fn list(&self, id: u64, cookie: u64, limit: u32) -> Result<Listing, Errno> {
        let list = ReadDir { open: open_id(id), cookie, limit, attributes: true };
        self.call(&Caller::root(), list)
    }

    pub(crate) fn release(&self, id: u64) {
        let done = self.call(&Caller::root(), Release { open: open_id(id) });
        assert_eq!(done, Ok(()));
        assert!(self.opens.find(open_id(id)).is_none());
    }

    /// All names of a directory.
    pub(crate) fn names(&self, directory: &FileId) -> Vec<String> {
        let id = u64::MAX;
        self.open(&Caller::root(), directory, id, Access::Read, OpenFlags::empty())
            .expect("a directory opens");
        let listing = self.list(id, 0, 4096).expect("a directory is listed");
        assert!(listing.end, "more names than one listing holds");
        self.release(id);
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let mut names: Vec<_> =
            listing.entries.iter().map(|entry| text(entry.name.as_bytes())).collect();
        names.sort();
        names
    }
}
