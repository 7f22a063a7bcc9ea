//! How jobs end, and that nothing is left of them.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use mfs_init::Ended;

use crate::job::{Plan, mfs_init};
use crate::sys;

/// The status of a line of shell.
fn end(line: &str) -> Ended {
    Plan::shell(line).run().ended.unwrap()
}

#[test]
fn the_status_is_that_of_the_program() {
    assert_eq!(Plan::command(&["true"]).run().ended, Ok(Ended::Exited(0)));
    assert_eq!(end("exit 3"), Ended::Exited(3));
    assert_eq!(end("exit 255"), Ended::Exited(255));
    assert_eq!(end("kill -TERM $$"), Ended::Killed(15));
    assert_eq!(end("kill -KILL $$"), Ended::Killed(9));
    // The shell of a machine where a program dies on a signal goes on.
    assert_eq!(end("sh -c 'kill -9 $$'; exit $((100 + $? % 100))"), Ended::Exited(137));
}

#[test]
fn what_is_not_there_is_named() {
    let fails = |words: &[&str]| Plan::command(words).run().ended.unwrap_err();
    assert_eq!(fails(&["no-such-program"]), ("no-such-program: not found".to_owned(), 127));
    assert_eq!(fails(&["/no/such"]), ("/no/such: not found".to_owned(), 127));
    let (sentence, status) = fails(&["/etc/passwd"]);
    assert_eq!(status, 126);
    assert_eq!(sentence, "/etc/passwd: cannot be run: Permission denied (os error 13)");
    assert_eq!(fails(&["/etc"]).1, 126);
    assert_eq!(fails(&[]).1, 126);
}

#[test]
fn programs_are_looked_for_as_execvp_does() {
    let prepare = "mkdir view/a view/b view/c; printf 'echo \"$0 $*\"' >view/b/tool; chmod 755 view/b/tool; \
                   echo none >view/a/tool; echo none >view/a/other; mkdir view/c/other";
    let plan = |words: &[&str], path: &str| {
        let path = format!("PATH={path}").into_bytes();
        Plan::command(words).with(|plan| {
            plan.prepare = prepare;
            plan.setup.program.environment = vec![path];
        })
    };
    // One that may not be run is passed over; text without #! is read by the shell.
    assert_eq!(plan(&["tool", "x", "y"], "/none:/a:/b").said(), "/b/tool x y");
    assert_eq!(plan(&["other"], "/a:/c").run().ended.unwrap_err().1, 126);
    assert_eq!(plan(&["tool"], "/none").run().ended.unwrap_err().1, 127);
    let here = plan(&["tool"], "/none:").with(|plan| plan.setup.program.directory = b"/b".to_vec());
    assert_eq!(here.said().trim_end(), "./tool");
    let bare =
        Plan::command(&["echo", "found"]).with(|plan| plan.setup.program.environment.clear());
    assert_eq!(bare.said(), "found");
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let line = "setsid sleep 1000 >/dev/null 2>&1 </dev/null & (trap '' TERM HUP; sleep 1000) & echo on; exit 4";
    let outcome = Plan::shell(line).run();
    assert_eq!((outcome.ended, outcome.out.as_str()), (Ok(Ended::Exited(4)), "on\n"));
}

#[test]
fn a_signal_reaches_all_of_a_pipeline() {
    // The shell takes the signal and sums up how its parts ended.
    let line =
        "trap 'echo caught' TERM; set -o pipefail; echo ready; sleep 1000 | sleep 1000; echo $?";
    let job = Plan::command(&["bash", "-c", line]).running().until("ready\n");
    // Until the parts sleep, which nobody tells, the signal is sent again.
    let outcome = job.end_by(15);
    assert_eq!(outcome.ended, Ok(Ended::Exited(0)));
    assert!(outcome.out.ends_with("caught\n143\n"), "{outcome:?}");
    let job = Plan::command(&["sleep", "1000"]).running();
    job.signal(9999);
    job.signal(10);
    assert_eq!(job.outcome().ended, Ok(Ended::Killed(10)));
}

#[test]
fn a_stop_is_reported_and_so_is_the_end_after_it() {
    let line =
        "trap 'echo on again; exit 6' USR1; echo on; kill -TSTP $$; while :; do sleep 0.1; done";
    let mut job = Plan::shell(line).by_user().running().until("on\n");
    assert_eq!(job.stopped(), 20);
    job.signal(10);
    job.signal(18);
    let outcome = job.outcome();
    assert_eq!((outcome.ended, outcome.out.as_str()), (Ok(Ended::Exited(6)), "on\non again\n"));
}

#[test]
fn without_its_daemon_a_job_hangs_up_and_ends() {
    let hangs_up = "trap 'echo hung up; exit' HUP; echo on; while :; do sleep 0.1; done";
    let job = Plan::shell(hangs_up).running().until("on\n");
    assert!(job.abandon().out.ends_with("hung up\n"));
    // Who does not heed it is killed; who is stopped, too.
    let stays = "trap '' HUP TERM INT; setsid sleep 1000 & echo on; kill -STOP $$; sleep 1000";
    Plan::shell(stays).running().until("on\n").abandon();
    // Nor does a job begin that nobody waits for any more.
    Plan::shell("trap '' HUP; sleep 1000").begin().abandon();
}

#[test]
fn without_its_keeper_a_job_ends() {
    let mut job = Plan::shell("trap '' HUP; sleep 1000").running();
    job.keeper().kill().unwrap();
    job.abandon();
}

#[test]
fn an_end_that_nobody_reports_is_reported() {
    // Root inside may not kill the first process; its like outside may.
    let mut job = Plan::shell("sleep 1000").running();
    let first = format!("/proc/{0}/task/{0}/children", job.keeper().id());
    let first = std::fs::read_to_string(first).unwrap();
    assert!(Command::new("kill").args(["-9", first.trim()]).status().unwrap().success());
    assert_eq!(job.outcome().ended, Ok(Ended::Killed(9)));
}

#[test]
fn a_daemon_that_is_gone_before_the_beginning_is_no_failure() {
    let mut command = Command::new(mfs_init());
    let (daemon, own) = UnixStream::pair().unwrap();
    let (orders, reports) = std::io::pipe().unwrap();
    sys::give(command.arg("keep"), vec![own.into(), orders.into(), reports.into()]);
    drop(daemon);
    assert!(command.status().unwrap().success());
}

#[test]
fn whoever_calls_it_by_hand_is_told_what_to_call() {
    let said = |arguments: &[&str], descriptors: Vec<OwnedFd>| {
        let mut command = Command::new(mfs_init());
        sys::give(command.args(arguments), descriptors);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    // Neither do files do for a daemon, nor this process for a keeper.
    for (arguments, descriptors) in [
        (&[][..], vec![]),
        (&["keep"], vec![]),
        (&["keep"], vec![file(), file(), file()]),
        (&["keep"], vec![UnixStream::pair().unwrap().0.into()]),
        (&["first"], vec![file(), file(), file(), file()]),
        (&["other"], vec![file(), file(), file(), file()]),
    ] {
        let (status, sentence) = said(arguments, descriptors);
        assert_eq!(status, Some(2), "{arguments:?}");
        assert!(sentence.starts_with("mfs-init: ") && sentence.contains("mfs run"), "{sentence}");
    }
}
