//! Jobs on a terminal.

use std::io::Write;

use mfs::jobs::Ended;

use crate::job::{Job, Plan};

/// Reads until it has said this; a program's end is an error of the terminal (EIO).
fn until(job: &Job, word: &str) -> String {
    let mut text = String::new();
    let mut master = job.master.as_ref().expect("a terminal came with the report");
    while !text.contains(word) {
        let mut bytes = [0; 4096];
        match std::io::Read::read(&mut master, &mut bytes) {
            Ok(read @ 1..) => {
                text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
            end => panic!("{end:?} after {text:?}"),
        }
    }
    text
}

#[test]
fn a_terminal_is_one() {
    let line = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stty size; echo x >/dev/tty; \
                stat -c '%A %u %g' $(tty); ls -1 /dev/pts; ls /proc/self/fd | tr '\\n' ' '; echo; \
                ps -o pid=,sid=,tpgid= -p $$; echo done.";
    let job = Plan::shell(line).by_user().on_terminal().running();
    let said = until(&job, "done.");
    let expected =
        "/dev/pts/0\r\nall\r\n33 101\r\nx\r\ncrw--w---- 1000 5\r\n0\r\nptmx\r\n0 1 2 3 \r\n";
    assert!(said.starts_with(expected), "{said:?}");
    let numbers: Vec<_> = said.lines().rev().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(numbers, ["2"; 3], "{said:?}");
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(0)));
}

#[test]
fn keys_reach_the_foreground() {
    let line =
        "trap 'echo caught' INT; sh -c 'trap - INT; echo on; exec sleep 1000'; echo status $?.";
    let job = Plan::command(&["bash", "-c", line]).by_user().on_terminal().running();
    until(&job, "on\r\n");
    job.master.as_ref().unwrap().write_all(b"\x03").unwrap();
    until(&job, "status 130.");
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(0)));
}

#[test]
fn ctrl_c_ends_a_program() {
    let job = Plan::shell("echo on; exec sleep 1000").on_terminal().running();
    until(&job, "on\r\n");
    job.master.as_ref().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(job.outcome().ended.unwrap().status(), 130);
}

#[test]
fn a_shell_has_job_control() {
    let plan = Plan::command(&["bash", "--norc", "-i"]).by_user().on_terminal();
    let plan = plan.with(|plan| plan.setup.program.environment.push(b"PS1=ready> ".to_vec()));
    let job = plan.running();
    let mut master = job.master.as_ref().unwrap();
    // What is typed while the shell or the program takes over the terminal may be lost.
    until(&job, "ready> ");
    master.write_all(b"sh -c 'echo o''n; exec sleep 1000'\n").unwrap();
    until(&job, "on\r\n");
    master.write_all(b"\x1a").unwrap();
    let said = until(&job, "1000'\r\nready> ");
    assert!(said.contains("Stopped"), "{said:?}");
    master.write_all(b"kill -9 %1; exit 5\nexit 5\n").unwrap();
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(5)));
}

#[test]
fn a_larger_window_is_told() {
    let job = Plan::command(&[
        "bash",
        "-c",
        "trap 'stty size; exit' WINCH; echo on; while :; do sleep 0.1; done",
    ]);
    let job = job.on_terminal().running();
    until(&job, "on\r\n");
    let size = rustix::termios::Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(job.master.as_ref().unwrap(), size).unwrap();
    until(&job, "50 132");
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(0)));
}

#[test]
fn a_program_that_cannot_be_run_has_no_terminal() {
    let failed = Plan::command(&["no-such-program"]).on_terminal().run();
    assert_eq!(failed.ended, Err(("no-such-program: not found".to_owned(), 127)));
}

#[test]
fn without_a_daemon_its_terminal_ends_too() {
    let job = Plan::shell("trap '' HUP; echo on; sleep 1000").by_user().on_terminal().running();
    until(&job, "on\r\n");
    job.abandon();
}
