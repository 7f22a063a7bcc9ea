//! fcntl(2) locks: F_SETLK, F_SETLKW, F_GETLK and their OFD forms, taken on the real file at its home.

use std::time::Duration;

use mfs_tests::eventually;

use super::place::{Case, Place};

/// What ends a case that hangs.
const LIMIT: Duration = Duration::from_secs(40);

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

/// Tries an exclusive lock of the bytes given, all without, and says `free` or `held`.
const TRY: &str = "\
import fcntl, sys
f = open('f', 'r+')
try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, *map(int, sys.argv[1:]))
except BlockingIOError: print('held')
else: print('free')
";

/// Holds a lock of the first ten bytes until the file `done` is there; says by `ready` that it does.
const HOLD: &str = "\
import fcntl, os, time
f = open('f', 'r+')
fcntl.lockf(f, fcntl.LOCK_EX, 10)
open('ready', 'w').close()
while not os.path.exists('done'): time.sleep(0.02)
";

/// Puts a file to lock and the two programs into the directory.
fn prepare(place: &Place<'_>) {
    for (name, text) in [("f", "0123456789abcdef"), ("try.py", TRY), ("hold.py", HOLD)] {
        std::fs::write(place.at_home(name), text).unwrap();
    }
}

fn a_local_process_at_home_is_excluded(place: &Place<'_>) {
    prepare(place);
    let mut holder = place.here().command("sh");
    holder.args(["-c", &format!("cd {} && exec python3 hold.py", place.inside)]);
    let mut holder = holder.spawn().unwrap();
    eventually("the lock is held", LIMIT, || place.at_home("ready").exists());
    let held = place.run_at_home("python3 try.py");
    place.run("touch done");
    assert!(holder.wait().unwrap().success());
    assert_eq!(held, "held");
    eventually("it is free", LIMIT, || place.run_at_home("python3 try.py") == "free");
}

fn a_lock_held_at_home_excludes(place: &Place<'_>) {
    prepare(place);
    let mut holder = place.home_node().command("sh");
    holder.args(["-c", &format!("cd {} && exec python3 hold.py", place.inside_home)]);
    let mut holder = holder.spawn().unwrap();
    eventually("the lock is held", LIMIT, || place.at("ready").exists());
    let held = place.run("python3 try.py");
    place.run_at_home("touch done");
    assert!(holder.wait().unwrap().success());
    assert_eq!(held, "held");
    assert_eq!(place.run("python3 try.py"), "free");
}

fn ranges_do_not_touch(place: &Place<'_>) {
    prepare(place);
    let line = "python3 hold.py & while ! test -e ready; do sleep 0.02; done
        python3 try.py 6 10; python3 try.py 1 9; touch done; wait";
    assert_eq!(place.run(line), "free\nheld");
}

/// As POSIX has it: a process loses its locks on a file when it closes any descriptor of it.
fn closing_any_descriptor_releases(place: &Place<'_>) {
    prepare(place);
    let said = place.python(
        "import fcntl, subprocess
f = open('f', 'r+')
fcntl.lockf(f, fcntl.LOCK_EX)
subprocess.run(['python3', 'try.py'], check=True)
open('f').close()
subprocess.run(['python3', 'try.py'], check=True)",
    );
    assert_eq!(said, "held\nfree");
}

fn a_waiter_is_woken(place: &Place<'_>) {
    prepare(place);
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
    prepare(place);
    // The signal is sent when the kernel says that the process is inside fcntl(2).
    let program = "import fcntl, os, signal, time\n\
        f = open('f', 'r+')\n\
        fcntl.lockf(f, fcntl.LOCK_EX)\n\
        pid = os.fork()\n\
        if pid == 0:\n\
        \x20   def stop(*_): raise InterruptedError\n\
        \x20   signal.signal(signal.SIGUSR1, stop)\n\
        \x20   g = open('f', 'r+')\n\
        \x20   try: fcntl.lockf(g, fcntl.LOCK_EX)\n\
        \x20   except InterruptedError: os._exit(7)\n\
        \x20   os._exit(0)\n\
        signal.alarm(40)\n\
        while not open(f'/proc/{pid}/syscall').read().startswith('FCNTL '): time.sleep(0.02)\n\
        os.kill(pid, signal.SIGUSR1)\n\
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7";
    place.python(&program.replace("FCNTL", &libc::SYS_fcntl.to_string()));
}

fn open_file_descriptions_lock(place: &Place<'_>) {
    prepare(place);
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
        import time\n\
        for attempt in range(400):\n\
        \x20   try: lock(g, fcntl.F_WRLCK)\n\
        \x20   except BlockingIOError: time.sleep(0.05)\n\
        \x20   else: break\n\
        else: raise SystemExit('the last close did not release it')";
    // The kernel tells of a last close in the background, so the release follows a moment after it.
    place.python(program);
}

fn the_holder_is_found(place: &Place<'_>) {
    prepare(place);
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
