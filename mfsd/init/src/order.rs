//! The messages: frames of a length (4 bytes, little-endian) and a message in postcard.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Program, Terminal};

/// Most bytes of one message: a command and an environment as large as Linux takes them (ARG_MAX), and more.
pub const MAX_FRAME: usize = 4 << 20;

/// All that the first process needs to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// What is run.
    pub program: Program,
    /// As whom.
    pub uid: u32,
    /// The same.
    pub gid: u32,
    /// The same: supplementary groups.
    pub groups: Vec<u32>,
    /// The home's tree, as this node sees it.
    pub view: PathBuf,
    /// Where the cluster is mounted on this node; it is `/mfs` in the view.
    pub cluster: PathBuf,
    /// An empty directory of this node, to mount the view on; nothing of it is seen outside.
    pub scratch: PathBuf,
    /// What the job takes for its host's name: that of its home.
    pub host_name: String,
    /// `/tmp` is this node's own, in memory, and goes with the job.
    pub local_tmp: bool,
}

/// A job that was brought here in images, and what its keeper needs to restore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The program that makes and restores images (CRIU, 4.1 or later).
    pub criu: PathBuf,
    /// The directory of the images.
    pub images: PathBuf,
    /// As in [`Setup`].
    pub view: PathBuf,
    /// As in [`Setup`].
    pub cluster: PathBuf,
    /// As in [`Setup`].
    pub scratch: PathBuf,
    /// The job's streams as the images name them; the keeper's own are put in their places.
    pub streams: Streams,
}

/// The pipes of a job by their inode numbers, which are how images name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// What the program reads, or what is typed on its terminal.
    pub input: u64,
    /// What it writes, or what its terminal shows.
    pub output: u64,
    /// What it complains; without a terminal.
    pub error: u64,
    /// Orders of the daemon to the first process.
    pub orders: u64,
    /// Its reports.
    pub reports: u64,
}

/// From the daemon to the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Begin a job.
    Begin(Box<Setup>),
    /// Restore one, and hold it before its first step.
    Restore(Box<Restore>),
    /// Let the restored one go.
    Go,
}

/// From the keeper to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// The first process, as this machine numbers it: it was begun, or it was restored and runs.
    First(u32),
    /// A restored job waits for its first step.
    Prepared,
    /// It could not be begun or restored; a sentence.
    Failed(String),
    /// The first process has ended without having been able to say how.
    Lost,
}

/// From the daemon to the first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Send this signal to all of the job's processes that the terminal would send it to: those of the
    /// program's own process group.
    Signal(i32),
    /// The terminal has another size.
    Size(Terminal),
    /// The program has the terminal from now on, or has not: then it stops when it reads from it.
    Foreground(bool),
}

/// From the first process to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The program runs.
    Running,
    /// It was stopped by this signal, until it is sent SIGCONT.
    Stopped(i32),
    /// It could not be run; a sentence, and the exit status that a shell would give: 126 or 127.
    Failed(String, u8),
    /// It has ended; what it left running is ended with it.
    Ended(Ended),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

/// A message cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The socket says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is too long or means nothing: the other side is another version.
    #[error("the daemon and the first process of a job do not understand each other")]
    Foreign,
}

/// Writes one message.
///
/// # Errors
/// Those of the stream; `Foreign` if it is longer than [`MAX_FRAME`].
pub fn write_frame<T: Serialize>(mut to: impl Write, message: &T) -> Result<(), OrderError> {
    let bytes = postcard::to_stdvec(message).map_err(|_| OrderError::Foreign)?;
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_FRAME);
    let mut frame = length.ok_or(OrderError::Foreign)?.to_le_bytes().to_vec();
    frame.extend(bytes);
    Ok(to.write_all(&frame)?)
}

/// Reads one message; `None` at the end of the stream.
///
/// # Errors
/// Those of the stream, also if it ends inside a message; `Foreign` if it is none.
pub fn read_frame<T: DeserializeOwned>(mut from: impl Read) -> Result<Option<T>, OrderError> {
    let mut length = [0; 4];
    let read = loop {
        match from.read(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if read == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[read..])?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(OrderError::Foreign);
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map(Some).map_err(|_| OrderError::Foreign)
}

// === impl Ended ===

impl Ended {
    /// The status that a shell shows of it.
    pub fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => u8::try_from(signal).unwrap_or(127).saturating_add(128),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut stream = Vec::new();
        let reports = [
            Report::Running,
            Report::Failed("no such program".to_owned(), 127),
            Report::Ended(Ended::Killed(9)),
        ];
        for report in &reports {
            write_frame(&mut stream, report).unwrap();
        }
        let mut rest = &stream[..];
        for report in &reports {
            assert_eq!(read_frame::<Report>(&mut rest).unwrap().as_ref(), Some(report));
        }
        assert!(read_frame::<Report>(&mut rest).unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused_and_takes_no_memory() {
        assert!(matches!(read_frame::<Report>(&[255; 8][..]), Err(OrderError::Foreign)));
        assert!(matches!(read_frame::<Report>(&[1, 0, 0, 0, 99][..]), Err(OrderError::Foreign)));
        assert!(matches!(read_frame::<Report>(&[5, 0, 0, 0, 0][..]), Err(OrderError::Io(_))));
        assert!(matches!(read_frame::<Report>(&[5, 0][..]), Err(OrderError::Io(_))));
    }

    /// Is interrupted before it gives anything, and then gives one byte at a time.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, true) {
                let length = buffer.len().min(1);
                return self.0.read(&mut buffer[..length]);
            }
            Err(io::ErrorKind::Interrupted.into())
        }
    }

    #[test]
    fn a_signal_that_interrupts_a_reading_changes_nothing() {
        let mut stream = Vec::new();
        write_frame(&mut stream, &Report::Running).unwrap();
        let read = read_frame::<Report>(Interrupted(&stream, false)).unwrap();
        assert_eq!(read, Some(Report::Running));
    }

    #[test]
    fn a_signal_is_shown_as_shells_do() {
        assert_eq!(Ended::Exited(3).status(), 3);
        assert_eq!(Ended::Killed(15).status(), 143);
    }
}
