//! chmod(2).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("all_bits_arrive_at_home", all_bits_arrive_at_home),
    ("only_the_owner_may", only_the_owner_may),
    ("a_write_clears_set_id_bits", a_write_clears_set_id_bits),
];

fn all_bits_arrive_at_home(place: &Place<'_>) {
    fs::write(place.at("f"), "a").unwrap();
    for mode in [0o000, 0o777, 0o4755, 0o2755, 0o1644, 0o7777, 0o644] {
        fs::set_permissions(place.at("f"), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(fs::metadata(place.at_home("f")).unwrap().mode() & 0o7777, mode, "{mode:o}");
        assert_eq!(fs::metadata(place.at("f")).unwrap().mode() & 0o7777, mode, "{mode:o}");
    }
}

fn only_the_owner_may(place: &Place<'_>) {
    place.run("echo a >f && chown bin f");
    place.run("setpriv --reuid=bin --regid=bin --clear-groups chmod 600 f");
    place.run("! setpriv --reuid=games --regid=games --clear-groups chmod 666 f");
    assert_eq!(place.run_at_home("stat -c %a f"), "600");
}

fn a_write_clears_set_id_bits(place: &Place<'_>) {
    place.run("echo a >f && chown bin f && chmod 6777 f");
    place.run("setpriv --reuid=games --regid=games --clear-groups sh -c 'echo b >>f'");
    assert_eq!(place.run_at_home("stat -c %a f"), "777");
    assert_eq!(place.run("stat -c %a f"), "777");
}
