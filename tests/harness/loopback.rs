//! Addresses of the loopback that nobody else uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port; all stay below those that the kernel gives to connections.
const FIRST_PORT: u16 = 7230;

/// Makes the ports of one process differ.
static COUNT: AtomicU16 = AtomicU16::new(0);

/// An address to listen at that is used once: by the caller.
///
/// All of 127.0.0.0/8 is this machine, so each process of tests has an address of its own in it. A port that
/// the kernel was asked for and that was given back may be somebody else's by the time it is used, or while a
/// daemon is started again.
pub fn loopback() -> SocketAddr {
    // A process id has at most 22 bits.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, high + 1, middle, low));
    SocketAddr::new(ip, FIRST_PORT + COUNT.fetch_add(1, Ordering::Relaxed))
}
