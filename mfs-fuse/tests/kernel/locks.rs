//! Locks between processes: fcntl(2), flock(2), and a waiter that is killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::harness::{BOTH, Mounted};

/// This test program again, as another process that does what `MFS_LOCK_HELPER` says.
fn helper(what: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("a process"))
        .args(["--exact", "locks::as_another_process", "--nocapture"])
        .env("MFS_LOCK_HELPER", what)
        .env("MFS_LOCK_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

/// Reads the helper's lines up to one that begins with `!`.
fn answer(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().expect("a pipe")).lines();
    lines.find_map(|line| line.ok()?.split_once('!').map(|l| l.1.to_owned())).unwrap_or_default()
}

#[test]
fn as_another_process() {
    let Ok(what) = std::env::var("MFS_LOCK_HELPER") else { return };
    let path = std::env::var_os("MFS_LOCK_PATH").unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let result = match what.as_str() {
        "fcntl" => fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive),
        "fcntl-wait" => fcntl_lock(&file, FlockOperation::LockExclusive),
        "flock" => flock(&file, FlockOperation::NonBlockingLockExclusive),
        "flock-wait" => flock(&file, FlockOperation::LockExclusive),
        other => panic!("{other}"),
    };
    println!("!{}", result.map_or_else(|e| e.raw_os_error(), |()| 0));
    // Holds what it got until it is told to end.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn ended(mut child: Child) {
    drop(child.stdin.take());
    child.wait().expect("a process");
}

#[test]
fn range_locks_exclude_other_processes_and_end_with_them() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("f"), "x").unwrap();
        let mut holder = helper("fcntl", &m.path("f"));
        assert_eq!(answer(&mut holder), "0");
        let mut second = helper("fcntl", &m.path("f"));
        assert_eq!(answer(&mut second), libc::EAGAIN.to_string(), "{data:?}");
        ended(second);
        let mut beside = helper("fcntl", &m.beside("f"));
        assert_eq!(
            answer(&mut beside),
            libc::EAGAIN.to_string(),
            "local processes are excluded too"
        );
        ended(beside);
        let mut waiter = helper("fcntl-wait", &m.path("f"));
        ended(holder);
        assert_eq!(answer(&mut waiter), "0", "granted when the holder ended");
        ended(waiter);
    }
}

#[test]
fn flock_and_fcntl_do_not_see_each_other() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("f"), "x").unwrap();
        let mut ranges = helper("fcntl", &m.path("f"));
        assert_eq!(answer(&mut ranges), "0");
        let mut whole = helper("flock", &m.path("f"));
        assert_eq!(answer(&mut whole), "0", "{data:?}");
        let mut second = helper("flock", &m.path("f"));
        assert_eq!(answer(&mut second), libc::EAGAIN.to_string());
        ended(second);
        ended(whole);
        let mut third = helper("flock-wait", &m.path("f"));
        assert_eq!(answer(&mut third), "0", "flock ended with its open");
        ended(third);
        ended(ranges);
    }
}

#[test]
fn one_process_with_two_opens_excludes_itself_by_flock() {
    let m = Mounted::new(super::harness::Data::Asked);
    fs::write(m.path("f"), "x").unwrap();
    let open = || File::options().read(true).write(true).open(m.path("f")).unwrap();
    let (one, two) = (open(), open());
    flock(&one, FlockOperation::LockShared).unwrap();
    flock(&two, FlockOperation::NonBlockingLockShared).unwrap();
    let refused = flock(&two, FlockOperation::NonBlockingLockExclusive).unwrap_err();
    assert_eq!(refused.raw_os_error(), libc::EAGAIN);
    flock(&one, FlockOperation::Unlock).unwrap();
    flock(&two, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(two);
    // The kernel tells of a last close in the background, and a process that another test is just starting
    // holds a copy of every descriptor until it runs: who waits gets it.
    flock(&one, FlockOperation::LockExclusive).unwrap();
}

#[test]
fn a_killed_waiter_dies_and_takes_nothing_with_it() {
    for what in ["fcntl", "flock"] {
        let m = Mounted::new(super::harness::Data::Asked);
        fs::write(m.path("f"), "x").unwrap();
        let mut holder = helper(what, &m.path("f"));
        assert_eq!(answer(&mut holder), "0");
        let mut waiter = helper(&format!("{what}-wait"), &m.path("f"));
        wait_for_request(waiter.id());
        let pid = Pid::from_raw(waiter.id() as i32).unwrap();
        // Not SIGINT: it is ignored by all that a shell runs in the background.
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(waiter.wait().unwrap().signal(), Some(libc::SIGTERM), "{what}");
        ended(holder);
        // It waits for the holder's last close, of which the kernel tells in the background.
        let mut next = helper(&format!("{what}-wait"), &m.path("f"));
        assert_eq!(answer(&mut next), "0", "the dead waiter left no lock");
        ended(next);
    }
}

/// Until some thread of the process sleeps in a request to the mount.
fn wait_for_request(pid: u32) {
    loop {
        let waits = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").any(|task| {
            let path = task.expect("a process").path().join("wchan");
            fs::read_to_string(path).is_ok_and(|place| place.contains("request_wait_answer"))
        });
        if waits {
            return;
        }
        std::thread::yield_now();
    }
}
