//! Conversion of jobs: what is to be run, and how it ended.

use bytes::Bytes;
use mfs_proto::v1;

use super::error::Malformed;
use super::field;
use crate::jobs::{Ended, Hints, Kind, Limit, Modes, Program, Terminal};
use crate::types::Caller;

/// Most words of a command, and most variables of an environment.
const MAX_WORDS: usize = 131_072;

/// Most bytes of all of them: what Linux takes for a program (ARG_MAX), and a little more.
const MAX_TEXT: usize = 3 << 20;

/// Most resource limits.
const MAX_LIMITS: usize = 32;

/// Most special characters of a terminal; Linux has 19.
const MAX_CHARACTERS: usize = 32;

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartJob {
    /// The program; not yet checked.
    pub program: Program,
    /// The node to run it on; the best, if empty.
    pub node: String,
    /// `/tmp` is the node's own.
    pub local_tmp: bool,
    /// As whom, in the word of who sends it.
    pub caller: Option<Caller>,
    /// Its number at its home; 0 where it has none yet.
    pub number: u64,
    /// It does not end with its stream.
    pub detached: bool,
    /// What is said of it.
    pub hints: Hints,
}

impl From<StartJob> for v1::StartJob {
    fn from(start: StartJob) -> Self {
        let StartJob { program, node, local_tmp, caller, number, detached, hints } = start;
        let texts = |texts: Vec<Vec<u8>>| texts.into_iter().map(Bytes::from).collect();
        let limit = |limit: Limit| v1::ResourceLimit {
            resource: limit.resource,
            soft: limit.soft,
            hard: limit.hard,
        };
        Self {
            command: texts(program.command),
            environment: texts(program.environment),
            directory: program.directory.into(),
            umask: program.umask,
            nice: program.nice,
            limits: program.limits.into_iter().map(limit).collect(),
            terminal: program.terminal.map(terminal_size),
            piped_input: program.piped_input,
            piped_error: program.piped_error,
            modes: program.modes.map(terminal_modes),
            in_background: program.in_background,
            ignored: program.ignored,
            output: program.output.unwrap_or_default().into(),
            detached,
            hints: Some(hints.into()),
            node,
            local_tmp,
            caller: caller.map(Into::into),
            number,
        }
    }
}

impl TryFrom<v1::StartJob> for StartJob {
    type Error = Malformed;

    fn try_from(start: v1::StartJob) -> Result<Self, Malformed> {
        field::length_at_most("start_job.command", start.command.len(), MAX_WORDS)?;
        field::length_at_most("start_job.environment", start.environment.len(), MAX_WORDS)?;
        field::length_at_most("start_job.limits", start.limits.len(), MAX_LIMITS)?;
        let texts = start.command.iter().chain(&start.environment);
        let length =
            texts.map(Bytes::len).sum::<usize>() + start.directory.len() + start.output.len();
        field::length_at_most("start_job", length, MAX_TEXT)?;
        let texts = |texts: Vec<Bytes>| texts.into_iter().map(Vec::from).collect();
        let limit = |limit: v1::ResourceLimit| Limit {
            resource: limit.resource,
            soft: limit.soft,
            hard: limit.hard,
        };
        Ok(Self {
            program: Program {
                command: texts(start.command),
                environment: texts(start.environment),
                directory: start.directory.into(),
                umask: start.umask,
                nice: start.nice,
                limits: start.limits.into_iter().map(limit).collect(),
                terminal: start.terminal.map(terminal),
                piped_input: start.piped_input,
                piped_error: start.piped_error,
                modes: start.modes.map(modes).transpose()?,
                in_background: start.in_background,
                ignored: start.ignored,
                output: Some(start.output.into()).filter(|output: &Vec<u8>| !output.is_empty()),
            },
            node: start.node,
            local_tmp: start.local_tmp,
            caller: start.caller.map(Caller::try_from).transpose()?,
            number: start.number,
            detached: start.detached,
            hints: start.hints.map(Hints::from).unwrap_or_default(),
        })
    }
}

