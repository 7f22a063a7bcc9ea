//! What CRIU says in its log.

/// The first error in a log of CRIU, without its place in CRIU's source: those that follow only say what it
/// made impossible.
pub fn first_error(log: &str) -> &str {
    // Printed by every run without CAP_SYS_RESOURCE, and where the kernel has no tun device; of no consequence.
    const HARMLESS: [&str; 2] = ["Can't setup RLIMIT_NOFILE for self", "Unable to create tun"];
    let errors = log.lines().filter_map(|line| line.split_once("Error (")).map(|(_, rest)| rest);
    let said = errors.filter_map(|rest| rest.split_once("): ")).map(|(_, text)| text.trim());
    let mut told = said.filter(|text| !HARMLESS.iter().any(|harmless| text.contains(harmless)));
    told.next().unwrap_or("CRIU does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found() {
        let log = "(00.000001) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self\n\
                   (00.021) Error (criu/sk-unix.c:740): unix: External socket is used\n\
                   (00.022) Warn  (criu/x.c:1): what\n\
                   (00.023) Error (criu/cr-dump.c:2098): Dumping FAILED.\n";
        assert_eq!(first_error(log), "unix: External socket is used");
        assert_eq!(first_error(""), "CRIU does not say why");
    }
}
