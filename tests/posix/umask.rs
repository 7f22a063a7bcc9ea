//! umask(2): applied to what is made through the mount as to what is made at home.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[("masks_what_is_made", masks_what_is_made)];

fn masks_what_is_made(place: &Place<'_>) {
    for (mask, file, directory) in
        [("077", "600", "700"), ("002", "664", "775"), ("0", "666", "777")]
    {
        place.run(&format!("umask {mask} && touch f{mask} && mkdir d{mask} && mkfifo p{mask}"));
        let modes = place.run_at_home(&format!("stat -c %a f{mask} d{mask} p{mask}"));
        assert_eq!(modes, format!("{file}\n{directory}\n{file}"), "umask {mask}");
    }
}
