//! The commands as a person meets them: their help, and every option with nonsense.
//!
//! Everything runs inside a node without a cluster, so that nothing can happen to the machine.

mod help;
mod install;
mod nonsense;
mod surface;
mod terminal;
