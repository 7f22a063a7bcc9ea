//! Open files: opening, reading, writing, listing, closing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mfs::clock::since_boot;
use mfs::types::op::{self, Call, DirEntry};
use mfs::types::{
    Access, Attr, Errno, FallocateMode, FileKind, FileName, InodeNo, Leases, LockOwner, OpenFlags,
    OpenId, SeekWhence,
};

use super::backing::{Backing, Origin};
use super::cache::{Changing, Collecting};
use super::handle_map::{Fetched, Fh, Handle, Leaving, Listed, OpenFile, Opener, SyntheticEntry};
use super::inode_map::Subject;
use super::namespace::gone;
use super::process::Asker;
use super::{MountedFs, Place, Request, root};

/// Entries fetched at once: about what the kernel's own buffers take, so that little is fetched in vain.
const LISTING_STRETCH: u32 = 1_024;

/// How often pages are read again that came without a lease: some seconds.
const MOST_FILLS: u32 = 2_000;

/// Most entries offered to the kernel at once: more than fit into its buffer are copied in vain.
const PAGE: usize = 512;

/// What open(2) and creat(2) bring.
#[derive(Debug)]
pub struct Opened {
    /// The open's number.
    pub fh: Fh,
    /// Its file.
    pub ino: InodeNo,
    /// The local file itself, where the kernel may be given it (direct access).
    pub file: Option<super::local::LocalOpen>,
    /// What the kernel keeps of it, it keeps on lease, and may go on to.
    pub keeps: bool,
}

/// A stretch of a directory for the kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Name, number, kind, and the offset after which to go on.
    pub entries: Vec<(Vec<u8>, InodeNo, FileKind, u64)>,
}

// === impl MountedFs ===

impl MountedFs {
    /// Opens a file.
    pub async fn open(
        &self,
        request: &Request,
        ino: InodeNo,
        access: Access,
        flags: OpenFlags,
    ) -> Result<Opened, Errno> {
        let origin = request.origin();
        let place = self.place(&origin, ino, Errno::IsDir).await?;
        let open = place.backing.new_open();
        let call = op::Open { file: place.file.clone(), open, access, flags, proof: None };
        let kind = if flags.contains(OpenFlags::TRUNCATE) {
            let own = self.change(place.node, place.home);
            let answer = place.backing.call_leased(&origin, call).await.map(attr_of);
            own.end_attr(since_boot(), &answer);
            answer.result?.kind
        } else if access.writes() {
            let own = Changing::begin(self.cache.node(place.node), &[(place.home, Leases::HANDLE)]);
            let cache = self.cache.node(place.node);
            let stamp = cache.stamp();
            let answer = place.backing.call_leased(&origin, call).await.map(attr_of);
            own.end(since_boot(), &answer);
            cache.note_attr(since_boot(), stamp, &answer);
            answer.result?.kind
        } else {
            let cache = self.cache.node(place.node);
            let stamp = cache.stamp();
            let answer = place.backing.call_leased(&origin, call).await;
            cache.note_open(since_boot(), stamp, (request.caller.uid, flags), &answer);
            answer.result?.entry.attr.kind
        };
        Ok(self.opened(request, (ino, kind), place, open, access))
    }

    /// Makes a regular file (or finds it) and opens it.
    pub async fn create(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
        mode: u16,
        access: Access,
        flags: OpenFlags,
    ) -> Result<(Attr, Opened), Errno> {
        let origin = request.origin();
        let in_magic = self.subject(parent)? == Subject::Magic;
        let place = if in_magic {
            self.node_root(&origin, self.magic_home()?).await?
        } else {
            self.place(&origin, parent, Errno::Perm).await?
        };
        let open = place.backing.new_open();
        let parent = place.file.clone();
        let call = op::Create { parent, name: name.clone(), open, mode, access, flags };
        let own = self.change_name(&place, &name);
        let answer = place.backing.call_leased(&origin, call).await.map(|opened| opened.entry);
        own.end_made(since_boot(), place.home, &name, &answer);
        let entry = answer.result.map_err(gone)?;
        if in_magic {
            self.selections.made(request.asker, place.node, name);
        }
        self.touch_root(request, &place);
        let place =
            Place { file: entry.file.clone(), home: entry.attr.ino, is_root: false, ..place };
        let attr = self.admit(place.node, entry);
        let opened = self.opened(request, (attr.ino, attr.kind), place, open, access);
        Ok((attr, opened))
    }