impl From<Hints> for v1::JobHints {
    fn from(hints: Hints) -> Self {
        let kind = match hints.kind {
            Kind::Unknown => v1::JobKind::Unspecified,
            Kind::Cpu => v1::JobKind::Cpu,
            Kind::Io => v1::JobKind::Io,
        };
        Self { kind: kind.into(), near: hints.near, stays: hints.stays }
    }
}

impl From<v1::JobHints> for Hints {
    /// A kind that is not known here says nothing.
    fn from(hints: v1::JobHints) -> Self {
        let kind = match hints.kind() {
            v1::JobKind::Unspecified => Kind::Unknown,
            v1::JobKind::Cpu => Kind::Cpu,
            v1::JobKind::Io => Kind::Io,
        };
        Self { kind, near: hints.near, stays: hints.stays }
    }
}

/// The modes of a terminal, as they are told.
fn terminal_modes(modes: Modes) -> v1::TerminalModes {
    let Modes { input, output, control, local, characters } = modes;
    v1::TerminalModes { input, output, control, local, characters: characters.into() }
}

/// Modes that were told.
fn modes(modes: v1::TerminalModes) -> Result<Modes, Malformed> {
    let v1::TerminalModes { input, output, control, local, characters } = modes;
    field::length_at_most("modes.characters", characters.len(), MAX_CHARACTERS)?;
    Ok(Modes { input, output, control, local, characters: characters.into() })
}

/// A size, as it is told.
pub fn terminal_size(size: Terminal) -> v1::TerminalSize {
    v1::TerminalSize { rows: size.rows.into(), columns: size.columns.into() }
}

/// A size that was told; what no terminal can have is as much as one can.
pub fn terminal(size: v1::TerminalSize) -> Terminal {
    let small = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
    Terminal { rows: small(size.rows), columns: small(size.columns) }
}

/// How a job ended, as it is told.
pub fn job_ended(ended: Ended) -> v1::JobEnded {
    let how = match ended {
        Ended::Exited(status) => v1::job_ended::How::Exited(status.into()),
        Ended::Killed(signal) => v1::job_ended::How::Killed(signal),
    };
    v1::JobEnded { how: Some(how) }
}

/// That a job was not run, or lost, as it is told.
pub fn job_failed(message: impl Into<String>, status: u8) -> v1::JobEnded {
    let failed = v1::JobFailure { message: message.into(), status: status.into() };
    v1::JobEnded { how: Some(v1::job_ended::How::Failed(failed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> StartJob {
        StartJob {
            program: Program {
                command: vec![b"a".to_vec(), vec![0xff]],
                environment: vec![b"B=1".to_vec()],
                directory: b"/c".to_vec(),
                umask: 0o27,
                nice: -3,
                limits: vec![Limit { resource: 7, soft: 10, hard: u64::MAX }],
                terminal: Some(Terminal { rows: 24, columns: 80 }),
                piped_input: true,
                piped_error: false,
                modes: Some(Modes { input: 1, characters: vec![3], ..Modes::default() }),
                in_background: true,
                output: Some(b"out".to_vec()),
                ignored: 1,
            },
            node: "anna".to_owned(),
            local_tmp: true,
            caller: Some(Caller::user(7, 8, &[9])),
            number: 3,
            detached: true,
            hints: Hints { kind: Kind::Io, near: "anna".to_owned(), stays: true },
        }
    }

    #[test]
    fn what_is_to_be_run_arrives_as_it_was_sent() {
        assert_eq!(StartJob::try_from(v1::StartJob::from(start())), Ok(start()));
        let plain = StartJob { caller: None, number: 0, ..start() };
        assert_eq!(StartJob::try_from(v1::StartJob::from(plain.clone())), Ok(plain));
    }

    #[test]
    fn too_much_is_refused() {
        let mut long = start();
        long.program.command.push(vec![b'x'; MAX_TEXT]);
        assert!(StartJob::try_from(v1::StartJob::from(long)).is_err());
        let mut many = start();
        many.program.environment = vec![Vec::new(); MAX_WORDS + 1];
        assert!(StartJob::try_from(v1::StartJob::from(many)).is_err());
        let mut odd = start();
        odd.program.modes = Some(Modes { characters: vec![0; 33], ..Modes::default() });
        assert!(StartJob::try_from(v1::StartJob::from(odd)).is_err());
    }
}
