//! fcntl(2) locks: F_SETLK, F_SETLKW, F_GETLK and their OFD forms, taken on the real file at its home.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("a_local_process_at_home_is_excluded", a_local_process_at_home_is_excluded),
    ("a_lock_held_at_home_excludes", a_lock_held_at_home_excludes),
    ("ranges_do_not_touch", ranges_do_not_touch),
    ("closing_any_descriptor_releases", closing_any_descriptor_releases),
    ("a_waiter_is_woken", a_waiter_is_woken),
    ("a_waiter_can_be_interrupted", a_waiter_can_be_interrupted),
    ("open_file_descriptions_lock", open_file_descriptions_lock),
    ("the_holder_is_found", the_holder_is_found),
];

/// Tries an exclusive lock of the whole file and says `free` or `held`.
const TRY: &str = "python3 -c 'import fcntl\nf=open(\"f\",\"r+\")\ntry: fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB); print(\"free\")\nexcept OSError: print(\"held\")'";

/// A shell line that holds a lock of the file's first ten bytes while `line` runs.
fn holding(line: &str) -> String {
    format!(
        "python3 - <<'PY'\nimport fcntl, subprocess\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX, 10)\n\
         subprocess.run(['sh', '-c', '''{line}'''], check=True)\nPY"
    )
}

fn a_local_process_at_home_is_excluded(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    // While a process here holds the lock, one at home tries it and tells by a file beside.
    let home = place.home_node();
    let mut holder = place.here().command("sh");
    let line = holding("touch ready; while ! test -e done; do sleep 0.02; done");
    holder.args(["-c", &format!("cd {} && {line}", place.inside)]);
    let mut holder = holder.spawn().unwrap();
    mfs_tests::eventually("the lock is held", std::time::Duration::from_secs(20), || {
        place.at_home("ready").exists()
    });
    let held = home.run(&format!("cd {} && {TRY}", place.inside_home));
    place.run("touch done");
    assert!(holder.wait().unwrap().success());
    assert_eq!(held, "held");
    assert_eq!(place.run_at_home(TRY), "free");
}

fn a_lock_held_at_home_excludes(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    let mut holder = place.home_node().command("sh");
    let line = holding("touch ready; while ! test -e done; do sleep 0.02; done");
    holder.args(["-c", &format!("cd {} && {line}", place.inside_home)]);
    let mut holder = holder.spawn().unwrap();
    mfs_tests::eventually("the lock is held", std::time::Duration::from_secs(20), || {
        place.at("ready").exists()
    });
    let held = place.run(TRY);
    place.run_at_home("touch done");
    assert!(holder.wait().unwrap().success());
    assert_eq!(held, "held");
    assert_eq!(place.run(TRY), "free");
}

fn ranges_do_not_touch(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    let other = "python3 -c \"import fcntl; f=open(\\\"f\\\",\\\"r+\\\"); fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,6,10)\"";
    place.run(&holding(other));
}

fn closing_any_descriptor_releases(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    let program = format!(
        "import fcntl, subprocess\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nopen('f').close()\n\
         out = subprocess.run(['sh', '-c', '''{TRY}'''], capture_output=True, text=True).stdout\n\
         assert out == 'free\\n', out"
    );
    place.python(&program);
}

fn a_waiter_is_woken(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    let program = "import fcntl, os, signal\n\
        signal.alarm(50)\n\
        f = open('f', 'r+')\n\
        fcntl.lockf(f, fcntl.LOCK_EX)\n\
        r, w = os.pipe()\n\
        pid = os.fork()\n\
        if pid == 0:\n\
        \x20   g = open('f', 'r+')\n\
        \x20   os.write(w, b'x')\n\
        \x20   fcntl.lockf(g, fcntl.LOCK_EX)\n\
        \x20   os._exit(0)\n\
        os.read(r, 1)\n\
        fcntl.lockf(f, fcntl.LOCK_UN)\n\
        assert os.waitpid(pid, 0)[1] == 0";
    place.python(program);
}

fn a_waiter_can_be_interrupted(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    let program = "import fcntl, os, signal\n\
        f = open('f', 'r+')\n\
        fcntl.lockf(f, fcntl.LOCK_EX)\n\
        pid = os.fork()\n\
        if pid == 0:\n\
        \x20   def stop(*_): raise InterruptedError\n\
        \x20   signal.signal(signal.SIGALRM, stop)\n\
        \x20   signal.setitimer(signal.ITIMER_REAL, 0.3)\n\
        \x20   g = open('f', 'r+')\n\
        \x20   try: fcntl.lockf(g, fcntl.LOCK_EX)\n\
        \x20   except InterruptedError: os._exit(7)\n\
        \x20   os._exit(0)\n\
        signal.alarm(40)\n\
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7";
    place.python(program);
}

fn open_file_descriptions_lock(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    // F_OFD_SETLK is 37; struct flock: type, whence, start, length, pid.
    let program = "import fcntl, struct\n\
        def lock(f, kind):\n\
        \x20   fcntl.fcntl(f, 37, struct.pack('hhqqi4x', kind, 0, 0, 0, 0))\n\
        f, g = open('f', 'r+'), open('f', 'r+')\n\
        lock(f, fcntl.F_WRLCK)\n\
        try: lock(g, fcntl.F_WRLCK)\n\
        except BlockingIOError: pass\n\
        else: raise SystemExit('two exclusive locks')\n\
        open('f').close()\n\
        try: lock(g, fcntl.F_RDLCK)\n\
        except BlockingIOError: pass\n\
        else: raise SystemExit('a close of another descriptor released it')\n\
        f.close()\n\
        lock(g, fcntl.F_WRLCK)";
    place.python(program);
}

fn the_holder_is_found(place: &Place<'_>) {
    place.run("echo 0123456789abcdef >f");
    // F_GETLK of a process that would collide sees the kind and the range.
    let program = "import fcntl, os, struct, subprocess, sys\n\
        f = open('f', 'r+')\n\
        fcntl.lockf(f, fcntl.LOCK_EX, 4, 3)\n\
        ask = '''import fcntl, struct\n\
f = open(\"f\", \"r+\")\n\
found = fcntl.fcntl(f, fcntl.F_GETLK, struct.pack(\"hhqqi4x\", fcntl.F_WRLCK, 0, 0, 0, 0))\n\
kind, _, start, length, _ = struct.unpack(\"hhqqi4x\", found)\n\
print(kind == fcntl.F_WRLCK, start, length)'''\n\
        out = subprocess.run(['python3', '-c', ask], capture_output=True, text=True)\n\
        assert out.stdout == 'True 3 4\\n', out";
    place.python(program);
}
