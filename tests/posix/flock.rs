//! flock(2): the whole file, by open; taken on the real file at its home.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("exclusive_excludes_here", exclusive_excludes_here),
    ("exclusive_excludes_at_home", exclusive_excludes_at_home),
    ("shared_locks_go_together", shared_locks_go_together),
    ("it_does_not_see_fcntl_locks", it_does_not_see_fcntl_locks),
    ("it_is_inherited", it_is_inherited),
];

fn exclusive_excludes_here(place: &Place<'_>) {
    place.run("touch f && flock -n f sh -c '! flock -n f true' && flock -w 30 f true");
}

fn exclusive_excludes_at_home(place: &Place<'_>) {
    place.run("touch f");
    let mut holder = place.here().command("flock");
    holder.args(["-n", &format!("{}/f", place.inside), "sh", "-c"]);
    let wait = "touch ready; while ! test -e done; do sleep 0.02; done";
    holder.arg(format!("cd {} && {{ {wait}; }}", place.inside));
    let mut holder = holder.spawn().unwrap();
    mfs_tests::eventually("the lock is held", std::time::Duration::from_secs(20), || {
        place.at_home("ready").exists()
    });
    let at_home = place.home_node().try_run(&format!("flock -n {}/f true", place.inside_home));
    place.run("touch done");
    assert!(holder.wait().unwrap().success());
    assert_eq!(at_home.status.code(), Some(1), "{}", at_home.stderr);
    place.run_at_home("flock -w 30 f true");
}

fn shared_locks_go_together(place: &Place<'_>) {
    place.run("touch f && flock -sn f sh -c 'flock -sn f true && ! flock -n f true'");
}

fn it_does_not_see_fcntl_locks(place: &Place<'_>) {
    place.run("touch f");
    place.python(
        "import fcntl\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\n\
         g = open('f', 'r+')\nfcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    );
}

fn it_is_inherited(place: &Place<'_>) {
    place.run("touch f && exec 9<f && flock -n 9 && (flock -n 9) && ! flock -n f true");
}
