//! `Watcher`: the queue of local changes, the marks that fill it, and the thread that waits for it.
//!
//! File systems are marked by that thread, since those that serve files have not the right to.
//!
//! Lock order; `wake` is taken without the others:
//!   `Watcher::marks`
//!     `Watcher::requests`

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::marks::{Idle, Marks};
use super::sys::{self, Event, Fid};
use super::{Changed, LocalChanges, Used, kinds};
use crate::export::mountinfo::{self, MountLine};
use crate::export::mounts::FsKey;
use crate::export::numbers::{Identity, Numbers};
use crate::sync::Mutex;
use crate::types::{FileId, InodeNo};

/// Most files of which writes are noticed: each stays in memory meanwhile, with about a KiB. Not more than
/// half of what the user may have marks, since others need some, too.
const MOST_FILES: usize = 65_536;

/// How long the thread lets changes gather. A process that writes without pause would wake it for each;
/// meanwhile the kernel makes one event of all changes of one name.
const GATHERING: Duration = Duration::from_millis(1);

/// Read at once: some hundreds of events.
const BUFFER: usize = 64 * 1024;

/// Most reads of one look: more than the queue can hold.
const MOST_READS: usize = 128;

/// Notices local changes of one tree.
pub(super) struct Watcher {
    events: OwnedFd,
    /// Readable when mounts change: each says so once to whoever waits on it.
    mounts: File,
    place: PathBuf,
    /// What was mounted below the tree.
    lines: Mutex<Vec<MountLine>>,
    marks: Mutex<Marks>,
    requests: Mutex<Vec<Request>>,
    knock: OwnedFd,
    over: AtomicBool,
    wake: Mutex<Box<dyn Fn() + Send>>,
}

/// What the thread is asked for.
enum Request {
    /// To mark a file system.
    Mark { door: OwnedFd, done: mpsc::Sender<std::io::Result<()>> },
    /// To take the marks of all file systems away.
    Unmark,
}

// === impl Watcher ===

impl Watcher {
    /// Begins to notice; nothing is marked yet. `wake` is called by a thread of its own when there is
    /// something to be read. The tree lies at `place`.
    pub(super) fn start(place: PathBuf, wake: Box<dyn Fn() + Send>) -> std::io::Result<Arc<Self>> {
        let watcher = Arc::new(Self {
            events: sys::group()?,
            mounts: open_mountinfo()?,
            lines: Mutex::new(mounts_below(&place)?),
            marks: Mutex::new(Marks::new(most_files())),
            place,
            requests: Mutex::default(),
            knock: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            over: AtomicBool::new(false),
            wake: Mutex::new(wake),
        });
        let mounts = open_mountinfo()?;
        let waiting = Arc::clone(&watcher);
        std::thread::Builder::new()
            .name("mfsd-watch".to_owned())
            .spawn(move || waiting.wait(&mounts))?;
        Ok(watcher)
    }

