//! What the daemon of a node, the keeper of a job and its first process say to each other.
//!
//! The *keeper* is the process that the daemon starts for a job; it stays outside the job's namespaces. The
//! *first process* is process 1 inside. The program `mfs-init` is both of them.
//!
//! The daemon speaks with the keeper over a socket (`Task`, `Notice`), and with the first process over two
//! pipes (`Order`, `Report`): a pipe can be put into the place of another when a job is carried to another
//! node, a socket cannot.

mod log;
mod order;
mod program;

pub use log::first_error;
pub use order::{
    Ended, MAX_FRAME, Notice, Order, OrderError, Report, Restore, Setup, Streams, Task, read_frame,
    write_frame,
};
pub use program::{Limit, Modes, Program, ProgramError, Terminal};
