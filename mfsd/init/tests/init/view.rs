//! What a job sees: its home's tree, and nothing of the machine it runs on.

use mfs_init::Ended;

use crate::job::Plan;

#[test]
fn nothing_of_the_machines_mounts_is_seen() {
    let said = Plan::command(&["cat", "/proc/mounts"]).said();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mounts: Vec<_> = said.lines().map(words).collect();
    let seen: Vec<_> = mounts.iter().map(|m| (m[1].as_str(), m[2].as_str())).collect();
    let expected = [
        ("/", "overlay"),
        ("/mfs", "tmpfs"),
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
    ];
    assert_eq!(seen, expected);
    for mount in &mounts {
        let options: Vec<_> = mount[3].split(',').collect();
        assert!(options.contains(&"nosuid"), "{mount:?}");
        assert!(options.contains(&"nodev") || mount[1].starts_with("/dev"), "{mount:?}");
        assert_eq!(options.contains(&"ro"), mount[1] == "/sys", "{mount:?}");
    }
}

#[test]
fn the_cluster_is_at_its_place() {
    assert_eq!(
        // Without what this machine has mounted below, which no other could restore.
        Plan::shell("cat /mfs/greeting; ls -d /mfs/below; ls /mfs/below").by_user().said(),
        "hello\n/mfs/below"
    );
}

#[test]
fn the_host_is_the_home() {
    assert_eq!(Plan::shell("hostname; uname -n").said(), "the-home\nthe-home");
}

#[test]
fn devices_are_what_they_are_everywhere() {
    let line = "stat -c '%A %n %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
                stat -c '%A %n' /dev/. /dev/shm; ls /dev; readlink /dev/fd /dev/ptmx /dev/stdout; \
                stat -c '%A' /dev/pts/ptmx; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c";
    // The mask of the daemon is of no importance.
    let said = Plan::shell(line).by_user().with(|plan| plan.prepare = "umask 077").said();
    let expected = "crw-rw-rw- /dev/null 1:3\ncrw-rw-rw- /dev/zero 1:5\ncrw-rw-rw- /dev/full 1:7\n\
                    crw-rw-rw- /dev/random 1:8\ncrw-rw-rw- /dev/urandom 1:9\ncrw-rw-rw- /dev/tty 5:0\n\
                    drwxr-xr-x /dev/.\ndrwxrwxrwt /dev/shm\n\
                    fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n\
                    /proc/self/fd\npts/ptmx\n/proc/self/fd/1\ncrw-rw-rw-\n3\n3";
    assert_eq!(said, expected);
}

#[test]
fn a_job_may_have_terminals_of_its_own() {
    let line = "import os; m, s = os.openpty(); print(os.ttyname(s))";
    assert_eq!(Plan::command(&["python3", "-c", line]).by_user().said(), "/dev/pts/0");
}

#[test]
fn temporary_files_may_stay_on_the_node() {
    let line = "stat -f -c %T /tmp; stat -c %A /tmp; ls -A /tmp | wc -l; echo x >/tmp/x";
    let plan = Plan::shell(line).by_user().with(|plan| plan.setup.local_tmp = true);
    assert_eq!(plan.said(), "tmpfs\ndrwxrwxrwt\n0");
}

#[test]
fn what_is_written_is_written_in_the_home_tree() {
    // The upper directory of the view's overlay is what a home's disk would be.
    let plan = Plan::shell("echo x >/usr/written; ls /usr/written");
    assert_eq!(plan.said(), "/usr/written");
}

#[test]
fn a_home_without_a_mount_point_is_told_which() {
    for (prepare, expected) in [
        ("rmdir view/mfs", "the job cannot mount on /mfs of its home: No such file"),
        (
            "rmdir view/mfs; echo >view/mfs",
            "the job cannot mount on /mfs of its home: it is no dir",
        ),
        (
            "rm -r view/mfs; ln -s /tmp view/mfs",
            "the job cannot mount on /mfs of its home: it is no dir",
        ),
        ("umount view; rmdir view", "the job cannot take "),
    ] {
        let plan = Plan::command(&["true"]).with(|plan| plan.prepare = prepare);
        let (sentence, status) = plan.run().ended.unwrap_err();
        assert_eq!(status, 126);
        assert!(sentence.starts_with(expected), "{sentence}");
    }
}

#[test]
fn queues_and_shared_memory_are_its_own() {
    let line = "ipcmk -S 1 >/dev/null && ipcs -s | grep -c '^0x'";
    assert_eq!(Plan::shell(line).by_user().said(), "1");
    assert_eq!(Plan::shell("ipcs -s | grep -c '^0x'; exit 0").said(), "0");
}

#[test]
fn the_kernels_own_files_are_not_written() {
    let outcome = Plan::shell("echo 1 >/sys/kernel/profiling").run();
    assert!(matches!(outcome.ended, Ok(Ended::Exited(1..))), "{outcome:?}");
    assert!(outcome.err.contains("Read-only"), "{outcome:?}");
}
