//! Where things lie, and the port.

use std::path::{Path, PathBuf};

/// The configuration of mfsd.
pub const CONFIG: &str = "/etc/mfs/mfsd.toml";

/// Keys and memberships; 0700.
pub const STATE: &str = "/var/lib/mfs";

/// The local socket; 0755.
pub const RUNTIME: &str = "/run/mfs";

/// Name of the local socket in the runtime directory. Everybody may connect; who may ask for what is
/// decided by the credentials of the connecting process.
pub const SOCKET: &str = "mfsd.sock";

/// The port: TCP for requests, UDP for gossip and the beacon.
pub const PORT: u16 = 7230;

/// The local socket below a runtime directory.
pub fn socket(runtime: &Path) -> PathBuf {
    runtime.join(SOCKET)
}
