//! An actor: the suite's end of a hand. Typed system calls on paths of one case's directory, as one process of
//! one node sees it. The calls are in the files beside this one.

mod bytes;
mod locks;
mod maps;
mod names;

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use mfs::clock;
use mfs::sync::Mutex;
use rustix::io::Errno;

use super::bounds;
use super::hand::{Answer, Blob, Call, Word, frame_of};

pub(super) use bytes::Fd;
pub(super) use locks::{EXCLUSIVE, FREE, Family, SHARED, wait_until_asleep};
use maps::Map;

/// What ends a wait that would never end.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a mapping is looked at that should show something: most of them are in the list of what fails.
const LATEST: Duration = Duration::from_secs(2);

/// What a system call gives.
pub(super) type Result<T> = std::result::Result<T, Errno>;

/// A running hand.
#[derive(Debug)]
pub(super) struct Hand {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

/// A process of a node, at work in the directory of a case.
pub(super) struct Actor {
    /// The directory, as the node's processes see it.
    pub(super) base: String,
    /// What it may see late.
    pub(super) late: Late,
    hand: Mutex<Hand>,
    maps: Mutex<Vec<Map>>,
}

/// What an actor may see late, as it looks through a mount at what is changed beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing.
    Never,
    /// What it has mapped.
    Mappings,
    /// Names and attributes, too.
    All,
}

// === impl Late ===

impl Late {
    fn concerns(self, of: bounds::Of) -> bool {
        match self {
            Self::Never => false,
            Self::Mappings => of == bounds::Of::Mappings,
            Self::All => true,
        }
    }
}

// === impl Hand ===

impl Hand {
    /// Starts one by the command given, which runs the suite's program inside a node.
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command
            .arg("--hand")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("mfs lab exec starts");
        let input = child.stdin.take().expect("it was asked for");
        let output = child.stdout.take().expect("it was asked for");
        Self { child, input, output }
    }

    fn ask(&mut self, call: &Call) -> std::io::Result<Answer> {
        self.input.write_all(&frame_of(call)?)?;
        let mut length = [0; 4];
        self.output.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        self.output.read_exact(&mut frame)?;
        postcard::from_bytes(&frame).map_err(std::io::Error::other)
    }

    fn end(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.end();
    }
}

