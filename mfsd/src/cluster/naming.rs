//! Names and numbers of nodes: what is free, and what to propose instead.

use std::net::{IpAddr, SocketAddr};

use mfs::types::{NodeName, NodeNumber};

/// A valid name made of any text (a host name, a bad wish): its first label, what is not allowed
/// replaced, a letter in front.
pub(crate) fn valid_name(text: &str) -> Option<NodeName> {
    let label = text.split('.').next().unwrap_or_default().to_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let name: String = label.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let mut name = name.trim_matches('-').to_owned();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert(0, 'n');
    }
    name.truncate(NodeName::MAX_LEN);
    // A reserved name becomes another by a digit.
    NodeName::parse(&name).or_else(|_| NodeName::parse(&format!("{name:.60}1"))).ok()
}

/// A name near `wanted` that is not taken.
pub(crate) fn free_name(wanted: &str, is_taken: impl Fn(&NodeName) -> bool) -> Option<NodeName> {
    let base = valid_name(wanted)?;
    if !is_taken(&base) {
        return Some(base);
    }
    (2_u32..=70_000)
        .filter_map(|i| NodeName::parse(&format!("{base:.56}-{i}")).ok())
        .find(|name| !is_taken(name))
}

/// The number wanted, or the one that the address gives (its low 16 bits), or the next free one;
/// `None` if all 65,535 are taken.
pub(crate) fn free_number(
    wanted: Option<NodeNumber>,
    addresses: &[SocketAddr],
    is_taken: impl Fn(NodeNumber) -> bool,
) -> Option<NodeNumber> {
    let first = wanted.or_else(|| addresses.iter().find_map(|a| number_of(a.ip())));
    let first = first.map_or(1, NodeNumber::get);
    (first..=u16::MAX).chain(1..first).filter_map(NodeNumber::new).find(|n| !is_taken(*n))
}

/// IPv4 as omdiscd did it; of IPv6 the last 16 bits as well.
fn number_of(address: IpAddr) -> Option<NodeNumber> {
    match address.to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(v4) => NodeNumber::of_address(v4),
        IpAddr::V6(v6) => NodeNumber::new(v6.segments()[7]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_leads_to_a_name() {
        for (text, name) in [
            ("alpha", "alpha"),
            ("Alpha.example.org", "alpha"),
            ("3com", "n3com"),
            ("web 01", "web-01"),
            ("--", "n"),
            ("", "n"),
            ("here", "here1"),
            ("ärger", "rger"),
        ] {
            assert_eq!(valid_name(text).unwrap().as_str(), name, "{text}");
        }
        assert_eq!(valid_name(&"x".repeat(500)).unwrap().as_str().len(), NodeName::MAX_LEN);
    }

    #[test]
    fn a_taken_name_gets_a_number_behind() {
        let taken = ["n1", "n1-2"];
        let is_taken = |name: &NodeName| taken.contains(&name.as_str());
        assert_eq!(free_name("n1", is_taken).unwrap().as_str(), "n1-3");
        assert_eq!(free_name("n2", is_taken).unwrap().as_str(), "n2");
        let long = "x".repeat(63);
        let other = free_name(&long, |name| name.as_str() == long).unwrap();
        assert_eq!(other.as_str().len(), 58);
    }

    #[test]
    fn a_taken_number_gives_the_next() {
        let number = |wanted, addresses: &[&str], taken: &[u16]| {
            let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            let free = free_number(wanted, &addresses, |n| taken.contains(&n.get()));
            free.map(NodeNumber::get)
        };
        assert_eq!(number(None, &["192.168.1.53:7230"], &[]), Some(309));
        assert_eq!(number(None, &["192.168.1.53:7230"], &[309, 310]), Some(311));
        assert_eq!(number(None, &["10.0.255.255:7230"], &[65_535]), Some(1));
        assert_eq!(number(None, &["[fd00::12]:7230"], &[]), Some(0x12));
        assert_eq!(number(None, &["[fd00::]:7230"], &[1]), Some(2));
        assert_eq!(number(None, &["127.0.0.1:7230"], &[]), Some(1));
        assert_eq!(number(NodeNumber::new(7), &["10.0.0.1:7230"], &[7]), Some(8));
        assert_eq!(free_number(None, &[], |_| true), None);
    }
}
