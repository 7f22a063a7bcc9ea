//! `Program`: what a job runs, as it was typed on its home.

use serde::{Deserialize, Serialize};

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program and its arguments; the first is looked for as execvp(3) does, with the environment's PATH.
    /// Never empty.
    pub command: Vec<Vec<u8>>,
    /// `NAME=value` each.
    pub environment: Vec<Vec<u8>>,
    /// The working directory, in the home view.
    pub directory: Vec<u8>,
    /// The file mode creation mask.
    pub umask: u32,
    /// The nice value, -20 to 19.
    pub nice: i32,
    /// Resource limits (setrlimit(2)); those that are left out stay as the node has them.
    pub limits: Vec<Limit>,
    /// The terminal to run it on; none: pipes.
    pub terminal: Option<Terminal>,
    /// On a terminal: its standard input is a pipe all the same.
    pub piped_input: bool,
    /// On a terminal: its standard error is a pipe all the same.
    pub piped_error: bool,
    /// On a terminal: how it takes what is typed and shows what is written; none: as a new one does.
    pub modes: Option<Modes>,
    /// On a terminal: another has it, until [`Order::Foreground`](crate::Order::Foreground).
    pub in_background: bool,
    /// Its standard output and error are this file of its home, made or added to, and its standard input is empty.
    pub output: Option<Vec<u8>>,
    /// Signals that it begins with ignored, as nohup(1) and shells have it: bit n-1 for signal n.
    pub ignored: u64,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// `RLIMIT_*` of Linux.
    pub resource: u32,
    /// `u64::MAX`: none.
    pub soft: u64,
    /// The same.
    pub hard: u64,
}

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// The modes of a terminal (termios(3)), as Linux numbers them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// `c_iflag`.
    pub input: u32,
    /// `c_oflag`.
    pub output: u32,
    /// `c_cflag`.
    pub control: u32,
    /// `c_lflag`.
    pub local: u32,
    /// The first of `c_cc`; those that are left out stay as they are.
    pub characters: Vec<u8>,
}

/// What is said of a program cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// There is none.
    #[error("no command to run was named")]
    NoCommand,
    /// It holds a NUL, which no system call can carry.
    #[error("a command, an environment variable or a directory cannot contain a zero byte")]
    Nul,
    /// The directory is not named from the root on.
    #[error("the working directory must be named from / on")]
    Relative,
}

/// Resources that a job takes from its home: those of setrlimit(2) that say something of the program, not
/// of the machine (all but RLIMIT_MSGQUEUE and RLIMIT_RTTIME).
const KNOWN_RESOURCES: std::ops::RangeInclusive<u32> = 0..=14;

// === impl Program ===

impl Program {
    /// The same, if it can be run.
    ///
    /// # Errors
    /// What of it cannot.
    pub fn checked(mut self) -> Result<Self, ProgramError> {
        if self.command.first().is_none_or(Vec::is_empty) {
            return Err(ProgramError::NoCommand);
        }
        let texts = self.command.iter().chain(&self.environment).chain([&self.directory]);
        let texts = texts.chain(&self.output);
        if texts.flatten().any(|byte| *byte == 0) {
            return Err(ProgramError::Nul);
        }
        if self.directory.first() != Some(&b'/') {
            return Err(ProgramError::Relative);
        }
        self.umask &= 0o777;
        self.nice = self.nice.clamp(-20, 19);
        self.limits.retain(|limit| KNOWN_RESOURCES.contains(&limit.resource));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        Program {
            command: vec![b"true".to_vec()],
            environment: vec![b"A=1".to_vec()],
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
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        assert_eq!(program().checked(), Ok(program()));
        let none = Program { command: vec![], ..program() };
        assert_eq!(none.checked(), Err(ProgramError::NoCommand));
        let empty = Program { command: vec![vec![], b"x".to_vec()], ..program() };
        assert_eq!(empty.checked(), Err(ProgramError::NoCommand));
        let nul = Program { environment: vec![b"A=\0".to_vec()], ..program() };
        assert_eq!(nul.checked(), Err(ProgramError::Nul));
        let relative = Program { directory: b"home".to_vec(), ..program() };
        assert_eq!(relative.checked(), Err(ProgramError::Relative));
        let limit = |resource| Limit { resource, soft: 1, hard: 1 };
        let odd = Program { limits: vec![limit(7), limit(77)], nice: 99, ..program() };
        let checked = odd.checked().unwrap();
        assert_eq!((checked.limits, checked.nice), (vec![limit(7)], 19));
    }
}
