//! The mount of a cluster: the kernel on one side, the nodes on the other.
//!
//! `fs` is the mounted tree without a kernel; `session`, `port`, `contain`, `dispatch`, `reply` and `passthrough` are
//! the port to the kernel, and but for `port` the only places that name `fuser`; `mount` understands mount(8); `serve` puts them together.

mod caps;
mod cluster;
mod contain;
mod dispatch;
mod flags;
pub mod fs;
pub mod guardian;
mod lengths;
pub mod mount;
mod passthrough;
mod port;
mod reply;
mod reports;
mod request_size;
mod restorer;
pub mod serve;
pub mod session;
