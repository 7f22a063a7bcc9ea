//! Panics in a real mount: before an operation leaves its reader thread, in its work, and in its answer.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mfs::sync::Mutex;

use rustix::io::Errno as Os;
use rustix::mount::MountFlags;
use tracing::field::{Field, Visit};

use super::*;
use crate::fs::{MountedFs, Terms};
use crate::passthrough::Passthrough;
use crate::port::Port;
use crate::reply::{Reply, XattrReply};
use crate::session::{self, KernelMount, Place};

/// More than there are reader threads: if one died of each, none would be left to answer.
const TIMES: usize = 40;

/// Where asking for the extended attribute of this name panics.
const FAULTS: [&str; 4] = ["user.reader", "user.begin", "user.later", "user.answer"];

/// The port of a mount, with faults.
struct Faulty(Port);

fn fault() -> Result<bytes::Bytes, Errno> {
    panic!("on purpose")
}

/// An answer that cannot be given.
struct Unanswerable(fuser::ReplyXattr);

impl Reply<()> for Unanswerable {
    fn succeed(self, (): ()) {
        panic!("on purpose");
    }

    fn fail(self, errno: fuser::Errno) {
        self.0.error(errno);
    }
}

impl fuser::Filesystem for Faulty {
    fn init(&mut self, request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.0.init(request, config)
    }

    fn getattr(&self, r: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        self.0.getattr(r, ino, fh, reply);
    }

    fn opendir(&self, r: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.0.opendir(r, ino, flags, reply);
    }

    fn readdir(&self, r: &Request, i: INodeNo, fh: FileHandle, at: u64, reply: ReplyDirectory) {
        self.0.readdir(r, i, fh, at, reply);
    }

    fn releasedir(&self, r: &Request, i: INodeNo, h: FileHandle, f: OpenFlags, reply: ReplyEmpty) {
        self.0.releasedir(r, i, h, f, reply);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        let answer = XattrReply { reply, room };
        match name.to_str() {
            Some("user.reader") => panic!("on purpose"),
            Some("user.begin") => self.0.answer("begin", answer, |_| async { fault() }),
            Some("user.later") => self.0.answer("later", answer, |_| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                fault()
            }),
            _ => self.0.answer("answer", Unanswerable(answer.reply), |_| async { Ok(()) }),
        }
    }
}

/// What was logged as an error: how often, by operation.
#[derive(Default, Clone)]
struct Logged(Arc<Mutex<BTreeMap<String, usize>>>);

struct Operation(Option<String>);

impl Visit for Operation {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "operation" {
            self.0 = Some(value.to_owned());
        }
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut operation = Operation(None);
        event.record(&mut operation);
        if let Some(operation) = operation.0 {
            *self.0.lock().entry(operation).or_default() += 1;
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// The log of this process, from now on.
fn log() -> &'static Logged {
    static LOG: OnceLock<Logged> = OnceLock::new();
    LOG.get_or_init(|| {
        let logged = Logged::default();
        tracing::subscriber::set_global_default(logged.clone()).expect("no other test logs");
        logged
    })
}

/// A mount of a cluster without nodes, by a port with faults.
struct Mounted {
    dir: tempfile::TempDir,
    mount: Option<KernelMount>,
    _runtime: tokio::runtime::Runtime,
}

impl Mounted {
    fn new() -> Self {
        let can_mount = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
        assert!(can_mount, "a real mount needs root and /dev/fuse: run it by scripts/test");
        let dir = tempfile::Builder::new().prefix("mfs-contain-").tempdir().expect("a directory");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let port = Port {
            fs: MountedFs::new(Terms { timeo: Duration::from_secs(20), hard: false }),
            runtime: runtime.handle().clone(),
            passthrough: Arc::new(Passthrough::default()),
            stack_depth: 0,
            always: mfs::types::OpenFlags::empty(),
        };
        let place = Place {
            source: OsStr::new("mfs-contain-test"),
            mountpoint: dir.path(),
            flags: MountFlags::NODEV,
            backing_files: false,
            guarded: false,
        };
        let mount = KernelMount::of(Faulty(port), &place, |_, _| ()).expect("a mount");
        Self { dir, mount: Some(mount), _runtime: runtime }
    }

    fn top(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        session::detach(&self.top());
        let ended = self.mount.take().expect("a mount is dropped once").wait();
        if !std::thread::panicking() {
            ended.expect("no reader thread died");
        }
    }
}

#[test]
fn a_panic_is_an_error_of_its_request_and_the_mount_goes_on() {
    let mounted = Mounted::new();
    let (top, logged) = (mounted.top(), log());
    for _ in 0..TIMES {
        for name in FAULTS {
            let name = CString::new(name).unwrap();
            let asked = rustix::fs::getxattr(&top, &name, &mut [0_u8; 100]);
            assert_eq!(asked, Err(Os::IO), "{name:?}");
        }
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 0);
    }
    // The reader's is logged as the kernel names it, and the last one by whoever sends answers. Who asked may
    // have the answer first: a reply that is dropped is one.
    let begin = mfs::clock::now();
    for operation in ["getxattr", "begin", "later"] {
        loop {
            let times = logged.0.lock().clone();
            if times.get(operation) == Some(&TIMES) {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{operation}: {times:?}");
            std::thread::yield_now();
        }
    }
    assert!(mounted.mount.is_some());
}