    fn opened(
        &self,
        request: &Request,
        (ino, kind): (InodeNo, FileKind),
        place: Place,
        open: OpenId,
        access: Access,
    ) -> Opened {
        let Place { node, home, backing, .. } = place;
        let file = match &backing {
            Backing::Local(local) => local.find(open),
            Backing::Remote(_) => None,
        };
        let follows = kind == FileKind::Regular && access.reads() && file.is_none();
        let following = follows.then(|| self.follow(node, home, ino));
        let fh = self.handles.insert(Handle::Open(Box::new(OpenFile {
            ino,
            home,
            node,
            backing,
            access,
            opener: Opener::AtHome(request.caller.clone(), open),
            listing: tokio::sync::Mutex::default(),
            kept: OnceLock::new(),
            following,
        })));
        Opened { fh, ino, file, keeps: self.cache.pages.is_leased((node, home)) }
    }

    /// Opens a directory. A synthetic one is shown as it is now.
    pub async fn opendir(&self, request: &Request, ino: InodeNo) -> Result<Fh, Errno> {
        let listing = match self.subject(ino)? {
            Subject::Top => self.list_top(),
            Subject::Magic => self.list_magic(request.asker),
            Subject::Link { .. } => return Err(Errno::NotDir),
            Subject::NodeRoot(_) | Subject::File { .. } => {
                let opened = self.open(request, ino, Access::Read, OpenFlags::empty()).await;
                let opened = opened.map(|opened| opened.fh);
                return self.or_removed(request, ino, opened, |attr| {
                    self.open_removed(request, ino, attr)
                });
            }
        };
        Ok(self.handles.insert(Handle::Synthetic(listing)))
    }

    /// Lists a directory from an offset on.
    pub async fn readdir(
        &self,
        asker: Asker,
        ino: InodeNo,
        fh: Fh,
        offset: u64,
    ) -> Result<Page, Errno> {
        let handle = self.handle(fh)?;
        let (mut page, from) = Page::begin(ino, offset);
        let Some(from) = from else { return Ok(page) };
        match &*handle {
            Handle::Synthetic(entries) => page.add_synthetic(entries, from),
            Handle::Open(open) => {
                let mut listed = open.listing.lock().await;
                if !self.go_on(open, asker, &mut listed, from, &mut page) {
                    self.fetch(open, asker, from, &mut listed).await?;
                    self.go_on(open, asker, &mut listed, from, &mut page);
                }
            }
        }
        Ok(page)
    }

    /// Reads; fewer bytes than asked for only at the end. `pages`: the kernel keeps what it gets.
    pub async fn read(
        &self,
        asker: Asker,
        fh: Fh,
        (offset, size): (u64, u32),
        pages: bool,
    ) -> Result<Bytes, Errno> {
        let handle = self.handle(fh)?;
        let open = file_of(&handle)?;
        self.settle_backlog(asker, open).await?;
        // What is used directly the kernel keeps once, for everybody.
        let pages = pages && matches!(open.backing, Backing::Remote(_));
        let read = op::Read { open: open.bring_home(asker).await?, offset, size, pages };
        let result = if pages {
            self.fill(open, &open.origin(asker), read).await
        } else {
            self.read_once(open, asker, read).await
        };
        self.note_access(open);
        if pages {
            // A mapping may be read on when the file is closed, which is when others are looked at again.
            self.refresh(open, asker).await;
        }
        Ok(result?.data)
    }

