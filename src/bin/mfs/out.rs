//! What a person or a program reads of a command: standard output and standard error.
//!
//! In place of `println!` and `eprintln!`, which panic where nobody reads any more (`mfs lab ls | head -1`) or
//! the disk is full.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

/// Prints all that a command has to say; a reader that has seen enough is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS).context("cannot print"),
    }
}

/// Prints as JSON, one value.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<ExitCode> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Prints a line of several; fails where nobody reads, so that whoever works to be watched can stop.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}

/// Tells a person, on standard error; there is nowhere to tell that it cannot be told.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