// === impl Actor ===

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl Actor {
    /// Gives a hand a place to work.
    pub(super) fn new(hand: Hand, base: String, late: Late) -> Self {
        Self { base, late, hand: Mutex::new(hand), maps: Mutex::default() }
    }

    /// Takes its hand back, with nothing held any more.
    pub(super) fn rest(self) -> Hand {
        let maps = std::mem::take(&mut *self.maps.lock());
        for map in maps {
            self.unmap(map).expect("what is mapped can be unmapped");
        }
        self.as_root();
        self.number(libc::SYS_close_range, [3, i64::from(u32::MAX), 0]).expect("descriptors close");
        self.path_call(libc::SYS_chdir, "/", &[]).expect("the root is there");
        self.hand.into_inner()
    }

    /// The path of a name in the directory; absolute ones stay, `./NAME` is below the working directory.
    fn path(&self, name: &str) -> Vec<u8> {
        let path = match name {
            _ if name.starts_with('/') || name == "." || name.starts_with("./") => name.to_owned(),
            "" => self.base.clone(),
            _ => format!("{}/{name}", self.base),
        };
        let mut bytes = path.into_bytes();
        bytes.push(0);
        bytes
    }

    fn tell(&self, call: &Call) -> Answer {
        match self.hand.lock().ask(call) {
            Ok(answer) => answer,
            Err(error) => panic!("{self:?}: the process ended at {call:?}: {error}"),
        }
    }

    fn system(&self, number: i64, words: Vec<Word>) -> (Result<i64>, Vec<Vec<u8>>) {
        let answer = self.tell(&Call::System { number, words });
        let bytes = answer.bytes.into_iter().map(|blob| blob.0).collect();
        (answer.result.map_err(Errno::from_raw_os_error), bytes)
    }

    /// A call with numbers only.
    fn number<const N: usize>(&self, number: i64, words: [i64; N]) -> Result<i64> {
        self.system(number, words.map(Word::Number).into()).0
    }

    /// A call with a path first, then numbers.
    fn path_call(&self, number: i64, name: &str, rest: &[i64]) -> Result<i64> {
        let mut words = vec![Word::Bytes(Blob(self.path(name)))];
        words.extend(rest.iter().copied().map(Word::Number));
        self.system(number, words).0
    }

    /// The same at the working directory: the `*at` forms.
    fn at_call(&self, number: i64, name: &str, rest: &[i64]) -> Result<i64> {
        let mut words =
            vec![Word::Number(libc::AT_FDCWD.into()), Word::Bytes(Blob(self.path(name)))];
        words.extend(rest.iter().copied().map(Word::Number));
        self.system(number, words).0
    }

    /// Acts as an ordinary user from now on.
    pub(super) fn as_user(&self, user: u32) {
        let user = i64::from(user);
        self.system(libc::SYS_setgroups, vec![Word::Number(0), Word::Number(0)])
            .0
            .expect("root may");
        self.number(libc::SYS_setresgid, [user, user, 0]).expect("root may");
        self.number(libc::SYS_setresuid, [user, user, 0]).expect("root may");
    }

    /// Acts as root again.
    pub(super) fn as_root(&self) {
        self.number(libc::SYS_setresuid, [0, 0, 0]).expect("the saved id is root's");
        self.number(libc::SYS_setresgid, [0, 0, 0]).expect("root may");
    }

    /// The number of its process, in its node.
    pub(super) fn pid(&self) -> i64 {
        self.number(libc::SYS_getpid, []).expect("it cannot fail")
    }

    /// Ends its process as `kill -9` does.
    pub(super) fn die(&self) {
        let words = [self.pid(), libc::SIGKILL.into()].map(Word::Number).into();
        let told = self.hand.lock().ask(&Call::System { number: libc::SYS_kill, words });
        assert!(told.is_err(), "it answered after its death");
        self.hand.lock().child.wait().expect("it was started");
    }

    /// Runs a line of shell in the directory; it must succeed. Answers what it printed.
    #[track_caller]
    pub(super) fn shell(&self, line: &str) -> String {
        match self.try_shell(line) {
            (0, printed) => printed,
            (status, printed) => panic!("{self:?}: {line}: status {status}: {printed}"),
        }
    }

    /// Runs a line of shell in the directory: its status, and what it printed and complained of.
    pub(super) fn try_shell(&self, line: &str) -> (i64, String) {
        let answer = self.tell(&Call::Shell(format!("cd {} && {line}", self.base)));
        let status = answer.result.expect("a shell has a status");
        let said: Vec<u8> = answer.bytes.into_iter().flat_map(|blob| blob.0).collect();
        (status, String::from_utf8_lossy(&said).trim_end().to_owned())
    }

    /// What it sees of names and attributes is `expected`: at once, or, where it may be late, in the end.
    #[track_caller]
    pub(super) fn sees<T: PartialEq + fmt::Debug>(&self, expected: T, look: impl Fn(&Self) -> T) {
        self.wait_to_see(bounds::Of::Names, expected, look);
    }

    /// The same of what it sees through a mapping.
    #[track_caller]
    pub(super) fn maps_to<T: PartialEq + fmt::Debug>(
        &self,
        expected: T,
        look: impl Fn(&Self) -> T,
    ) {
        self.wait_to_see(bounds::Of::Mappings, expected, look);
    }

    #[track_caller]
    fn wait_to_see<T: PartialEq + fmt::Debug>(
        &self,
        of: bounds::Of,
        expected: T,
        look: impl Fn(&Self) -> T,
    ) {
        if !self.late.concerns(of) {
            assert_eq!(look(self), expected, "(left: seen) through {}", self.base);
            return;
        }
        let begin = clock::now();
        let mut at_once = true;
        loop {
            let now = look(self);
            if now == expected {
                let late = if at_once { Duration::ZERO } else { begin.elapsed() };
                return bounds::note(of, late);
            }
            at_once = false;
            let limit = match of {
                bounds::Of::Names => LIMIT,
                bounds::Of::Mappings => LATEST,
            };
            assert!(begin.elapsed() < limit, "{now:?} still, not {expected:?}: {}", self.base);
        }
    }
}
