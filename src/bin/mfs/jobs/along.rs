//! What a program takes along from here: all that it would inherit if it ran here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::Context;
use mfs::jobs::{Limit, Program};
use rustix::process::{Resource, getrlimit};

use super::screen::Screen;

/// The limits that it takes along, each with its number on Linux.
const LIMITS: &[(Resource, u32)] = &[
    (Resource::Cpu, libc::RLIMIT_CPU),
    (Resource::Fsize, libc::RLIMIT_FSIZE),
    (Resource::Data, libc::RLIMIT_DATA),
    (Resource::Stack, libc::RLIMIT_STACK),
    (Resource::Core, libc::RLIMIT_CORE),
    (Resource::Nofile, libc::RLIMIT_NOFILE),
    (Resource::As, libc::RLIMIT_AS),
];

/// What is run, on that terminal, with those signals ignored (bit n-1 for signal n).
pub(super) fn program(
    command: Vec<OsString>,
    screen: &Screen,
    output: Option<OsString>,
    ignored: u64,
) -> anyhow::Result<Program> {
    let directory = std::env::current_dir().context("the working directory is gone")?;
    let variable =
        |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let none = u64::MAX;
    let limit = |(resource, number): &(Resource, u32)| {
        let limit = getrlimit(*resource);
        Limit {
            resource: *number,
            soft: limit.current.unwrap_or(none),
            hard: limit.maximum.unwrap_or(none),
        }
    };
    // umask(2) can only be read by setting it.
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let program = Program {
        command: command.into_iter().map(OsString::into_vec).collect(),
        environment: std::env::vars_os().map(variable).collect(),
        directory: directory.into_os_string().into_vec(),
        umask: umask.bits(),
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        limits: LIMITS.iter().map(limit).collect(),
        terminal: screen.size(),
        piped_input: screen.has_piped_input,
        piped_error: screen.has_piped_error,
        modes: screen.modes(),
        in_background: screen.is_background(),
        output: output.map(OsString::into_vec),
        ignored,
    };
    Ok(program.checked()?)
}