    /// Reads what the kernel keeps, under a lease.
    async fn fill(
        &self,
        open: &OpenFile,
        origin: &Origin<'_>,
        read: op::Read,
    ) -> Result<op::ReadData, Errno> {
        let (pages, key) = (&self.cache.pages, (open.node, open.home));
        open.kept.get_or_init(|| pages.keep(key));
        let mut filling = pages.begin(key, open.ino, read.offset, read.size).await;
        let cache = self.cache.node(open.node);
        let mut again = 0;
        loop {
            let stamp = cache.reading(since_boot(), open.home);
            let answer = open.backing.call_leased(origin, read.clone()).await;
            let leases = match &answer.result {
                // A node that grants no leases, or has none to grant any more.
                _ if again > MOST_FILLS || !cache.is_granting() => Leases::DATA_ONCE,
                Ok(_) => answer.leases,
                Err(_) => Leases::DATA_ONCE,
            };
            let came = answer.result.as_ref().ok();
            match filling.end(leases, came) {
                Ok(()) => {
                    if let (Some(stamp), Some(came)) = (stamp, came) {
                        cache.note_data(since_boot(), stamp, open.home, read.offset, &came.data);
                        self.cache.trim();
                    }
                    return answer.result;
                }
                Err(same) => filling = same,
            }
            // What was returned is on its way.
            again += 1;
            if again > 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Writes; says how many bytes. `pages`: they were stored through a mapping.
    pub async fn write(
        self: &Arc<Self>,
        asker: Asker,
        fh: Fh,
        offset: u64,
        data: Bytes,
        pages: bool,
    ) -> Result<u32, Errno> {
        let handle = self.handle(fh)?;
        let open = file_of(&handle)?;
        if pages {
            return self.write_back(asker, &handle, offset, &data).await;
        }
        let number = open.bring_home(asker).await?;
        let write = op::Write { open: number, offset, data, pages, known: None };
        let written = self.change_data(open, asker, write).await?;
        self.cache.pages.wrote((open.node, open.home), written.version);
        Ok(written.size)
    }

    /// One descriptor of an open was closed.
    pub async fn flush(&self, asker: Asker, fh: Fh, owner: LockOwner) -> Result<(), Errno> {
        let handle = self.handle(fh)?;
        let open = file_of(&handle)?;
        if self.keeps_locks(asker, open.ino, owner).await {
            return Ok(());
        }
        if !self.handles.unlocks(open.ino, owner) && !open.access.writes() {
            // Its home need not know.
            self.refresh(open, asker).await;
            return Ok(());
        }
        self.settle_backlog(asker, open).await?;
        // Its locks go by any open of the file.
        let any = if open.is_at_home() { None } else { self.handles.any_of(open.ino, false) };
        let open = any.as_deref().and_then(Handle::as_open).unwrap_or(open);
        let flush = op::Flush { open: open.bring_home(asker).await?, owner: Some(owner) };
        open.backing.call(&open.origin(asker), flush).await?;
        self.conflicts.tell(fh)
    }

    /// The last descriptor was closed: the open is no more, though its home is told only by `release`. At
    /// once, since close(2) does not wait for it and the next request may depend on it.
    pub fn let_go(&self, fh: Fh) -> Option<Leaving> {
        self.conflicts.forget(fh);
        self.handles.remove(fh)
    }

    /// Tells the home of a closed open. Nobody hears of an error: what could fail was reported by `flush`.
    pub async fn release(&self, leaving: Leaving) {
        let Some(open) = leaving.as_open() else { return };
        if !leaving.end() {
            return;
        }
        let Some(number) = open.number_at_end().await else { return };
        let nobody = Asker { uid: open.caller().uid, gid: open.caller().gid, tid: 0 };
        self.backlog.settle((open.node, open.home)).await;
        let release = op::Release { open: number };
        if let Err(error) = open.backing.call(&open.origin(nobody), release).await {
            tracing::debug!(%error, node = %open.node.short(), "an open could not be released");
        }
    }

    /// What was written reaches the disk.
    pub async fn fsync(&self, asker: Asker, fh: Fh, data_only: bool) -> Result<(), Errno> {
        let handle = self.handle(fh)?;
        // A synthetic directory has nothing to write.
        let Some(open) = handle.as_open() else { return Ok(()) };
        let number = open.bring_home(asker).await?;
        self.settle_backlog(asker, open).await?;
        open.backing.call(&open.origin(asker), op::Sync { open: number, data_only }).await?;
        self.conflicts.tell(fh)
    }

    /// Allocates or frees space.
    pub async fn fallocate(
        &self,
        asker: Asker,
        fh: Fh,
        mode: FallocateMode,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        let handle = self.handle(fh)?;
        let open = file_of(&handle)?;
        let call = op::Fallocate { open: open.bring_home(asker).await?, mode, offset, length };
        self.change_data(open, asker, call).await
    }

    /// Finds data or a hole.
    pub async fn seek(
        &self,
        asker: Asker,
        fh: Fh,
        offset: u64,
        whence: SeekWhence,
    ) -> Result<u64, Errno> {
        let handle = self.handle(fh)?;
        let open = file_of(&handle)?;
        let seek = op::Seek { open: open.bring_home(asker).await?, offset, whence };
        open.backing.call(&open.origin(asker), seek).await
    }

    /// Copies at the home node. Between two ways to files EXDEV, whereupon the kernel copies by itself.
    pub async fn copy_range(
        &self,
        asker: Asker,
        (source, source_offset): (Fh, u64),
        (target, target_offset): (Fh, u64),
        length: u64,
    ) -> Result<u64, Errno> {
        let (source, target) = (self.handle(source)?, self.handle(target)?);
        let (from, to) = (file_of(&source)?, file_of(&target)?);
        if from.node != to.node || !from.backing.is_same_way(&to.backing) {
            return Err(Errno::XDev);
        }
        let call = op::CopyRange {
            source: from.bring_home(asker).await?,
            source_offset,
            target: to.bring_home(asker).await?,
            target_offset,
            length,
        };
        let copied = self.change_data(to, asker, call).await;
        self.note_access(from);
        copied
    }

    /// Does what changes the data of an open file.
    pub(super) async fn change_data<C: Call>(
        &self,
        open: &OpenFile,
        asker: Asker,
        call: C,
    ) -> Result<C::Output, Errno> {
        let own = self.change(open.node, open.home);
        let answer = open.backing.call_leased(&open.origin(asker), call).await;
        own.end(since_boot(), &answer);
        answer.result
    }

    /// Gives what is known of a directory after this cookie; `false` if it must be fetched.
    pub(super) fn go_on(
        &self,
        open: &OpenFile,
        asker: Asker,
        listed: &mut Listed,
        from: u64,
        page: &mut Page,
    ) -> bool {
        let is_known = |fetched: &mut Fetched| fetched.following(from).map(|rest| page.add(rest));
        if listed.fetched.as_mut().and_then(is_known).is_some() {
            return true;
        }
        if from != 0 {
            return false;
        }
        let cache = self.cache.node(open.node);
        let Some(entries) = cache.listing(since_boot(), asker.uid, open.home) else { return false };
        let all = Fetched { after: 0, entries, end: true, is_fresh: true, next: 0 };
        let rest = listed.fetched.insert(all).following(from);
        rest.map(|rest| page.add(rest)).is_some()
    }

    /// Fetches the stretch of a directory after this cookie.
    async fn fetch(
        &self,
        open: &OpenFile,
        asker: Asker,
        after: u64,
        listed: &mut Listed,
    ) -> Result<(), Errno> {
        let number = open.bring_home(asker).await?;
        let cache = self.cache.node(open.node);
        // With the attributes, `ls -l` need not ask for each file; without a lease they are old at once.
        let attributes = cache.is_granting();
        let call = op::ReadDir { open: number, cookie: after, limit: LISTING_STRETCH, attributes };
        let stamp = cache.stamp();
        let answer = open.backing.call_leased(&open.origin(asker), call).await;
        let (leases, listing) = (answer.leases, answer.result?);
        if after == 0 {
            listed.collecting = Some(Collecting::default());
        } else if listed.fetched.as_ref().is_none_or(|last| last.last() != Some(after)) {
            listed.collecting = None;
        }
        let collecting = &mut listed.collecting;
        cache.note_listing(since_boot(), stamp, open.home, &listing, leases, collecting);
        self.note_access(open);
        self.cache.trim();
        if listing.end {
            self.refresh(open, asker).await;
        }
        let entries = Arc::new(listing.entries);
        listed.fetched =
            Some(Fetched { after, entries, end: listing.end, is_fresh: true, next: 0 });
        Ok(())
    }

    /// A file was read: its time of access may be another one, unless it is one that relatime(8) leaves as
    /// it is.
    fn note_access(&self, open: &OpenFile) {
        let cache = self.cache.node(open.node);
        if cache.is_granting()
            && cache.attr_if_held(since_boot(), open.home).is_some_and(|a| is_due(&a))
        {
            cache.drop_attr(open.home);
        }
    }

    pub(super) fn handle(&self, fh: Fh) -> Result<Arc<Handle>, Errno> {
        self.handles.find(fh).ok_or(Errno::BadF)
    }
}

// === impl Fetched ===

impl Fetched {
    /// The cookie of its last entry.
    fn last(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.cookie)
    }

    /// What follows the entry with this cookie, if that is known: the end counts as known.
    pub(super) fn following(&mut self, cookie: u64) -> Option<&[DirEntry]> {
        let is_at = |index: usize| self.entries.get(index).is_some_and(|e| e.cookie == cookie);
        let start = if cookie == self.after {
            // Asked again from its beginning (rewinddir): fetch anew, the directory may have changed.
            if !std::mem::take(&mut self.is_fresh) {
                return None;
            }
            0
        } else if self.next > 0 && is_at(self.next - 1) {
            self.next
        } else {
            self.entries.iter().position(|entry| entry.cookie == cookie)? + 1
        };
        let end = self.entries.len().min(start + PAGE);
        self.next = start;
        let rest = &self.entries[start..end];
        if rest.is_empty() && !self.end { None } else { Some(rest) }
    }
}

// === impl Page ===

impl Page {
    /// Begins at this offset: with what every directory has.
    pub(super) fn begin(ino: InodeNo, offset: u64) -> (Self, Option<u64>) {
        let page = Self { entries: dots(ino, offset) };
        let from = cookie_of(offset + page.entries.len() as u64);
        (page, from)
    }

