//! A hand: a process inside a node that does the system calls it is told and answers what came out. The
//! suite's own program, started again with `--hand`.
//!
//! It decides nothing. Being one process with one thread, it holds descriptors, locks and mappings as a
//! program of that node would.

use std::io::Read;
use std::process::{Command, Stdio};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sys;

/// What a hand is told to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    /// A system call.
    System { number: i64, words: Vec<Word> },
    /// Loads from a mapping.
    Load { at: u64, length: u64 },
    /// Stores into a mapping.
    Store { at: u64, bytes: Blob },
    /// A line of shell, in the hand's working directory: its status, what it printed, its complaint.
    Shell(String),
}

/// One word of a system call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// A number.
    Number(i64),
    /// The address of these bytes; they come back, as the call may have changed them.
    Bytes(Blob),
    /// The address of so many zeros; they come back.
    Room(u64),
}

/// Bytes that travel as one piece: serde would take a vector of them one by one.
#[derive(Debug)]
pub(super) struct Blob(pub(super) Vec<u8>);

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The result, or the errno.
    pub(super) result: Result<i64, i32>,
    /// The bytes of each word that has some, in their order.
    pub(super) bytes: Vec<Blob>,
}

// === impl Blob ===

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The only format here lends the bytes out of its buffer.
        <&[u8]>::deserialize(deserializer).map(|bytes| Self(bytes.to_vec()))
    }
}

/// Does what is told by standard input until that ends.
pub(super) fn serve() -> std::io::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    loop {
        if input.read_exact(&mut length).is_err() {
            return Ok(());
        }
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut frame)?;
        let call = postcard::from_bytes(&frame).map_err(std::io::Error::other)?;
        let frame = frame_of(&perform(call)?)?;
        // Straight to the descriptor: a stream of the library would hold back what has no line's end.
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(rustix::stdio::stdout(), rest)?..];
        }
    }
}

/// A message with its length before it.
pub(super) fn frame_of<T: Serialize>(message: &T) -> std::io::Result<Vec<u8>> {
    let body = postcard::to_allocvec(message).map_err(std::io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

fn perform(call: Call) -> std::io::Result<Answer> {
    Ok(match call {
        Call::System { number, words } => system(number, words),
        Call::Load { at, length } => {
            Answer { result: Ok(0), bytes: vec![Blob(sys::load(at as usize, length as usize))] }
        }
        Call::Store { at, bytes } => {
            sys::store(at as usize, &bytes.0);
            Answer { result: Ok(0), bytes: Vec::new() }
        }
        Call::Shell(line) => {
            let mut shell = Command::new("sh");
            let output = shell.args(["-c", &line]).stdin(Stdio::null()).output()?;
            let status = output.status.code().unwrap_or(-1);
            Answer {
                result: Ok(status.into()),
                bytes: vec![Blob(output.stdout), Blob(output.stderr)],
            }
        }
    })
}

fn system(number: i64, words: Vec<Word>) -> Answer {
    let mut buffers: Vec<Blob> = Vec::new();
    let mut plain = [0; 6];
    for (word, plain) in words.into_iter().zip(&mut plain) {
        let buffer = match word {
            Word::Number(number) => {
                *plain = number as usize;
                continue;
            }
            Word::Bytes(bytes) => bytes.0,
            Word::Room(length) => vec![0; length as usize],
        };
        // Moving the vector into the list leaves its bytes where they are.
        *plain = buffer.as_ptr() as usize;
        buffers.push(Blob(buffer));
    }
    let result = sys::system(number, plain);
    Answer { result, bytes: buffers }
}
