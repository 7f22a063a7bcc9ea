//! `Job`: a job as the daemon runs it, in a view that is a copy of the machine's tree in memory, so that
//! nothing of a test lands on the machine.

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mfs::jobs::{Ended, Order, Program, Report, Setup, Terminal, read_frame, write_frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::time::Timespec;

use super::sys;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An ordinary user, and a group of theirs.
pub(super) const USER: u32 = 1000;

/// What a test wants to be run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) setup: Setup,
    /// Lines of shell that change `$place/view` before the job begins.
    pub(super) prepare: &'static str,
    /// What the program is given to read.
    pub(super) input: &'static str,
}

/// A job that was begun.
pub(super) struct Job {
    place: tempfile::TempDir,
    keeper: Child,
    /// The daemon's end; none: the daemon is gone.
    daemon: Option<UnixStream>,
    /// Its terminal, once it runs.
    pub(super) master: Option<fs::File>,
    out: Stream,
    err: Stream,
}

/// What a program writes, as it comes.
#[derive(Default)]
pub(super) struct Stream {
    chunks: Option<Receiver<String>>,
    text: String,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ended: Result<Ended, (String, u8)>,
    pub(super) out: String,
    pub(super) err: String,
}

// === impl Plan ===

impl Plan {
    /// A line of shell, run by root in /.
    pub(super) fn shell(line: &str) -> Self {
        Self::command(&["sh", "-c", line])
    }