    pub(super) fn add(&mut self, entries: &[DirEntry]) {
        self.entries.extend(entries.iter().map(|entry| {
            (entry.name.as_bytes().to_vec(), entry.ino, entry.kind, offset_after(entry.cookie))
        }));
    }

    fn add_synthetic(&mut self, entries: &[SyntheticEntry], from: u64) {
        let places = entries.iter().zip(1_u64..).filter(|(_, cookie)| *cookie > from);
        self.entries.extend(places.map(|(entry, cookie)| {
            (entry.name.clone(), entry.ino, entry.kind, offset_after(cookie))
        }));
    }
}

/// Whether a reading changes the time of access, as file systems are mounted if nothing else is said.
fn is_due(attr: &Attr) -> bool {
    const DAY: i64 = 24 * 60 * 60;
    let now = i64::try_from(mfs::clock::unix_seconds()).unwrap_or(i64::MAX);
    attr.atime <= attr.mtime
        || attr.atime <= attr.ctime
        || attr.atime.seconds.saturating_add(DAY) <= now
}

fn attr_of(opened: op::Opened) -> Attr {
    opened.entry.attr
}

fn file_of(handle: &Handle) -> Result<&OpenFile, Errno> {
    handle.as_open().ok_or(Errno::IsDir)
}

/// `.` and `..` as far as they come at or after this offset; they are the offsets 1 and 2.
fn dots(ino: InodeNo, offset: u64) -> Vec<(Vec<u8>, InodeNo, FileKind, u64)> {
    // The kernel knows a directory's parent by itself; the number given for `..` is a formality.
    [(&b"."[..], ino), (b"..", root::PARENT)]
        .into_iter()
        .zip(1..)
        .filter(|(_, place)| *place > offset)
        .map(|((name, ino), place)| (name.to_vec(), ino, FileKind::Directory, place))
        .collect()
}

/// The kernel's offset after the entry with this cookie. Two offsets are taken by `.` and `..`; the highest
/// cookie, with which ext4 and btrfs end a directory, stays what it is.
const fn offset_after(cookie: u64) -> u64 {
    if cookie >= LAST_OFFSET - 2 { LAST_OFFSET } else { cookie + 2 }
}

/// The cookie that an offset stands for; `None` before the end of `.` and `..`.
const fn cookie_of(offset: u64) -> Option<u64> {
    match offset {
        0 | 1 => None,
        LAST_OFFSET => Some(LAST_OFFSET),
        offset => Some(offset - 2),
    }
}

/// The highest offset that lseek(2) takes.
const LAST_OFFSET: u64 = i64::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_cookies_belong_together() {
        for cookie in [0, 1, 2, 77, 1 << 40, LAST_OFFSET] {
            assert_eq!(cookie_of(offset_after(cookie)), Some(cookie));
        }
        assert_eq!(cookie_of(1), None);
    }

    #[test]
    fn the_dots_come_first_and_once() {
        let ino = InodeNo::new(9).unwrap();
        let names = |offset| dots(ino, offset).into_iter().map(|d| d.0).collect::<Vec<_>>();
        assert_eq!(names(0), [b".".to_vec(), b"..".to_vec()]);
        assert_eq!(names(1), [b"..".to_vec()]);
        assert!(names(2).is_empty());
        assert!(names(LAST_OFFSET).is_empty());
    }

    #[test]
    fn a_synthetic_directory_goes_on_where_it_stopped() {
        let entry = |name: &str| SyntheticEntry {
            name: name.as_bytes().to_vec(),
            ino: InodeNo::new(5).unwrap(),
            kind: FileKind::Directory,
        };
        let entries = [entry("a"), entry("b"), entry("c")];
        let mut first = Page { entries: Vec::new() };
        first.add_synthetic(&entries, 0);
        assert_eq!(first.entries.len(), 3);
        let mut rest = Page { entries: Vec::new() };
        rest.add_synthetic(&entries, cookie_of(first.entries[0].3).unwrap());
        assert_eq!(rest.entries[..], first.entries[1..]);
    }
}
