//! Standard streams, and what else a program is started with.

use mfs_init::{Ended, Limit};

use crate::job::Plan;

#[test]
fn standard_streams_are_the_daemons_pipes() {
    let plan = Plan::shell("cat; echo wrong >&2; exit 1").with(|plan| plan.input = "one\ntwo");
    let outcome = plan.run();
    assert_eq!(outcome.ended, Ok(Ended::Exited(1)));
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("one\ntwo", "wrong\n"));
}

#[test]
fn the_end_of_what_is_written_is_seen_while_the_program_runs() {
    let job = Plan::shell("echo all; exec >/dev/null 2>&1; sleep 1000").running();
    let job = job.until_closed();
    job.signal(15);
    assert_eq!(job.outcome().ended, Ok(Ended::Killed(15)));
}

#[test]
fn whoever_opens_their_own_streams_may() {
    let line = "echo out >/dev/stdout; cat /dev/stdin; echo err >/dev/stderr";
    let outcome = Plan::shell(line).by_user().with(|plan| plan.input = "in\n").run();
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\nin\n", "err\n"));
}

#[test]
fn nothing_else_is_open() {
    // ls itself has its directory open.
    assert_eq!(Plan::command(&["ls", "/proc/self/fd"]).said(), "0\n1\n2\n3");
    // The first process: its two pipes and what tells of children beside /dev/null of the inside, which is
    // the only thing that has a place in a tree. It obeys when it has let go of all else.
    let line = "list() { for fd in $(ls /proc/1/fd); do readlink /proc/1/fd/$fd; done | sed 's/:.*//' | sort; exit; }; \
                trap list USR1; echo on; while :; do sleep 0.1; done";
    let expected = "on\n/dev/null\n/dev/null\n/dev/null\nanon_inode\npipe\npipe\n";
    let job = Plan::shell(line).with(|plan| plan.prepare = "exec 8</etc/passwd").running();
    let job = job.until("on\n");
    job.signal(10);
    let outcome = job.outcome();
    assert_eq!(outcome.out, expected, "{outcome:?}");
}

#[test]
fn the_environment_is_exact() {
    let plan = Plan::command(&["env"]).with(|plan| {
        plan.setup.program.environment =
            [&b"PATH=/usr/bin:/bin"[..], b"LANG=", b"ODD=a=b c\n\xff", b"no-name"]
                .map(Vec::from)
                .into();
    });
    assert_eq!(plan.said(), "PATH=/usr/bin:/bin\nLANG=\nODD=a=b c\n\u{fffd}\nno-name");
}

#[test]
fn mask_directory_and_nice_value_are_those_of_home() {
    let plan = Plan::shell("umask; pwd; nice; pwd -P").with(|plan| {
        let program = &mut plan.setup.program;
        (program.umask, program.nice, program.directory) = (0o27, 7, b"/usr/share".to_vec());
    });
    assert_eq!(plan.said(), "0027\n/usr/share\n7\n/usr/share");
}

#[test]
fn a_directory_that_cannot_be_entered_is_named() {
    let fails = |directory: &str| {
        let plan = Plan::command(&["true"]).by_user();
        let plan = plan.with(|plan| {
            plan.prepare = "mkdir -m 700 view/closed";
            plan.setup.program.directory = directory.as_bytes().to_vec();
        });
        plan.run().ended.unwrap_err()
    };
    let (sentence, status) = fails("/no/such");
    assert_eq!(status, 126);
    assert!(
        sentence.starts_with("the working directory /no/such of the-home cannot be"),
        "{sentence}"
    );
    assert!(fails("/closed").0.contains("Permission denied"));
    assert_eq!(fails("/etc/passwd").1, 126);
    assert_eq!(fails("relative").0, "the working directory must be named from / on");
}

#[test]
fn limits_are_those_of_home_as_far_as_they_may() {
    let limited = |limit: Limit, line: &str| {
        Plan::shell(line).with(|plan| plan.setup.program.limits = vec![limit]).said()
    };
    let files = Limit { resource: 7, soft: 50, hard: 60 };
    assert_eq!(limited(files, "ulimit -Sn; ulimit -Hn"), "50\n60");
    let core = Limit { resource: 4, soft: 0, hard: 0 };
    assert_eq!(limited(core, "ulimit -Sc; ulimit -Hc"), "0\n0");
    // More than any kernel allows.
    let most = Limit { resource: 7, soft: u64::MAX, hard: u64::MAX };
    let said = limited(most, "test $(ulimit -Sn) = $(ulimit -Hn) && ulimit -Hn");
    assert!(said.parse::<u64>().unwrap() > 60, "{said}");
}

#[test]
fn signals_do_what_they_do_by_default() {
    let line = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | tr -d '0\\n\\t'";
    assert_eq!(
        Plan::command(&["bash", "-c", &format!("exec sh -c \"{line}\"")]).run().ended,
        Ok(Ended::Exited(0))
    );
    let said = Plan::command(&["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]).said();
    for line in said.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // grep itself catches SIGSEGV.
        assert!(mask == 0 || line.starts_with("SigCgt"), "{said}");
    }
}
