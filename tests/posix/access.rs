//! access(2): the home node's kernel decides, by the caller's own identity.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("permission_follows_the_mode", permission_follows_the_mode),
    ("supplementary_groups_count", supplementary_groups_count),
    ("a_closed_directory_hides_what_is_below", a_closed_directory_hides_what_is_below),
];

fn permission_follows_the_mode(place: &Place<'_>) {
    place.run("echo a >f && chmod 640 f && chown daemon:daemon f");
    place
        .run("setpriv --reuid=daemon --regid=daemon --clear-groups sh -c 'test -r f && test -w f'");
    place.run("setpriv --reuid=bin --regid=daemon --clear-groups sh -c 'test -r f && ! test -w f'");
    place.run("setpriv --reuid=bin --regid=bin --clear-groups sh -c '! test -r f && ! cat f'");
    place.run("test -r f && ! test -x f && chmod 100 f && test -x f");
}

fn supplementary_groups_count(place: &Place<'_>) {
    place.run("echo secret >f && chown root:4321 f && chmod 640 f");
    place.run("! setpriv --reuid=bin --regid=bin --clear-groups cat f");
    let read = place.run("setpriv --reuid=bin --regid=bin --groups=4000,4321,5000 cat f");
    assert_eq!(read, "secret");
}

fn a_closed_directory_hides_what_is_below(place: &Place<'_>) {
    place.run("mkdir d && echo a >d/f && chmod 666 d/f && chmod 700 d");
    place.run("! setpriv --reuid=bin --regid=bin --clear-groups cat d/f");
    place.run("chmod 711 d && setpriv --reuid=bin --regid=bin --clear-groups cat d/f");
}
