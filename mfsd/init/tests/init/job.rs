//! `Job`: a job as the daemon runs it, in a view that is a copy of the machine's tree in memory, so that
//! nothing of a test lands on the machine.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mfs_init::{
    Ended, Notice, Order, OrderError, Program, Report, Setup, Task, Terminal, read_frame,
    write_frame,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
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
    /// The daemon's ends; none: the daemon is gone.
    daemon: Option<Daemon>,
    /// On a terminal: what is typed.
    keys: Option<ChildStdin>,
    out: Stream,
    err: Stream,
}

/// The daemon's side of a job, but for its streams.
struct Daemon {
    /// To the keeper.
    keeper: UnixStream,
    /// To the first process.
    orders: File,
    /// From the first process.
    reports: File,
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

/// The program, which is built apart (`scripts/build`), beside the other programs: above this test's `deps`.
pub(super) fn mfs_init() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(Path::parent).unwrap().join("mfs-init");
    assert!(program.is_file(), "there is no {}: run scripts/build first", program.display());
    program
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
            piped_input: false,
            piped_error: false,
            modes: None,
            in_background: false,
            output: None,
            ignored: 0,
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
             mount -t tmpfs none cluster/below; echo >cluster/below/seen; {}\n cd /; exec {} keep",
            path.display(),
            self.prepare,
            mfs_init().display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-ec", &line]);
        // mfsd's own are none of a job's.
        command.env("SECRET", "of the daemon");
        let daemon = Daemon::of(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        // The command still has the job's ends.
        drop(command);
        let on_terminal = self.setup.program.terminal.is_some();
        write_frame(&daemon.keeper, &Task::Begin(Box::new(self.setup))).unwrap();
        let mut input = keeper.stdin.take().unwrap();
        input.write_all(self.input.as_bytes()).unwrap();
        let keys = Some(input).filter(|_| on_terminal);
        let out = Stream::of(keeper.stdout.take().unwrap());
        let err = Stream::of(keeper.stderr.take().unwrap());
        Job { place, keeper, daemon: Some(daemon), keys, out, err }
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
    /// The next report; at the end of them, what the keeper says of the end.
    fn report(&mut self) -> Option<Report> {
        let daemon = self.daemon.as_ref().unwrap();
        if let Some(report) = daemon.next_report() {
            return Some(report);
        }
        loop {
            match daemon.next_notice()? {
                Notice::First(_) => {}
                Notice::Lost => return Some(Report::Ended(Ended::Killed(9))),
                Notice::Failed(sentence) => return Some(Report::Failed(sentence, 126)),
                Notice::Prepared => panic!("nothing was to be restored"),
            }
        }
    }

    /// Tells whether something was reported that has not been heard.
    fn has_more_to_say(&self) -> bool {
        let reports = &self.daemon.as_ref().unwrap().reports;
        let now = Timespec::default();
        poll(&mut [PollFd::new(reports, PollFlags::IN)], Some(&now)).unwrap() > 0
    }

    /// Waits for the report that it was stopped; answers by which signal.
    pub(super) fn stopped(&mut self) -> i32 {
        match self.report() {
            Some(Report::Stopped(signal)) => signal,
            other => panic!("{other:?} instead of a stop"),
        }
    }

    /// What it has written since this was asked last, up to now, when it has written this.
    pub(super) fn shown(&mut self, word: &str) -> String {
        while !self.out.text.contains(word) {
            assert!(self.out.grow(), "no {word:?} in {:?}", self.out.text);
        }
        std::mem::take(&mut self.out.text)
    }

    /// Types on its terminal.
    pub(super) fn types(&self, keys: &str) {
        self.keys.as_ref().unwrap().write_all(keys.as_bytes()).unwrap();
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
        self.order(&Order::Signal(signal));
    }

    /// Has its first process do something.
    pub(super) fn order(&self, order: &Order) {
        write_frame(&self.daemon.as_ref().unwrap().orders, order).unwrap();
    }

    /// Sends a signal again and again until it ends: what it is to reach may only be starting.
    pub(super) fn end_by(self, signal: i32) -> Outcome {
        while !self.has_more_to_say() {
            self.signal(signal);
            let _ = rustix::thread::nanosleep(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 });
        }
        self.outcome()
    }

    /// Waits for the end of a job that runs.
    pub(super) fn outcome(mut self) -> Outcome {
        let Some(Report::Ended(how)) = self.report() else { panic!("it did not end") };
        self.finish(Ok(how))
    }

    /// As if the daemon had died; answers what was written.
    pub(super) fn abandon(mut self) -> Outcome {
        (self.daemon, self.keys) = (None, None);
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

// === impl Daemon ===

impl Daemon {
    /// Gives the command's child the other ends, as the daemon does.
    fn of(command: &mut Command) -> Self {
        let (keeper, own) = UnixStream::pair().unwrap();
        keeper.set_read_timeout(Some(PATIENCE)).unwrap();
        let (obeyed, orders) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (reports, reporting) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        sys::give(command, vec![own.into(), obeyed, reporting]);
        Self { keeper, orders: orders.into(), reports: reports.into() }
    }

    fn next_report(&self) -> Option<Report> {
        let patience = PATIENCE.try_into().unwrap();
        let mut reported = [PollFd::new(&self.reports, PollFlags::IN)];
        assert_eq!(poll(&mut reported, Some(&patience)), Ok(1), "nothing is reported");
        read_frame(&self.reports).unwrap()
    }

    fn next_notice(&self) -> Option<Notice> {
        match read_frame(&self.keeper) {
            Ok(notice) => notice,
            // One who ended without having read its task resets the stream.
            Err(OrderError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                None
            }
            Err(error) => panic!("no notice: {error}"),
        }
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
