//! Why a job cannot move: what its processes hold that lies outside of it. Asked before it is frozen; what is not
//! found here CRIU finds, when the job stands still already.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::processes;

/// A job that can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Movable {
    /// Some of its processes speak with each other over TCP.
    pub(super) speaks_tcp: bool,
}

/// A network socket, as a table of /proc/net has it (proc_pid_net(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    number: u64,
}

/// States of a TCP socket (`include/net/tcp_states.h`).
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

/// The tables of network sockets.
const TABLES: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];

/// Looks at all processes of a job.
///
/// # Errors
/// A sentence: what it holds.
pub(super) fn look(first: u32) -> Result<Movable, String> {
    let mut sockets = HashSet::new();
    for process in processes::of(first) {
        let open = fs::read_dir(format!("/proc/{process}/fd"));
        for entry in open.into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy();
            if target.starts_with("anon_inode:[io_uring]") {
                return Err("it uses io_uring, which cannot be carried".to_owned());
            }
            let number = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            sockets.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
    }
    if sockets.is_empty() {
        return Ok(Movable { speaks_tcp: false });
    }
    let mut own = Vec::new();
    for table in TABLES {
        let text = fs::read_to_string(format!("/proc/{first}/net/{table}")).unwrap_or_default();
        let found = text.lines().filter_map(Socket::of);
        own.extend(found.filter(|socket| sockets.contains(&socket.number)));
    }
    judge(&own)
}

/// Whether a job with these sockets can move.
fn judge(own: &[Socket]) -> Result<Movable, String> {
    let mut speaks_tcp = false;
    for socket in own {
        if socket.state == LISTEN {
            if !socket.local.ip().is_loopback() {
                return Err(format!("others reach it at port {}", socket.local.port()));
            }
            continue;
        }
        if socket.remote.port() == 0 {
            continue;
        }
        let is_peer = |other: &Socket| (other.local, other.remote) == (socket.remote, socket.local);
        if !own.iter().any(is_peer) {
            return Err(format!("it has a connection to {}, outside of the job", socket.remote));
        }
        speaks_tcp |= socket.state == ESTABLISHED;
    }
    Ok(Movable { speaks_tcp })
}

// === impl Socket ===

impl Socket {
    fn of(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (local, remote) = (fields.nth(1)?, fields.next()?);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let number = fields.nth(5)?.parse().ok()?;
        Some(Self { local: address(local)?, remote: address(remote)?, state, number })
    }
}

/// An address as the kernel writes it: 32-bit words as they lie in memory, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            let bytes: [u8; 16] = words.try_into().ok()?;
            // A connection of IPv4 on a socket of IPv6 is one and the same.
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, remote: &str, state: u8) -> Socket {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Socket { local, remote, state, number: 1 }
    }

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let line = "   0: 0100007F:1BBB 0200007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 975 1 x";
        let found = Socket::of(line).unwrap();
        assert_eq!(found.local, "127.0.0.1:7099".parse().unwrap());
        assert_eq!(found.remote, "127.0.0.2:80".parse().unwrap());
        assert_eq!((found.state, found.number), (ESTABLISHED, 975));
        let six = address("0000000000000000FFFF00000100007F:0050").unwrap();
        assert_eq!(six, "127.0.0.1:80".parse().unwrap());
        assert!(Socket::of("  sl  local_address rem_address   st tx_queue").is_none());
        assert!(address("01:1").is_none());
    }

    #[test]
    fn only_what_leads_outside_hinders() {
        let inside = [
            socket("127.0.0.1:1000", "0.0.0.0:0", LISTEN),
            socket("127.0.0.1:1000", "127.0.0.1:2000", ESTABLISHED),
            socket("127.0.0.1:2000", "127.0.0.1:1000", ESTABLISHED),
            socket("0.0.0.0:53", "0.0.0.0:0", 7),
        ];
        assert_eq!(judge(&inside), Ok(Movable { speaks_tcp: true }));
        assert_eq!(judge(&inside[..1]), Ok(Movable { speaks_tcp: false }));
        let why = judge(&inside[1..2]).unwrap_err();
        assert_eq!(why, "it has a connection to 127.0.0.1:2000, outside of the job");
        let serves = socket("0.0.0.0:80", "0.0.0.0:0", LISTEN);
        assert_eq!(judge(&[serves]).unwrap_err(), "others reach it at port 80");
    }
}
