//! A real mount over an export in the same process: the kernel's side of every operation, without a network.

mod data;
mod harness;
mod listing;
mod locks;
mod names;
mod permissions;
mod top;
