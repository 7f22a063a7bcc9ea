//! Who a job is, and that an ordinary user gains nothing.

use mfs_init::Ended;

use crate::job::{Plan, USER};

#[test]
fn ids_are_those_of_the_caller() {
    let ids = "id -u; id -g; id -G; grep -E '^(Uid|Gid)' /proc/self/status";
    let plan = Plan::shell(ids).by_user().with(|plan| {
        plan.setup.gid = 1001;
        plan.setup.groups = vec![1001, 7, 70_000];
    });
    let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
    let said = plan.said();
    assert!(said.starts_with("1000\n1001\n1001 7 70000\n"), "{said}");
    assert!(said.ends_with(&format!("Uid:\t{}\nGid:\t{}", four(USER), four(1001))), "{said}");
    assert_eq!(Plan::shell("id -u; id -G").said(), "0\n0");
}

#[test]
fn nobody_is_taken_for_root() {
    for change in [
        (|plan| plan.setup.uid = u32::MAX) as fn(&mut Plan),
        |plan| plan.setup.gid = u32::MAX,
        |plan| plan.setup.groups = vec![u32::MAX],
    ] {
        let (sentence, status) =
            Plan::command(&["id"]).by_user().with(change).run().ended.unwrap_err();
        assert_eq!(status, 126);
        assert!(sentence.contains("4294967295"), "{sentence}");
    }
}

#[test]
fn an_ordinary_user_has_no_capabilities() {
    let said = Plan::shell("grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status").by_user().said();
    assert_eq!(said.lines().count(), 4);
    assert!(said.lines().all(|line| line.ends_with("\t0000000000000000")), "{said}");
}

#[test]
fn the_first_process_may_no_more_than_its_user() {
    // It obeys when it has become the user.
    let line = "trap 'cat /proc/1/status; exit' USR1; echo on; while :; do sleep 0.1; done";
    let plan = Plan::shell(line).by_user().with(|plan| plan.setup.groups = vec![7]);
    let job = plan.running().until("on\n");
    job.signal(10);
    let status = job.outcome().out;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(of(set), "0000000000000000", "{set}");
    }
    assert_eq!(of("Uid:"), "1000\t1000\t1000\t1000");
    assert_eq!(of("Gid:"), "1000\t1000\t1000\t1000");
    assert_eq!(of("Groups:"), "7");
    // Nor may another program of the user look into it or change it.
    let attach = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, 1, None, None) == 0)";
    let outcome = Plan::command(&["python3", "-c", attach]).by_user().run();
    assert_eq!(outcome.ended, Ok(Ended::Exited(0)), "{outcome:?}");
}

#[test]
fn setuid_programs_give_nothing() {
    let plan = Plan::shell("/usr/bin/raise -u; /mfs/raise -u").by_user().with(|plan| {
        plan.prepare = "for raise in view/usr/bin/raise cluster/raise; do \
                        cp /usr/bin/id $raise; chmod 6755 $raise; done";
    });
    assert_eq!(plan.said(), "1000\n1000");
}

#[test]
fn an_ordinary_user_changes_no_mounts() {
    for line in [
        "mount -o remount,rw /sys",
        "mount -o remount,suid,dev /",
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "umount -l /mfs",
        "hostname other",
        "unshare --mount true",
        "mknod /dev/shm/disk b 8 0",
        "nice -n -5 true 2>&1 | grep -q . && exit 1",
        "ls /proc/1/root/",
        "ls /proc/1/fd",
        "echo >/proc/1/oom_score_adj",
        "cat /proc/1/environ",
        "cat /proc/1/maps",
    ] {
        let outcome = Plan::shell(line).by_user().run();
        assert!(matches!(outcome.ended, Ok(Ended::Exited(1..))), "{line}: {outcome:?}");
    }
}

#[test]
fn devices_in_the_home_tree_are_not_devices() {
    let plan =
        Plan::shell("cat /tmp/zero").with(|plan| plan.prepare = "mknod -m 666 view/tmp/zero c 1 5");
    let outcome = plan.run();
    assert!(outcome.err.contains("Permission denied"), "{outcome:?}");
}

#[test]
fn a_job_sees_its_own_processes_only() {
    let line = "echo $$; echo /proc/[0-9]* | tr ' ' '\\n' | grep -cx '/proc/[0-9]*'; ps -e -o pid= | tr -d ' ' | sort -n";
    let said = Plan::shell(line).by_user().said();
    let numbers: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers[0], 2, "{said}");
    assert!(numbers[1] <= 5 && numbers[2] == 1 && *numbers.last().unwrap() < 30, "{said}");
}

#[test]
fn the_first_process_shrugs_at_signals() {
    let line = "for s in HUP INT QUIT TERM USR1 CHLD TSTP KILL STOP; do kill -$s 1; done; test -d /proc/1 && echo there";
    assert_eq!(Plan::shell(line).said(), "there");
    // It is of its user, who may send it what they like.
    assert_eq!(Plan::shell(line).by_user().said(), "there");
}

#[test]
fn the_daemons_secrets_stay_with_it() {
    assert_eq!(Plan::shell("env | grep -c SECRET; exit 0").said(), "0");
    // What it possesses by its session's keyring, a job does not.
    let keys = Plan::shell("cat /proc/keys 2>/dev/null | grep -c ' _ses' || true").by_user().said();
    assert!(keys.parse::<u32>().unwrap() <= 1, "{keys}");
}

#[test]
fn a_job_is_not_spared_when_memory_runs_out() {
    let plan = Plan::command(&["cat", "/proc/self/oom_score_adj"]).by_user();
    // A daemon without CAP_SYS_RESOURCE is not spared either.
    let plan =
        plan.with(|plan| plan.prepare = "(echo -500 >/proc/$$/oom_score_adj) 2>/dev/null || true");
    let score: i32 = plan.said().parse().unwrap();
    assert!(score >= 0, "{score}");
}
