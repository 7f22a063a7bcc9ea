//! `Watcher`: the queue of local changes, the marks that fill it, and the thread that waits for it.
//!
//! Marks are made by that thread, since those that serve files have not the right to.
//!
//! Lock order: `Watcher::state`, `Watcher::wake`, `Watcher::requests`; none is held while another is
//! taken.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::sys::{self, Event, Fid};
use super::{Changed, LocalChanges};
use crate::export::mountinfo::{self, MountLine};
use crate::export::mounts::FsKey;
use crate::export::numbers::{Identity, Numbers};
use crate::sync::Mutex;
use crate::types::InodeNo;

/// File systems whose files are changed through this kernel alone, and in which an event names a file as
/// its id does, and which say of each directory whether it folds case (`f_type` of statfs(2)). In all others
/// somebody else may change them, and no event says so.
const WATCHED_KINDS: &[u64] = &[
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0xca45_1a4e, // bcachefs
    0x3434,      // NILFS2
    0x0102_1994, // tmpfs
];

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
    state: Mutex<State>,
    requests: Mutex<Vec<Request>>,
    knock: OwnedFd,
    over: AtomicBool,
    wake: Mutex<Box<dyn Fn() + Send>>,
}

struct State {
    /// The file systems that have a mark, by the `f_fsid` in events.
    marked: HashMap<u64, FsKey>,
    watched: Arc<HashSet<FsKey>>,
    /// Those that cannot be watched.
    refused: HashSet<FsKey>,
    /// What was mounted below the tree.
    lines: Vec<MountLine>,
}

/// Asks the thread for a mark.
struct Request {
    door: OwnedFd,
    done: mpsc::Sender<std::io::Result<()>>,
}

// === impl Watcher ===

impl Watcher {
    /// Begins to notice; nothing is marked yet. `wake` is called by a thread of its own when there is
    /// something to be read. The tree lies at `place`.
    pub(super) fn start(place: PathBuf, wake: Box<dyn Fn() + Send>) -> std::io::Result<Arc<Self>> {
        let watcher = Arc::new(Self {
            events: sys::group()?,
            mounts: open_mountinfo()?,
            state: Mutex::new(State {
                marked: HashMap::new(),
                watched: Arc::default(),
                refused: HashSet::new(),
                lines: mounts_below(&place)?,
            }),
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

    /// The file systems that are watched at the moment.
    pub(super) fn watched(&self) -> Arc<HashSet<FsKey>> {
        Arc::clone(&self.state.lock().watched)
    }

    /// Whether nothing can be gained by marking a file system (again).
    pub(super) fn is_decided(&self, fs: FsKey) -> bool {
        let state = self.state.lock();
        state.watched.contains(&fs) || state.refused.contains(&fs)
    }

    /// Marks the file system that `door` lies in, if it can be watched.
    pub(super) fn mark(&self, fs: FsKey, door: BorrowedFd<'_>) -> std::io::Result<()> {
        let fsid = rustix::fs::fstatvfs(door)?.f_fsid;
        let kind = rustix::fs::fstatfs(door)?.f_type as u64;
        let marked = if WATCHED_KINDS.contains(&kind) && fsid != 0 {
            // Before the mark: an event that comes at once must be understood.
            self.state.lock().marked.insert(fsid, fs);
            self.ask_for_mark(door)
        } else {
            Err(std::io::ErrorKind::Unsupported.into())
        };
        let mut state = self.state.lock();
        match &marked {
            Ok(()) => {
                let mut watched = HashSet::clone(&state.watched);
                watched.insert(fs);
                state.watched = Arc::new(watched);
            }
            Err(error) => {
                tracing::info!("local changes of a file system cannot be noticed: {error}");
                state.refused.insert(fs);
            }
        }
        marked
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
        let lines = mounts_below(&self.place).unwrap_or_default();
        let mut state = self.state.lock();
        if state.lines == lines {
            return false;
        }
        state.lines = lines;
        state.watched = Arc::default();
        state.refused.clear();
        true
    }

    fn read_all(&self, numbers: &Numbers, changes: &mut LocalChanges) {
        let mut buffer = vec![0; BUFFER];
        let own_pid = std::process::id();
        let (mut others, mut own) = (HashMap::new(), HashMap::new());
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
                let by = if is_own { &mut own } else { &mut others };
                for (fid, names) in touched(event, is_own) {
                    *by.entry(fid).or_insert(false) |= names;
                }
            }
        }
        let state = self.state.lock();
        let changed = |((fsid, handle), names): (Fid, bool)| {
            let fs = state.marked.get(&fsid)?;
            let ino: InodeNo = numbers.of(&Identity::Handle(*fs, &handle));
            Some(Changed { ino, names })
        };
        changes.others = others.into_iter().filter_map(changed).collect();
        changes.own = own.into_iter().filter_map(changed).collect();
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
            self.make_marks();
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

    fn make_marks(&self) {
        let _ = rustix::io::read(&self.knock, &mut [0; 8]);
        for Request { door, done } in std::mem::take(&mut *self.requests.lock()) {
            // Who asked waits for it.
            let _ = done.send(sys::mark(self.events.as_fd(), door.as_fd()));
        }
    }

    fn ask_for_mark(&self, door: BorrowedFd<'_>) -> std::io::Result<()> {
        let door = rustix::io::fcntl_dupfd_cloexec(door, 0)?;
        let (done, answer) = mpsc::channel();
        self.requests.lock().push(Request { door, done });
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

fn open_mountinfo() -> std::io::Result<File> {
    File::open("/proc/self/mountinfo")
}

fn mounts_below(place: &PathBuf) -> std::io::Result<Vec<MountLine>> {
    let mut lines = mountinfo::read()?;
    lines.retain(|line| line.place.starts_with(place) || place.starts_with(&line.place));
    Ok(lines)
}
