//! `mfs lab exec` is the command it runs: streams, signals, status.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use mfs_tests::{Setup, binary};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

#[test]
fn streams_and_status_are_those_of_the_command() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    let mut cat = node.command("sh");
    cat.args(["-c", "cat; echo complaint >&2; exit 7"]);
    let mut child =
        cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds, and no text.
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut input = child.stdin.take().unwrap();
    let copy = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    assert_eq!(output.stderr, b"complaint\n");
}

#[test]
fn arguments_arrive_as_they_are() {
    let lab = Setup::nodes(1).bare().up();
    let mut command = lab.node(1).command("printf");
    let output = command.args(["%s|", "--name", "", "a b", "$HOME", "-x", "--"]).output().unwrap();
    assert_eq!(output.stdout, b"--name||a b|$HOME|-x|--|");
}

#[test]
fn commands_that_cannot_run_end_as_in_a_shell() {
    let lab = Setup::nodes(1).bare().up();
    let code = |program| lab.node(1).command(program).output().unwrap().status.code();
    assert_eq!(code("no-such-command"), Some(127));
    assert_eq!(code("/etc/passwd"), Some(126));
    let unknown = Command::new(binary("mfs"))
        .args(["lab", "exec", "--name", lab.name(), "n7", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(125));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("its nodes are n1 to n1"), "{said}");
}

#[test]
fn signals_reach_the_command_and_its_end_comes_back() {
    let lab = Setup::nodes(1).bare().up();
    let trap = "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.1; done";
    for (script, signal, code, ended_by) in [
        (trap, Signal::USR1, Some(5), None),
        ("echo ready; exec sleep 1000", Signal::TERM, None, Some(15)),
        ("echo ready; exec sleep 1000", Signal::INT, None, Some(2)),
    ] {
        // What this process ignores (SIGINT, where a shell runs it in the background) is ignored by what it
        // starts, too.
        let mut command = lab.node(1).command("env");
        command.args(["--default-signal=INT,TERM,USR1", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (code, ended_by), "{script}: {signal:?}");
        assert_eq!(rest == "caught\n", code.is_some());
    }
}

#[test]
fn the_command_ends_with_the_exec_that_started_it() {
    let lab = Setup::nodes(1).bare().up();
    let mut command = lab.node(1).command("sh");
    let script = "echo ready; exec sleep 4711";
    let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // The end of its output is the end of the command: nothing else holds the pipe.
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
    mfs_tests::eventually("the command has ended", std::time::Duration::from_secs(20), || {
        lab.node(1).try_run("pgrep -x sleep").stdout.is_empty()
    });
}

#[test]
fn works_from_the_background_without_a_terminal() {
    let lab = Setup::nodes(1).bare().up();
    let mfs = binary("mfs");
    let script = format!(
        "{0} lab exec --name {1} n1 -- sh -c 'echo one; exit 3' & {0} lab exec --name {1} n1 -- echo two; wait $!; echo $?",
        mfs.display(),
        lab.name()
    );
    let output = Command::new("setsid").args(["sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("one\n") && said.contains("two\n") && said.ends_with("3\n"), "{said}");
}

#[test]
fn what_a_command_leaves_in_the_background_stays_and_is_reaped() {
    let lab = Setup::nodes(1).bare().up();
    lab.node(1).run("setsid sleep 4712 </dev/null >/dev/null 2>&1 &");
    // The shell ends before what it started has become sleep(1).
    mfs_tests::eventually("it runs", std::time::Duration::from_secs(60), || {
        lab.node(1).try_run("pgrep -c -x sleep").stdout == "1\n"
    });
    lab.node(1).run("pkill -KILL -x sleep");
    mfs_tests::eventually(
        "no process is left unreaped",
        std::time::Duration::from_secs(20),
        || lab.node(1).try_run("pgrep -x sleep").stdout.is_empty(),
    );
}

#[test]
fn a_shell_has_a_terminal_of_the_node() {
    let lab = Setup::nodes(1).bare().up();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
    let stream = || Stdio::from(theirs.try_clone().unwrap());
    let mut child = Command::new(binary("mfs"))
        .args(["lab", "shell", "--name", lab.name(), "n1"])
        .stdin(stream())
        .stdout(stream())
        .spawn()
        .unwrap();
    drop(theirs);
    let mut ours = std::fs::File::from(ours);
    ours.write_all(b"echo \"<$(hostname):$(tty):$(id -u)>\"; exit 9\n").unwrap();
    let mut said = Vec::new();
    // The last of them closes the terminal, which a read of this side calls an error.
    let _ = ours.read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("<n1:/dev/pts/0:0>"), "{said}");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}
