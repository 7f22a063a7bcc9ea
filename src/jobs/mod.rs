//! Jobs: what is run, for whom, where, and what the daemon and the first process of a job say to each other.
//!
//! A job is a process tree that `mfs run` started. Its *home* is the node where it was started; it sees the
//! file tree of its home (its *home view*) wherever it runs.
//!
//! Not here: who starts and carries jobs (`mfsd`), and what a person types (the `mfs` command).

mod order;
pub mod placement;
mod program;

pub use order::{Ended, MAX_ORDER, Order, OrderError, Report, Setup, read_frame, write_frame};
pub use program::{JobId, Limit, Program, ProgramError, Terminal};
