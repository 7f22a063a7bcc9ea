//! System calls of this layer: the list of network interfaces.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::interfaces::Interface;

/// Frees the list when dropped.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the pointer came from getifaddrs and is freed once, here.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

/// One entry for each IP address of each interface (getifaddrs(3)).
pub(super) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut head = std::ptr::null_mut();
    // SAFETY: `head` is a valid place for the pointer that the call writes.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = List(head);
    let mut found = Vec::new();
    let mut next = list.0;
    // SAFETY: `next` is null or an entry of the list, which lives until `list` is dropped.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: ifa_addr is null or points to a socket address that lives as long as the list.
        let Some(address) = (unsafe { entry.ifa_addr.as_ref() }) else { continue };
        let address = match i32::from(address.sa_family) {
            libc::AF_INET => {
                // SAFETY: the family says that it is a sockaddr_in; the list keeps it aligned for any.
                let v4 = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                IpAddr::from(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that it is a sockaddr_in6.
                let v6 = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                IpAddr::from(Ipv6Addr::from(v6.sin6_addr.s6_addr))
            }
            _ => continue,
        };
        // SAFETY: ifa_name is a string that ends in NUL and lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: the name ends in NUL; the call keeps no reference to it.
        let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
        let has = |flag: i32| entry.ifa_flags & flag.cast_unsigned() != 0;
        found.push(Interface {
            name: name.to_string_lossy().into_owned(),
            index,
            address,
            up: has(libc::IFF_UP),
            loopback: has(libc::IFF_LOOPBACK),
            multicast: has(libc::IFF_MULTICAST),
        });
    }
    Ok(found)
}
