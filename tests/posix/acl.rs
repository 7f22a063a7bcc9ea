//! POSIX ACLs: they decide through the mount as they do at home.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("a_named_user_is_let_in", a_named_user_is_let_in),
    ("a_group_entry_without_rights_keeps_out", a_group_entry_without_rights_keeps_out),
    ("a_default_acl_is_inherited", a_default_acl_is_inherited),
];

const AS_BIN: &str = "setpriv --reuid=bin --regid=bin --clear-groups";

fn a_named_user_is_let_in(place: &Place<'_>) {
    place.run("echo a >f && chmod 600 f");
    place.run(&format!("! {AS_BIN} cat f"));
    place.run(&format!("setfacl -m u:bin:r f && {AS_BIN} cat f && ! {AS_BIN} sh -c 'echo b >>f'"));
    let at_home = place.run_at_home("getfacl -cE f");
    assert!(at_home.contains("user:bin:r--"), "{at_home}");
}

fn a_group_entry_without_rights_keeps_out(place: &Place<'_>) {
    place.run("echo a >f && chown root:bin f && chmod 644 f && setfacl -m g::---,m::r f");
    // The mode shows the mask in the group's place, which alone would let the group in.
    place.run(&format!("! {AS_BIN} cat f"));
    place.run("setpriv --reuid=games --regid=games --clear-groups cat f");
}

fn a_default_acl_is_inherited(place: &Place<'_>) {
    place.run(
        "mkdir d && setfacl -d -m u:bin:rwx,m::rwx d && umask 077 && echo a >d/f && mkdir d/e",
    );
    let file = place.run_at_home("getfacl -cE d/f");
    assert!(file.contains("user:bin:rwx"), "{file}");
    // The default ACL takes the place of the umask.
    assert!(file.contains("mask::rw-"), "{file}");
    let directory = place.run("getfacl -cE d/e");
    assert!(directory.contains("default:user:bin:rwx"), "{directory}");
}
