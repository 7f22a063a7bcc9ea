//! Clusters as their users meet them: nodes come, vanish, restart and are cut off, and the mounts stand it.
//!
//! Every test has a laboratory of its own, real processes and a real network; none is decided by a time.

mod addresses;
mod configuration;
mod crashes;
mod cuts;
mod daemon_restart;
mod features;
mod figures;
mod forming;
mod frozen;
mod held;
mod mounting;
mod name_space;
mod power_cut;
mod recalls;
mod remembered;
mod slow_node;
mod unwritten;
