//! `Hints`: what whoever starts a job says of it, for the choice of its node and for balancing.

/// What a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nobody has said.
    #[default]
    Unknown,
    /// It computes: any node with room will do.
    Cpu,
    /// It reads and writes: the node of its files is the best.
    Io,
}

/// What is said of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// What it is.
    pub kind: Kind,
    /// The name of the node of its files; empty: nobody has said.
    pub near: String,
    /// It is not moved to balance load; only when somebody says so.
    pub stays: bool,
}
