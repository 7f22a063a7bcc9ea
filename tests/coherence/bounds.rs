//! How late a mount sees what local processes of the home node change beside it, and mappings there and
//! elsewhere see each other: measured by all cases of such pairs, and printed at the end. It decides nothing.

use std::time::Duration;

use mfs::sync::Mutex;

/// Of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Names and attributes.
    Names,
    /// Mappings.
    Mappings,
}

static SEEN: Mutex<Vec<(Of, Duration)>> = Mutex::new(Vec::new());

/// Notes that something was seen so long after it had been done; zero if at the first look.
pub(super) fn note(of: Of, late: Duration) {
    SEEN.lock().push((of, late));
}

/// Prints what was measured.
pub(super) fn print() {
    for (of, what) in [(Of::Names, "names and attributes"), (Of::Mappings, "mappings")] {
        let mut late: Vec<_> =
            SEEN.lock().iter().filter(|(seen, _)| *seen == of).map(|(_, late)| *late).collect();
        late.sort_unstable();
        let Some(longest) = late.last() else { continue };
        let at_once = late.iter().filter(|late| late.is_zero()).count();
        let rank = (late.len() * 999).div_ceil(1000) - 1;
        println!(
            "local changes seen through a mount, {what}: {} looks, {at_once} at once, p99.9 {:?}, longest {longest:?}",
            late.len(),
            late[rank],
        );
    }
}
