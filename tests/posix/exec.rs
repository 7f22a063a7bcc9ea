//! execve(2) of files that lie on another node, with their shared libraries.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("a_program_runs", a_program_runs),
    ("a_script_runs", a_script_runs),
    ("a_shared_library_is_loaded", a_shared_library_is_loaded),
    ("without_the_bit_it_does_not_run", without_the_bit_it_does_not_run),
    ("set_uid_is_not_honoured", set_uid_is_not_honoured),
];

fn a_program_runs(place: &Place<'_>) {
    place.run_at_home("cp /bin/echo program");
    assert_eq!(place.run("./program it runs"), "it runs");
}

fn a_script_runs(place: &Place<'_>) {
    place.run("printf '#!/bin/sh\\necho $1\\n' >script && chmod 755 script");
    assert_eq!(place.run("./script so"), "so");
}

fn a_shared_library_is_loaded(place: &Place<'_>) {
    place.run("echo 'int answer(void) { return 42; }' >a.c && gcc -shared -fPIC -o liba.so a.c");
    place.run(
        "echo 'int answer(void); int main(void) { return answer(); }' >m.c && gcc -o m m.c -L. -la",
    );
    assert_eq!(place.try_run("LD_LIBRARY_PATH=. ./m").status.code(), Some(42));
}

fn without_the_bit_it_does_not_run(place: &Place<'_>) {
    place.run_at_home("cp /bin/true program && chmod 644 program");
    assert_eq!(place.try_run("./program").status.code(), Some(126));
}

fn set_uid_is_not_honoured(place: &Place<'_>) {
    place.run_at_home("cp /usr/bin/id program && chown root program && chmod 4755 program");
    let uid = place.run("setpriv --reuid=bin --regid=bin --clear-groups ./program -u");
    assert_eq!(uid, "2", "without `-o suid` a set-uid bit has no effect");
}
