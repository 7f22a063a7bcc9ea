//! Jobs on a terminal.

use mfs_init::{Ended, Order, Terminal};

use crate::job::Plan;

#[test]
fn a_terminal_is_one() {
    let line = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stty size; echo x >/dev/tty; \
                stat -c '%A %u %g' $(tty); ls -1 /dev/pts; ls /proc/self/fd | tr '\\n' ' '; echo; \
                ps -o pid=,pgid=,sid=,tpgid= -p $$; echo done.";
    let mut job = Plan::shell(line).by_user().on_terminal().running();
    let said = job.shown("done.");
    let expected =
        "/dev/pts/0\r\nall\r\n33 101\r\nx\r\ncrw--w---- 1000 5\r\n0\r\nptmx\r\n0 1 2 3 \r\n";
    assert!(said.starts_with(expected), "{said:?}");
    let numbers: Vec<_> = said.lines().rev().nth(1).unwrap().split_whitespace().collect();
    // A process group of its own in the foreground of the session of the first process.
    assert_eq!(numbers, ["2", "2", "1", "2"], "{said:?}");
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(0)));
}

#[test]
fn keys_reach_the_foreground() {
    let line =
        "trap 'echo caught' INT; sh -c 'trap - INT; echo on; exec sleep 1000'; echo status $?.";
    let mut job = Plan::command(&["bash", "-c", line]).by_user().on_terminal().running();
    job.shown("on\r\n");
    job.types("\x03");
    job.shown("status 130.");
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(0)));
}

#[test]
fn ctrl_c_ends_a_program() {
    let mut job = Plan::shell("echo on; exec sleep 1000").on_terminal().running();
    job.shown("on\r\n");
    job.types("\x03");
    assert_eq!(job.outcome().ended.unwrap().status(), 130);
}

#[test]
fn a_shell_has_job_control() {
    let plan = Plan::command(&["bash", "--norc", "-i"]).by_user().on_terminal();
    let plan = plan.with(|plan| plan.setup.program.environment.push(b"PS1=ready> ".to_vec()));
    let mut job = plan.running();
    // What is typed while the shell or the program takes over the terminal may be lost.
    job.shown("ready> ");
    job.types("sh -c 'echo o''n; exec sleep 1000'\n");
    job.shown("on\r\n");
    job.types("\x1a");
    let said = job.shown("1000'\r\nready> ");
    assert!(said.contains("Stopped"), "{said:?}");
    job.types("kill -9 %1; exit 5\nexit 5\n");
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(5)));
}

#[test]
fn a_larger_window_is_told() {
    let job = Plan::command(&[
        "bash",
        "-c",
        "trap 'stty size; exit' WINCH; echo on; while :; do sleep 0.1; done",
    ]);
    let mut job = job.on_terminal().running();
    job.shown("on\r\n");
    job.order(&Order::Size(Terminal { rows: 50, columns: 132 }));
    job.shown("50 132");
    assert_eq!(job.outcome().ended, Ok(Ended::Exited(0)));
}

#[test]
fn a_program_that_cannot_be_run_has_no_terminal() {
    let failed = Plan::command(&["no-such-program"]).on_terminal().run();
    assert_eq!(failed.ended, Err(("no-such-program: not found".to_owned(), 127)));
}

#[test]
fn without_a_daemon_its_terminal_ends_too() {
    let mut job = Plan::shell("trap '' HUP; echo on; sleep 1000").by_user().on_terminal().running();
    job.shown("on\r\n");
    job.abandon();
}
