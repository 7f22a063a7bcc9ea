//! Jobs: what is run, for whom, where, and what the daemon and the first process of a job say to each other.
//!
//! A job is a process tree that `mfs run` started. Its *home* is the node where it was started; it sees the
//! file tree of its home (its *home view*) wherever it runs.
//!
//! Not here: who starts and carries jobs (`mfsd`), and what a person types (the `mfs` command).

pub mod balance;
mod hints;
mod id;
pub mod migration;
pub mod placement;

pub use hints::{Hints, Kind};
pub use id::{ImagesToken, JobId, NotAJob};
pub use mfs_init::{
    Ended, Limit, MAX_FRAME, Modes, Notice, Order, OrderError, Program, ProgramError, Report,
    Restore, Setup, Streams, Task, Terminal, first_error, read_frame, write_frame,
};