    /// Has another told of changes.
    pub(super) fn set_wake(&self, wake: Box<dyn Fn() + Send>) {
        *self.wake.lock() = wake;
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::Release);
        self.knock();
    }

    /// What is watched.
    pub(super) const fn marks(&self) -> &Mutex<Marks> {
        &self.marks
    }

    /// Marks the file system that `door` lies in. Since when it is watched; `None` if it cannot be.
    pub(super) fn mark_file_system(&self, fs: FsKey, door: BorrowedFd<'_>) -> Option<u64> {
        let marked = kinds::watchable(door).and_then(|fsid| {
            self.marks.lock().expect(fsid, fs);
            self.ask_for_mark(door)
        });
        let mut marks = self.marks.lock();
        match marked {
            Ok(()) => Some(marks.add_file_system(fs)),
            Err(error) => {
                tracing::info!("local changes of a file system cannot be noticed: {error}");
                marks.refuse(fs);
                None
            }
        }
    }

    /// Marks a file, which `fd` is open on, for a reading that began then. Since when what is written to it
    /// is noticed; `None` if no mark is to be had.
    pub(super) fn mark_file(
        &self,
        ino: InodeNo,
        file: &FileId,
        fd: BorrowedFd<'_>,
        began: u64,
    ) -> Option<u64> {
        let mut marks = self.marks.lock();
        if let Some(since) = marks.use_file(ino, began) {
            return Some(since);
        }
        if marks.is_full() {
            return None;
        }
        // Under the lock: else it could be taken away again by who has just forgotten it.
        if let Err(error) = sys::mark_file(self.events.as_fd(), fd) {
            tracing::debug!("writes to a file cannot be noticed: {error}");
            return None;
        }
        Some(marks.add_file(ino, file.clone(), began))
    }

    /// Takes the mark of a file away, unless somebody relies on it again. `fd` is open on it; without, it is
    /// gone, and its mark with it.
    pub(super) fn unmark_file(&self, idle: &Idle, fd: Option<BorrowedFd<'_>>) {
        let mut marks = self.marks.lock();
        if marks.remove_idle(idle)
            && let Some(fd) = fd
            && let Err(error) = sys::unmark_file(self.events.as_fd(), fd)
        {
            tracing::debug!("a file was not marked: {error}");
        }
    }

    /// Takes all marks away if nothing was read for so long and `unwanted` says so.
    pub(super) fn unmark_all(&self, idle: Duration, unwanted: impl FnOnce() -> bool) -> bool {
        let mut marks = self.marks.lock();
        if !marks.is_idle(idle) || !unwanted() {
            return false;
        }
        self.forget(&mut marks);
        // Under the lock: who wants a mark from now on asks for it after this.
        self.requests.lock().push(Request::Unmark);
        drop(marks);
        self.knock();
        true
    }

    fn forget(&self, marks: &mut Marks) {
        marks.forget();
        if let Err(error) = sys::unmark_files(self.events.as_fd()) {
            tracing::warn!("marks of files cannot be taken away: {error}");
        }
    }

    /// What was changed since the last look; of each file once.
    pub(super) fn look(&self, numbers: &Numbers) -> LocalChanges {
        let mut changes = LocalChanges::default();
        let ready = {
            let mut fds = [
                PollFd::new(&self.events, PollFlags::IN),
                PollFd::new(&self.mounts, PollFlags::PRI),
            ];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            match poll(&mut fds, Some(&now)) {
                Ok(0) => return changes,
                Ok(_) => fds.map(|fd| !fd.revents().is_empty()),
                Err(_) => [true, true],
            }
        };
        if ready[1] && self.mounts_changed() {
            changes.anything = true;
        }
        if ready[0] {
            self.read_all(numbers, &mut changes);
        }
        changes
    }

    /// Whether something was mounted or unmounted below the tree. A mark goes with its file system: what
    /// is mounted there now is marked anew before anything is read in it.
    fn mounts_changed(&self) -> bool {
        let now = mounts_below(&self.place).unwrap_or_default();
        let mut lines = self.lines.lock();
        if *lines == now {
            return false;
        }
        *lines = now;
        drop(lines);
        self.forget(&mut self.marks.lock());
        true
    }

    fn read_all(&self, numbers: &Numbers, changes: &mut LocalChanges) {
        let mut buffer = vec![0; BUFFER];
        let own_pid = std::process::id();
        let (mut others, mut own, mut used) = (HashMap::new(), HashMap::new(), HashMap::new());
        for _ in 0..MOST_READS {
            let len = match sys::read(self.events.as_fd(), &mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) => {
                    tracing::warn!("local changes cannot be read: {error}");
                    changes.anything = true;
                    break;
                }
            };
            for event in sys::events(&buffer[..len]) {
                let Some(event) = event else {
                    changes.anything = true;
                    continue;
                };
                let is_own = u32::try_from(event.pid) == Ok(own_pid);
                if let Some((fid, pid, bits)) = using(&event).filter(|_| !is_own) {
                    *used.entry((fid, pid)).or_insert(0) |= bits;
                }
                let by = if is_own { &mut own } else { &mut others };
                for (fid, names) in touched(event, is_own) {
                    *by.entry(fid).or_insert(false) |= names;
                }
            }
        }
        let marks = self.marks.lock();
        let changed = |((fsid, handle), names): (Fid, bool)| {
            let fs = marks.named(fsid)?;
            let ino: InodeNo = numbers.of(&Identity::Handle(fs, &handle));
            Some(Changed { ino, names })
        };
        changes.others = others.into_iter().filter_map(changed).collect();
        changes.own = own.into_iter().filter_map(changed).collect();
        let in_use = |(((fsid, handle), pid), bits): ((Fid, i32), u64)| {
            let fs = marks.named(fsid)?;
            let ino: InodeNo = numbers.of(&Identity::Handle(fs, &handle));
            let (opened, closed) = (bits & libc::FAN_OPEN != 0, bits & libc::FAN_CLOSE != 0);
            Some(Used { ino, pid, opened, closed })
        };
        changes.used = used.into_iter().filter_map(in_use).collect();
    }

    /// The thread: waits for changes and requests.
    fn wait(&self, mounts: &File) {
        while !self.over.load(Ordering::Acquire) {
            let ready = {
                let mut fds = [
                    PollFd::new(&self.knock, PollFlags::IN),
                    PollFd::new(&self.events, PollFlags::IN),
                    PollFd::new(mounts, PollFlags::PRI),
                ];
                match poll(&mut fds, None) {
                    Ok(_) => fds.map(|fd| !fd.revents().is_empty()),
                    Err(_) => continue, // interrupted
                }
            };
            self.serve_requests();
            if ready[1] || ready[2] {
                (self.wake.lock())();
                self.gather();
            }
        }
    }

    fn gather(&self) {
        let mut fds = [PollFd::new(&self.knock, PollFlags::IN)];
        let time = Timespec { tv_sec: 0, tv_nsec: GATHERING.as_nanos() as i64 };
        let _ = poll(&mut fds, Some(&time)); // interrupted, it is shorter
    }

    fn serve_requests(&self) {
        let _ = rustix::io::read(&self.knock, &mut [0; 8]);
        for request in std::mem::take(&mut *self.requests.lock()) {
            match request {
                Request::Mark { door, done } => {
                    // Who asked waits for it.
                    let _ = done.send(sys::mark_file_system(self.events.as_fd(), door.as_fd()));
                }
                Request::Unmark => {
                    if let Err(error) = sys::unmark_file_systems(self.events.as_fd()) {
                        tracing::warn!("marks of file systems cannot be taken away: {error}");
                    }
                }
            }
        }
    }

    fn ask_for_mark(&self, door: BorrowedFd<'_>) -> std::io::Result<()> {
        let door = rustix::io::fcntl_dupfd_cloexec(door, 0)?;
        let (done, answer) = mpsc::channel();
        self.requests.lock().push(Request::Mark { door, done });
        self.knock();
        answer.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn knock(&self) {
        // Full, it is readable all the same.
        let _ = rustix::io::write(&self.knock, &1_u64.to_ne_bytes());
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The file that an event says was opened or closed, by whom, and which of it.
fn using(event: &Event) -> Option<(Fid, i32, u64)> {
    let bits = event.mask & (libc::FAN_OPEN | libc::FAN_CLOSE);
    let file = event.file.clone().filter(|_| bits != 0)?;
    Some((file, event.pid, bits))
}

/// The files that an event concerns, and whether names in them.
fn touched(event: Event, own: bool) -> impl Iterator<Item = (Fid, bool)> {
    const NAMES: u64 =
        libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
    let Event { mask, directory, file, .. } = event;
    let named = mask & NAMES != 0;
    // A new file is new to everybody; a new link also changes the attributes, and says so.
    let attributes = libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
    // What this process wrote it has announced; that it closes a file says nothing more.
    let unseen = if own { 0 } else { libc::FAN_CLOSE_WRITE };
    let content = libc::FAN_ATTRIB | libc::FAN_MODIFY | unseen;
    let removed_directory = mask & libc::FAN_DELETE != 0 && mask & libc::FAN_ONDIR != 0;
    let changed = mask & (attributes | content) != 0;
    // A change of a directory itself names it as its own directory.
    let (parent, file) = match (named, file) {
        (true, file) => (directory, file),
        (false, Some(file)) => (None, Some(file)),
        (false, None) => (None, directory),
    };
    let file = file.filter(|_| changed).map(|file| (file, removed_directory));
    parent.map(|parent| (parent, true)).into_iter().chain(file)
}

fn most_files() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/fs/fanotify/max_user_marks");
    let limit = limit.ok().and_then(|text| text.trim().parse::<usize>().ok());
    limit.map_or(MOST_FILES, |limit| MOST_FILES.min(limit / 2))
}

fn open_mountinfo() -> std::io::Result<File> {
    File::open("/proc/self/mountinfo")
}

fn mounts_below(place: &PathBuf) -> std::io::Result<Vec<MountLine>> {
    let mut lines = mountinfo::read()?;
    lines.retain(|line| line.place.starts_with(place) || place.starts_with(&line.place));
    Ok(lines)
}
