//! What CRIU says in its log.

/// The last error in a log of CRIU, without its place in CRIU's source.
pub fn last_error(log: &str) -> &str {
    // Printed by every run without CAP_SYS_RESOURCE, and of no consequence.
    const HARMLESS: &str = "Can't setup RLIMIT_NOFILE for self";
    let errors = log.lines().filter_map(|line| line.split_once("Error (")).map(|(_, rest)| rest);
    let said = errors.filter_map(|rest| rest.split_once("): ")).map(|(_, text)| text.trim());
    // What follows the first error is most often "Dumping FAILED" and its like.
    let mut told = said.filter(|text| !text.starts_with(HARMLESS) && !text.ends_with("FAILED."));
    told.next_back().unwrap_or("CRIU does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found() {
        let log = "(00.000001) Error (criu/cr-dump.c:1): Can't setup RLIMIT_NOFILE for self\n\
                   (00.021) Error (criu/sk-unix.c:740): unix: External socket is used\n\
                   (00.022) Warn  (criu/x.c:1): what\n\
                   (00.023) Error (criu/cr-dump.c:2098): Dumping FAILED.\n";
        assert_eq!(last_error(log), "unix: External socket is used");
        assert_eq!(last_error(""), "CRIU does not say why");
    }
}