    /// A program and its arguments.
    pub(super) fn command(words: &[&str]) -> Self {
        let program = Program {
            command: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            environment: vec![b"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_vec()],
            directory: b"/".to_vec(),
            umask: 0o22,
            nice: 0,
            limits: Vec::new(),
            terminal: None,
        };
        let none = Path::new("").to_owned();
        let setup = Setup {
            program,
            uid: 0,
            gid: 0,
            groups: vec![],
            view: none.clone(),
            cluster: none.clone(),
            scratch: none,
            host_name: "the-home".to_owned(),
            local_tmp: false,
        };
        Self { setup, prepare: "", input: "" }
    }

    /// The same for an ordinary user.
    pub(super) fn by_user(mut self) -> Self {
        (self.setup.uid, self.setup.gid) = (USER, USER);
        self
    }

    /// The same, changed.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same on a terminal.
    pub(super) fn on_terminal(self) -> Self {
        self.with(|plan| plan.setup.program.terminal = Some(Terminal { rows: 33, columns: 101 }))
    }

    /// Runs it to its end.
    pub(super) fn run(self) -> Outcome {
        let mut job = self.begin();
        match job.report() {
            Some(Report::Running) => job.outcome(),
            Some(Report::Failed(sentence, status)) => job.finish(Err((sentence, status))),
            other => panic!("{other:?} came first; {:?}", job.finish(Err((String::new(), 0)))),
        }
    }

    /// What it writes, without the last end of line, if it succeeds and complains of nothing.
    pub(super) fn said(self) -> String {
        let outcome = self.run();
        assert_eq!(outcome.ended, Ok(Ended::Exited(0)), "{outcome:?}");
        assert_eq!(outcome.err, "", "{outcome:?}");
        outcome.out.trim_end_matches('\n').to_owned()
    }

    /// Begins it, and gives it what it reads.
    pub(super) fn begin(mut self) -> Job {
        let place = tempfile::tempdir().unwrap();
        let path = place.path();
        self.setup.view = path.join("view");
        self.setup.cluster = path.join("cluster");
        self.setup.scratch = path.join("scratch");
        let line = format!(
            "place={}; mount -t tmpfs none $place; cd $place; mkdir up work view scratch cluster; \
             mount -t overlay none -o lowerdir=/,upperdir=up,workdir=work view; \
             mkdir -p view/mfs cluster/below; echo hello >cluster/greeting; \
             mount -t tmpfs none cluster/below; {}\n cd /; exec {}",
            path.display(),
            self.prepare,
            env!("CARGO_BIN_EXE_mfs-init"),
        );
        let (daemon, own) = UnixStream::pair().unwrap();
        daemon.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-ec", &line]);
        // mfsd's own are none of a job's.
        command.env("SECRET", "of the daemon");
        sys::give_as_3(&mut command, OwnedFd::from(own));
        let piped = self.setup.program.terminal.is_none();
        let stream = || if piped { Stdio::piped() } else { Stdio::null() };
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let mut keeper = command.spawn().unwrap();
        // The command still has the job's end of the socket.
        drop(command);
        write_frame(&daemon, &Order::Begin(Box::new(self.setup))).unwrap();
        if let Some(mut input) = keeper.stdin.take() {
            input.write_all(self.input.as_bytes()).unwrap();
        }
        let out = keeper.stdout.take().map(Stream::of).unwrap_or_default();
        let err = keeper.stderr.take().map(Stream::of).unwrap_or_default();
        Job { place, keeper, daemon: Some(daemon), master: None, out, err }
    }

    /// Begins it, and waits until it runs.
    pub(super) fn running(self) -> Job {
        let mut job = self.begin();
        assert_eq!(job.report(), Some(Report::Running));
        job
    }
}

// === impl Job ===

impl Job {
    /// The next report, with the terminal that came along.
    fn report(&mut self) -> Option<Report> {
        let mut daemon = self.daemon.as_ref().unwrap();
        let mut frame = vec![0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut frame)];
        // One who ended without having read its orders resets the stream.
        let read = match recvmsg(daemon, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => panic!("no report: {error}"),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.master = descriptors.map(fs::File::from).next();
            }
        }
        if read == 0 {
            return None;
        }
        daemon.read_exact(&mut frame[read..]).unwrap();
        let length = u32::from_le_bytes(frame[..4].try_into().unwrap());
        daemon.take(length.into()).read_to_end(&mut frame).unwrap();
        read_frame(&frame[..]).unwrap()
    }

    /// Tells whether its end has been reported.
    pub(super) fn has_ended(&self) -> impl Fn() -> bool + use<> {
        let daemon = self.daemon.as_ref().unwrap().try_clone().unwrap();
        move || {
            let now = Timespec::default();
            poll(&mut [PollFd::new(&daemon, PollFlags::IN)], Some(&now)).unwrap() > 0
        }
    }

    /// Waits until it has written this.
    pub(super) fn until(mut self, word: &str) -> Self {
        while !self.out.text.contains(word) {
            assert!(self.out.grow(), "no {word:?} in {:?}", self.out.text);
        }
        self
    }

    /// Waits until it has closed all that it could write to.
    pub(super) fn until_closed(mut self) -> Self {
        while self.out.grow() || self.err.grow() {}
        self
    }

    /// Has it sent a signal.
    pub(super) fn signal(&self, signal: i32) {
        write_frame(self.daemon.as_ref().unwrap(), &Order::Signal(signal)).unwrap();
    }

    /// Waits for the end of a job that runs.
    pub(super) fn outcome(mut self) -> Outcome {
        // Who sets up a terminal waits until it is read; the end of the job is an error of it (EIO).
        if let Some(mut master) = self.master.take() {
            let _ = std::io::copy(&mut master, &mut std::io::sink());
        }
        let Some(Report::Ended(how)) = self.report() else { panic!("it did not end") };
        self.finish(Ok(how))
    }

    /// As if the daemon had died; answers what was written.
    pub(super) fn abandon(mut self) -> Outcome {
        (self.daemon, self.master) = (None, None);
        self.finish(Ok(Ended::Killed(9)))
    }

    /// The keeper, for a test that ends it.
    pub(super) fn keeper(&mut self) -> &mut Child {
        &mut self.keeper
    }

    fn finish(mut self, ended: Result<Ended, (String, u8)>) -> Outcome {
        if self.daemon.is_some() {
            assert_eq!(self.report(), None, "nothing is said after the end");
        }
        self.keeper.wait().unwrap();
        while self.out.grow() || self.err.grow() {}
        self.assert_nothing_is_left();
        Outcome { ended, out: self.out.text, err: self.err.text }
    }

    /// No process is in the job's mounts any more, and the machine has none of them.
    fn assert_nothing_is_left(&self) {
        let mark = self.place.path().to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let mounts = fs::read_to_string(entry.path().join("mountinfo"));
            mounts.is_ok_and(|mounts| mounts.contains(mark))
        });
        let names: Vec<_> = processes
            .map(|entry| (entry.file_name(), fs::read_to_string(entry.path().join("comm"))))
            .collect();
        assert!(names.is_empty(), "left behind: {names:?}");
        assert_eq!(fs::read_dir(mark).unwrap().count(), 0, "files of the job are left in {mark}");
    }
}

// === impl Stream ===

impl Stream {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                let _ = sender.send(String::from_utf8_lossy(&bytes[..read]).into_owned());
            }
        });
        Self { chunks: Some(chunks), text: String::new() }
    }

    /// Waits for more; answers whether there was any.
    fn grow(&mut self) -> bool {
        let more = self.chunks.as_ref().and_then(|chunks| chunks.recv_timeout(PATIENCE).ok());
        self.text.push_str(more.as_deref().unwrap_or_default());
        more.is_some()
    }
}
