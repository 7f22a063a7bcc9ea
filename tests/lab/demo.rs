//! `mfs demo` shows what it promises, and takes everything down: at its end, and when it is interrupted.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use mfs_tests::{Machine, binary, eventually};
use rustix::process::{Pid, Signal, kill_process_group};

/// What is left of the lab of the demo that had this process id.
fn left_of(demo: u32, before: &Machine) -> Vec<String> {
    let name = format!("demo-{demo}");
    let mut left = before.left_behind(&name);
    let state = std::path::Path::new("/var/lib/mfs-lab").join(&name);
    left.extend(state.exists().then(|| state.display().to_string()));
    left
}

#[test]
fn the_demo_works_and_leaves_nothing() {
    let before = Machine::look();
    let mut demo = Command::new(binary("mfs"));
    demo.arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    mfs_tests::with_criu(&mut demo);
    let child = demo.spawn().unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaints}");
    for shown in [
        "hello from n1",
        "is 2870",
        "Add the answer",
        "10000|50005000",
        "as without a move",
        "Host is down",
    ] {
        assert!(said.contains(shown), "{shown:?} is not in:\n{said}");
    }
    assert_eq!(left_of(id, &before), Vec::<String>::new());
}

#[test]
fn an_interrupted_demo_takes_its_lab_down() {
    let before = Machine::look();
    for when in ["$ mfs lab up", "--- 2."] {
        let mut child = Command::new(binary("mfs"))
            .arg("demo")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(output.any(|line| line.unwrap().starts_with(when)), "the demo shows {when:?}");
        // As Ctrl-C on a terminal: to all processes of the group, also those that the demo called.
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process_group(group, Signal::INT).unwrap();
        // A pipe that is full would hold it up.
        output.for_each(drop);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(left_of(child.id(), &before), Vec::<String>::new());
    }
}

/// `mfs demo | head`: nobody reads any more.
#[test]
fn a_demo_that_nobody_reads_takes_its_lab_down() {
    let before = Machine::look();
    let mut child = Command::new(binary("mfs"))
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().starts_with("--- 2.")));
    drop(output);
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaints}");
    assert!(complaints.contains("mfs: cannot print: Broken pipe"), "{complaints}");
    assert_eq!(left_of(id, &before), Vec::<String>::new());
}

#[test]
fn a_killed_demo_takes_its_lab_with_it() {
    let before = Machine::look();
    let mut child = Command::new(binary("mfs"))
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().starts_with("--- 2.")));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("nothing is left", std::time::Duration::from_secs(60), || {
        left_of(child.id(), &before).is_empty()
    });
}
